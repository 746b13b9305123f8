"""What is stored of what the app answers: statuses, fields, bodies; and what an answer from the store says of itself."""

# ruff: noqa: E501

from __future__ import annotations

from tests.conformance.rows import (
    ASKED,
    DATE,
    FAILED,
    FRESH,
    HOUR,
    OPEN,
    OPTIONAL,
    PAUSE,
    REQUIRED,
    REUSED,
    VALIDATED,
    Answer,
    Line,
    Row,
    Step,
    answer,
    asked,
    beyond,
    cc,
    first,
    pair,
    reused,
)

STATUS = "9111 §3"
FIELDS = "9111 §3.1"
_BY_THE_REQUEST = "what the request itself caused is never stored, whatever the fields say: one bad request would be everybody's answer"


def _fresh(code: int) -> Row:
    said = answer(*FRESH, status=code)
    otherwise = _BY_THE_REQUEST if code == 400 else ""
    says = f"A fresh {code} is {'not ' if otherwise else ''}reused."
    return pair(f"status-{code}", STATUS, OPTIONAL, says, Step(ASKED, said), Step(ASKED if otherwise else REUSED, said, after=PAUSE), otherwise)


def _stale(code: int) -> Row:
    said = answer(("Expires", -5000), ("Last-Modified", -100_000), DATE, status=code)
    return pair(f"status-{code}-stale", STATUS, REQUIRED, f"A stale {code} is not reused.", Step(ASKED, said), Step(ASKED))


CODES = (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599)
UNDERSTOOD = "9111 §5.2.2.3"
SECRETIVE: Line = cc("max-age=3600, no-store, must-understand")
STATUSES = (
    *[_fresh(code) for code in CODES],
    *[_stale(code) for code in CODES],
    pair("must-understand-599", UNDERSTOOD, REQUIRED, "With must-understand a status that is not understood is not stored.", first(SECRETIVE, status=599), Step(ASKED)),
    pair("must-understand-200", UNDERSTOOD, OPTIONAL, "... and no-store does not count for one that is.", first(SECRETIVE), Step(REUSED)),
    *beyond(
        pair("status-302-bare", STATUS, OPTIONAL, "Without a lifetime a 302 is not stored, whatever the rule.", first(status=302), Step(ASKED)),
        Row("status-404-rule", STATUS, OPTIONAL, "A rule's ttl is for answers that succeed: a 404 needs the app's own word.", (Step(ASKED, Answer(status=404)), Step(ASKED, Answer(status=404))), rule="ttl"),
        Row("status-200-rule", STATUS, OPTIONAL, "A rule's ttl counts where the app says nothing.", (first(), Step(REUSED, after=PAUSE)), rule="ttl"),
        Row("rule-no-store", "9111 §5.2.2.5", REQUIRED, "No rule outweighs no-store.", (first(cc("no-store")), Step(ASKED)), rule="ttl"),
        Row("rule-private", "9111 §5.2.2.7", REQUIRED, "No rule outweighs private.", (first(cc("private")), Step(ASKED)), rule="ttl"),
        Row("rule-vary", "9111 §4.1", REQUIRED, "No rule outweighs Vary: *.", (first(("Vary", "*")), Step(ASKED)), rule="ttl"),
        Row("rule-expires", "9111 §5.3", REQUIRED, "No rule outweighs an Expires in the past.", (first(("Expires", "0")), Step(ASKED)), rule="ttl"),
    ),
)

HOPS = {"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade"}
COOKIES = {"Set-Cookie", "Set-Cookie2"}
VALUES = {
    "Test-Header": "B",
    "X-Test-Header": "B",
    "Content-Foo": "B",
    "X-Content-Foo": "B",
    "Cache-Control": "max-age=3600",
    "Connection": "B",
    "Content-Encoding": "B",
    "Content-Length": "10",
    "Content-Location": "/bar",
    "Content-MD5": "N7UdGUp1E+RbVvZSTy1R8g==",
    "Content-Range": "B",
    "Content-Security-Policy": "default-src 'self' cdn.example.com",
    "Content-Type": "text/plain;charset=utf-8",
    "Clear-Site-Data": "cookies",
    "ETag": '"ghijkl"',
    "Expires": "Mon, 11 Jan 2038 11:11:11 GMT",
    "Keep-Alive": "B",
    "Proxy-Authenticate": "B",
    "Proxy-Authentication-Info": "B",
    "Proxy-Authorization": "B",
    "Proxy-Connection": "B",
    "Public-Key-Pins": "B",
    "Set-Cookie": "a=c",
    "Set-Cookie2": "a=c",
    "TE": "B",
    "Transfer-Encoding": "B",
    "Upgrade": "B",
    "X-Frame-Options": "sameorigin",
    "X-XSS-Protection": "1; mode=block",
}
_COOKIE = "a response that sets a cookie is not stored at all: it would hand one user's session to another"


