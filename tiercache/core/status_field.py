"""`Cache-Status` (RFC 9211): what the cache did with a request, for whoever reads the response."""

from __future__ import annotations

NAME = b"cache-status"


def hit_value(ttl: float, detail: str) -> bytes:
    """Answered from the store. `ttl` is the remaining freshness in seconds, negative when stale (§2.5)."""
    return b"tiercache; hit; ttl=%d; detail=%b" % (ttl, detail.encode("ascii"))


def collapsed_value(ttl: float) -> bytes:
    """Answered by the response to a request of somebody else that was forwarded (§2.7)."""
    return b"tiercache; fwd=miss; collapsed; ttl=%d" % ttl


def substituted_value(ttl: float, detail: str, status: str, *, stored: bool, forward: str = "stale") -> bytes:
    """The app was asked, and the answer is a stored one all the same (§2.3): validated, in place of an error, or made
    behind the request."""
    parts = ["tiercache", f"fwd={forward}"]
    if status:
        parts.append(f"fwd-status={status}")
    if stored:
        parts.append("stored")
    parts.append(f"ttl={int(ttl)}")
    if detail:
        parts.append(f"detail={detail}")
    return "; ".join(parts).encode("ascii")


def forwarded_value(forward: str, detail: str, *, stored: bool) -> bytes:
    """Sent to the app: why (§2.2), whether the response is stored (§2.6), and the reason where it is not."""
    parts = ["tiercache", f"fwd={forward}"]
    if stored:
        parts.append("stored")
    if detail:
        parts.append(f"detail={detail}")
    return "; ".join(parts).encode("ascii")
