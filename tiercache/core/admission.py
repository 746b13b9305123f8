"""Which requests the store may take part in at all, decided from the request and its rule alone.

The surprising part is intended: a request with a credential is neither answered from the store nor stored unless the
rule or the app says otherwise, since a hit skips the app and with it the app's own checks.
"""

from __future__ import annotations

from collections.abc import Callable

from tiercache.core.credentials import IDENTITY, Credentials
from tiercache.core.keys import picked_cookies
from tiercache.core.messages import Fields, Request
from tiercache.core.origins import ORIGIN
from tiercache.core.policy import Policy
from tiercache.core.session_mark import FIELD as MARK

CONDITIONS = (b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since")
DEFAULT_PORTS = {"http": b"80", "https": b"443"}


# All of these compare octet by octet. One framework takes `HTTPS` for https and another one does not, one takes the
# first of a list and another the last: whatever is spelt otherwise may mean something else to the app.


def _same_host(value: bytes, request: Request) -> bool:
    return value == request.host()


def _same_scheme(value: bytes, request: Request) -> bool:
    return value.decode("latin-1") == request.scheme()


def _same_protocol(value: bytes, request: Request) -> bool:
    return value == (b"ssl" if request.scheme() == "https" else b"http") or _same_scheme(value, request)


def _same_tls(value: bytes, request: Request) -> bool:
    return value == (b"on" if request.scheme() == "https" else b"off")


def _same_port(value: bytes, request: Request) -> bool:
    _, colon, port = request.host().rpartition(b":")
    if not colon or not port.isdigit():
        port = DEFAULT_PORTS.get(request.scheme(), b"")
    return value == port


def _same_target(value: bytes, request: Request) -> bool:
    # Encoded: the decoded path `/a?b` of a request for `/a%3Fb` would be taken for a path with a query.
    target = request.target()
    return value in (target, target + b"?" + request.query())


def _same_method(value: bytes, request: Request) -> bool:
    return value == request.method.encode("latin-1", "replace")


def _same_forwarded(value: bytes, request: Request) -> bool:
    """RFC 7239 §4: `for` and `by` say who, and do no harm; `host` and `proto` say where, and do."""
    for element in value.split(b","):
        for pair in element.split(b";"):
            name, _, content = pair.partition(b"=")
            name, content = name.strip().lower(), content.strip()
            if len(content) > 1 and content.startswith(b'"') and content.endswith(b'"'):
                content = content[1:-1]
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
    b"x-original-host": _same_host,
    b"x-backend-host": _same_host,
    b"x-http-host-override": _same_host,
    b"x-forwarded-scheme": _same_scheme,
    b"x-forwarded-protocol": _same_protocol,
    b"x-scheme": _same_scheme,
    b"x-url-scheme": _same_scheme,
    b"cloudfront-forwarded-proto": _same_scheme,
    b"x-forwarded-ssl": _same_tls,
    b"front-end-https": _same_tls,
    b"x-forwarded-method": _same_method,
    b"x-original-method": _same_method,
    b"x-original-uri": _same_target,
    b"x-forwarded-uri": _same_target,
    b"x-forwarded-path": _same_target,
    b"x-envoy-original-path": _same_target,
    b"x-replaced-path": _same_target,
    b"x-forwarded-prefix": _never,
    b"x-forwarded-context": _never,
    b"x-ingress-path": _never,
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
            {b"cookie", b"range", b"if-range", b"upgrade", b"content-length", b"transfer-encoding", ORIGIN, MARK}
            | set(CONDITIONS)
            | set(FORWARDING)
            | set(trusted)
            | credentials.headers
        )
        """A request without any of these fields, and without repeated ones, needs no closer look."""

    def ambiguous(self, request: Request, policy: Policy, vary: tuple[bytes, ...]) -> bool:
        """Whether a field of the request may count for the app as another one, that we look at under its own name."""
        meant = request.mistakable()
        return bool(meant) and not (
            self.watched.isdisjoint(meant) and policy.header_names.isdisjoint(meant) and meant.isdisjoint(vary)
        )


def origins(request: Request, rules: RequestRules) -> dict[tuple[str, bytes], None]:
    """Scheme and host by which a URL is known: as the server has them, and as a trusted proxy has them."""
    scheme, host = request.scheme(), request.host()
    known = {(scheme, host): None}
    if b"x-forwarded-proto" in rules.trusted and (value := request.field(b"x-forwarded-proto")):
        scheme = value.split(b",")[0].strip().decode("latin-1")
    if b"x-forwarded-host" in rules.trusted and (value := request.field(b"x-forwarded-host")):
        host = value.split(b",")[0].strip()
    known[scheme, host] = None
    return known


def scrubbed(request: Request, policy: Policy, rules: RequestRules, vary: tuple[bytes, ...]) -> Fields | None:
    """The fields of a request that the cache makes of its own to refresh what `request` was answered with.

    What is part of the key or of the choice among variants, and nothing else: no credential, no condition. None where
    a credential is part of that choice: then only a client's own request can refresh it.
    """
    personal = rules.credentials.headers - policy.header_names
    if any((name == b"cookie" or name in personal) and request.field(name) is not None for name in vary):
        return None
    # `Origin` always: it may choose the answer where no `Vary` says so, and names a site, not a user.
    names = dict.fromkeys((b"host", ORIGIN, *policy.header_list, *vary, *rules.trusted, *FORWARDING))
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
    if IDENTITY in special:
        request.credential = "credential"
    elif credential is not None:
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