def _field(name: str, value: str) -> Row:
    lines = ((name, value), DATE) if name == "Cache-Control" else ((name, value), *FRESH)
    fill = first(*lines, body=b"x" * 10 if name == "Content-Length" else None)
    key = f"field-{name.lower()}"
    if name in COOKIES:
        return pair(key, FIELDS, REQUIRED, f"A response with {name} is not stored.", fill, Step(ASKED), _COOKIE)
    if name in HOPS:
        return pair(key, FIELDS, REQUIRED, f"{name} is not stored.", fill, Step(REUSED, after=PAUSE, lacks=(name,)))
    return pair(key, FIELDS, REQUIRED, f"{name} is stored.", fill, Step(REUSED, after=PAUSE, has=((name, value),)))


STORED_FIELDS = (
    pair("field-nominated", FIELDS, REQUIRED, "Fields that Connection names are not stored.", first(("Connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3"), *FRESH), Step(REUSED, after=PAUSE, has=(("c", "3"),), lacks=("a", "b", "Connection"))),
    *[_field(name, value) for name, value in VALUES.items()],
    *beyond(
        pair("field-lines", FIELDS, REQUIRED, "Several lines stay several lines, in order.", first(*FRESH, ("Link", "<a>"), ("Link", "<b>")), Step(REUSED, lists=(("Link", "<a> | <b>"),))),
    ),
)

AGE = "9111 §5.1"
DISPOSITION: Line = ("Content-Disposition", "attachment; filename=example.txt")
FAR = 30 * 24 * 60 * 60
OTHERS = (
    Row("age", AGE, REQUIRED, "An answer from the store carries its Age.", (first(*FRESH), Step(REUSED, after=PAUSE, older=PAUSE))),
    Row("age-delay", AGE, OPEN, "No Age is made up for the time that the app takes.", (Step(ASKED, answer(*FRESH), lacks=("Age",)),), otherwise="the app runs in this process: its answer is made when it is given, and what takes long is worth caching"),
    Row("age-expires", AGE, REQUIRED, "Age goes on from what it came with, beside Expires.", (first(("Expires", FAR), DATE, ("Age", "30")), Step(REUSED, after=PAUSE, older=30 + PAUSE))),
    Row("age-max-age", AGE, REQUIRED, "... and beside max-age.", (first(*FRESH, ("Age", "30")), Step(REUSED, after=PAUSE, older=30 + PAUSE))),
    Row("date", "9110 §6.6.1", REQUIRED, "Date is left as it came.", (first(*FRESH), Step(REUSED, after=PAUSE, has=(DATE,)))),
    Row("date-expires", "9110 §6.6.1", REQUIRED, "... and beside Expires.", (first(("Expires", FAR), DATE), Step(REUSED, after=PAUSE, has=(DATE,)))),
    Row("expires-kept", "9111 §5.3", OPEN, "Expires is left as it came.", (first(("Expires", FAR), DATE), Step(REUSED, after=PAUSE, has=(("Expires", FAR),)))),
    reused("attachment-guess", "9111 §4.2.2", OPEN, "A lifetime is guessed for an attachment too.", ("Last-Modified", -100_000), DATE, DISPOSITION, after=0),
    reused("attachment", STATUS, OPEN, "An attachment is reused.", *FRESH, DISPOSITION),
    asked("sets-cookie", STATUS, OPTIONAL, "A response with Set-Cookie is not reused.", *FRESH, ("Set-Cookie", "a=b"), otherwise=_COOKIE),
    pair("cookie", "9111 §3.5", OPTIONAL, "A request with a cookie is not answered from the store.", first(*FRESH), Step(ASKED, sent=(("Cookie", "a=b"),), after=PAUSE), "a cookie is a credential until a rule says otherwise: a hit would skip the app's own checks"),
    *beyond(
        Row("cookie-ignored", "9111 §3.5", OPTIONAL, '... where the rule says cookies="ignore" it is.', (first(*FRESH), Step(REUSED, sent=(("Cookie", "a=b"),))), rule="cookies"),
        pair("cookie-public", "9111 §3.5", OPTIONAL, "... and where the app says public.", first(cc("max-age=3600, public")), Step(REUSED, sent=(("Cookie", "a=b"),))),
        Row("broken-off", "9111 §3.3", REQUIRED, "A body that breaks off is not stored.", (Step(FAILED, Answer(FRESH, body=b"half", breaks=True)), Step(ASKED))),
        Row("age-forwarded", AGE, REQUIRED, "An Age that the app sends passes.", (Step(ASKED, answer(*FRESH, ("Age", "30")), has=(("Age", "30"),)),)),
        Row("future-date", "9111 §4.2.3", REQUIRED, "A Date in the future makes nothing younger than it is.", (first(HOUR, ("Date", 7200)), Step(REUSED, after=3500), Step(ASKED, after=200))),
        Row("no-date", AGE, REQUIRED, "Without a Date the age counts from when it came.", (first(HOUR), Step(REUSED, after=3500, has=(("Age", "3500"),)), Step(ASKED, after=200))),
        Row("length-twice", "9112 §6.3", REQUIRED, "The same Content-Length twice is one.", (first(*FRESH, ("Content-Length", "6"), ("Content-Length", "6")), Step(REUSED))),
        Row("lengths-differ", "9112 §6.3", REQUIRED, "Of two different ones nothing is stored.", (first(*FRESH, ("Content-Length", "6"), ("Content-Length", "7")), Step(ASKED))),
        Row("get-with-content", "9110 §9.3.1", REQUIRED, "A GET with content passes the store by.", (first(*FRESH), Step(ASKED, answer(*FRESH), content=b"x"), Step(REUSED, body=b"body 1"))),
        Row("too-short", "9111 §3.3", REQUIRED, "A body that is shorter than Content-Length says is not stored.", (first(*FRESH, ("Content-Length", "99")), Step(ASKED))),
        Row("browser-age", AGE, OPTIONAL, "What browsers are told counts from when it is sent.", (first(), Step(REUSED, after=40, has=(cc("max-age=70"), ("Age", "40")))), rule="page"),
    ),
)

