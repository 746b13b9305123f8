"""Which requests the store may take part in at all, decided from the request and its rule alone.

The surprising part is intended: a request with a credential is neither answered from the store nor stored unless the
rule or the app says otherwise, since a hit skips the app and with it the app's own checks.
"""

from __future__ import annotations

from collections.abc import Callable

from tiercache.core.credentials import Credentials
from tiercache.core.keys import picked_cookies
from tiercache.core.messages import Fields, Request
from tiercache.core.policy import Policy

CONDITIONS = (b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since")
DEFAULT_PORTS = {"http": b"80", "https": b"443"}


def _members(value: bytes) -> list[bytes]:
    return [member.strip().strip(b'"').lower() for member in value.split(b",")]


def _same_host(value: bytes, request: Request) -> bool:
    host = request.host().lower()
    return all(member == host for member in _members(value))


def _same_scheme(value: bytes, request: Request) -> bool:
    scheme = request.scheme().encode("latin-1").lower()
    return all(member == scheme for member in _members(value))


def _same_tls(value: bytes, request: Request) -> bool:
    return all((member in (b"on", b"1", b"https")) == (request.scheme() == "https") for member in _members(value))


def _same_port(value: bytes, request: Request) -> bool:
    _, colon, port = request.host().rpartition(b":")
    if not colon or not port.isdigit():
        port = DEFAULT_PORTS.get(request.scheme(), b"")
    return all(member == port for member in _members(value))


def _same_target(value: bytes, request: Request) -> bool:
    target = request.path.encode("latin-1", "replace")
    return value in (target, target + b"?" + request.query())


def _same_method(value: bytes, request: Request) -> bool:
    return value.strip().upper() == request.method.encode("latin-1")


def _same_forwarded(value: bytes, request: Request) -> bool:
    """RFC 7239 §4: `for` and `by` say who, and do no harm; `host` and `proto` say where, and do."""
    for element in value.split(b","):
        for pair in element.split(b";"):
            name, _, content = pair.partition(b"=")
            name, content = name.strip().lower(), content.strip().strip(b'"')
            if name == b"host" and not _same_host(content, request):
                return False
            if name == b"proto" and not _same_scheme(content, request):
                return False
    return True


def _never(value: bytes, request: Request) -> bool:
    return False


FORWARDING: dict[bytes, Callable[[bytes, Request], bool]] = {
    b"x-forwarded-host": _same_host,
    b"x-forwarded-proto": _same_scheme,
    b"x-forwarded-port": _same_port,
    b"forwarded": _same_forwarded,
    b"x-original-url": _same_target,
    b"x-rewrite-url": _same_target,
    b"x-http-method-override": _same_method,
    b"x-http-method": _same_method,
    b"x-method-override": _same_method,
    b"x-host": _same_host,
    b"x-forwarded-scheme": _same_scheme,
    b"x-url-scheme": _same_scheme,
    b"x-forwarded-ssl": _same_tls,
    b"front-end-https": _same_tls,
    b"x-forwarded-prefix": _never,
    b"x-script-name": _never,
}
"""Fields by which a client may make an app answer as if asked elsewhere or otherwise, and when each is harmless."""


class RequestRules:
    """What is watched for in request heads, compiled once from the settings."""

    __slots__ = ("credentials", "trusted", "watched")

    def __init__(self, credentials: Credentials, trusted: tuple[bytes, ...]) -> None:
        self.credentials = credentials
        self.trusted = trusted
        self.watched = frozenset(
            {b"cookie", b"range", b"if-range", b"upgrade", b"content-length", b"transfer-encoding"}
            | set(CONDITIONS)
            | set(FORWARDING)
            | set(trusted)
            | credentials.headers
        )
        """A request without any of these fields, and without repeated ones, needs no closer look."""


def scrubbed(request: Request, policy: Policy, rules: RequestRules, vary: tuple[bytes, ...]) -> Fields | None:
    """The fields of a request that the cache makes of its own to refresh what `request` was answered with.

    What is part of the key or of the choice among variants, and nothing else: no credential, no condition. None where
    a credential is part of that choice: then only a client's own request can refresh it.
    """
    personal = rules.credentials.headers - policy.header_names
    if any((name == b"cookie" or name in personal) and request.field(name) is not None for name in vary):
        return None
    names = dict.fromkeys((b"host", *policy.header_list, *vary, *rules.trusted, *FORWARDING))
    fields = [(name, value) for name in names if (value := request.field(name)) is not None]
    if policy.cookie_names:
        values = picked_cookies(request.field(b"cookie") or b"", policy.cookie_names)
        pairs = [n + b"=" + v for n, v in zip(policy.cookie_names, values, strict=True) if v is not None]
        if pairs:
            fields.append((b"cookie", b"; ".join(pairs)))
    return tuple(fields)


def examine(request: Request, policy: Policy, rules: RequestRules) -> None:
    """The closer look at a request with watched fields: sets `bypass`, `credential`, `conditional` and `trusted`."""
    special = request.special
    # 1. Two Host lines, or a change of protocol: not for a cache to interpret (RFC 9110 §7.2, §7.8).
    if b"host" in special:
        request.bypass = "host"
        return
    if b"upgrade" in special:
        request.bypass = "upgrade"
        return
    # 2. RFC 9110 §9.3.1: content in a GET has no defined meaning, yet an app may answer by it.
    if request.has_body():
        request.bypass = "body"
        return
    # 3. Fields that may change where the app believes it was asked.
    for name in special:
        harmless = FORWARDING.get(name)
        if harmless is not None and name not in rules.trusted and not harmless(request.field(name) or b"", request):
            request.bypass = "forwarded"
            return
    if rules.trusted:
        values = request.values(rules.trusted)
        request.trusted = values if any(value is not None for value in values) else ()
    # 4. Credentials.
    credential = rules.credentials.credential_header(special, policy.header_names)
    if credential is not None:
        request.credential = "authorization" if credential == b"authorization" else "credential"
    elif (
        b"cookie" in special
        and policy.cookies != "ignore"
        and rules.credentials.credential_cookie(request.field(b"cookie") or b"", policy.cookie_names)
    ):
        request.credential = "cookie"
    # 5. RFC 9110 §13, §14: what asks for less than the whole response. RFC 9111 §4.3.2: two of the conditions are for
    # the origin alone.
    if b"if-match" in special or b"if-unmodified-since" in special:
        request.bypass = "condition"
    elif b"range" in special:
        request.conditional = "range"
    elif b"if-none-match" in special or b"if-modified-since" in special:
        request.conditional = "condition"