EARLY: tuple[tuple[str, str], ...] = (("link", "</styles.css>; rel=preload; as=style"),)
NO_INTERIM = "ASGI: WSGI has no interim responses"
HINTED = Answer(FRESH, early=EARLY)
INTERIM = (
    Row("interim-102", "9110 §15.2", OPTIONAL, "A 102 passes.", (), only="none: neither WSGI nor ASGI can send one"),
    Row("interim-103", "9110 §15.2", OPTIONAL, "A 103 passes, and the final response is stored.", (Step(ASKED, HINTED, early=EARLY), Step(REUSED, after=PAUSE)), only=NO_INTERIM),
    Row("interim-not-stored", STATUS, REQUIRED, "A 103 is not stored.", (Step(ASKED, HINTED, early=EARLY), Step(REUSED, HINTED, after=PAUSE)), only=NO_INTERIM),
    Row("interim-fields", STATUS, OPTIONAL, "The fields of a 103 are not those of the final response.", (Step(ASKED, HINTED, early=EARLY, lacks=("link",)), Step(REUSED, after=PAUSE, lacks=("link",))), only=NO_INTERIM),
)

ORIGIN: Line = ("Cache-Status", "Origin; hit; ttl=5")
MIDDLE: Line = ("Cache-Status", '"Middle"; fwd=miss')
SAYS = "9211 §2"


def _status(key: str, says: str, *steps: Step, rule: str = "all") -> Row:
    return Row(key, SAYS, REQUIRED, says, steps, rule=rule)


def _line(value: str) -> tuple[Line, ...]:
    return (("Cache-Status", value),)


CACHE_STATUS = beyond(
    _status("says-stored", "It says that it stores.", Step(ASKED, answer(*FRESH), lists=_line("tiercache; fwd=miss; stored"))),
    _status("says-refused", "It says why it does not.", Step(ASKED, answer(cc("no-store")), lists=_line("tiercache; fwd=miss; detail=no-store"))),
    _status("says-method", "It says that a method passes it by.", Step(ASKED, method="POST", lists=_line("tiercache; fwd=method"))),
    _status("says-bypass", "It says why it takes no part.", Step(ASKED, sent=(("If-Match", '"a"'),), lists=_line("tiercache; fwd=bypass; detail=condition"))),
    _status("says-range", "It says that the request asks for less than it could store.", Step(ASKED, sent=(("Range", "bytes=0-1"),), lists=_line("tiercache; fwd=request; detail=range"))),
    _status("says-stale", "It says that what is stored is stale.", first(cc("max-age=2"), ("ETag", '"a"')), Step(ASKED, answer(HOUR, ("ETag", '"b"')), after=PAUSE, lists=_line("tiercache; fwd=stale; stored"))),
    _status("says-validated", "It says what the app said to its condition.", first(cc("max-age=2"), ("ETag", '"a"')), Step(VALIDATED, answer(HOUR, status=304), after=PAUSE, lists=_line("tiercache; fwd=stale; fwd-status=304; stored; ttl=3600; detail=validated"))),
    _status("says-after-others", "What caches behind it said stays, in order, and its own member comes last.", Step(ASKED, answer(*FRESH, ORIGIN, MIDDLE), lists=_line('Origin; hit; ttl=5 | "Middle"; fwd=miss | tiercache; fwd=miss; stored'))),
    _status("says-after-others-unsafe", "... where it takes no part too.", Step(ASKED, answer(ORIGIN), method="POST", lists=_line("Origin; hit; ttl=5 | tiercache; fwd=method"))),
    Row("says-hit-behind-others", SAYS, REQUIRED, "On a hit stands what was said when it was stored, and then its own member.", (first(*FRESH, ORIGIN), Step(REUSED, starts=(("Cache-Status", "Origin; hit; ttl=5 | tiercache; hit; ttl=3600; detail=l"),)))),
)

ROWS = (*STATUSES, *STORED_FIELDS, *OTHERS, *INTERIM, *CACHE_STATUS)
