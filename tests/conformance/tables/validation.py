"""Conditions of clients, validation of what is stale, and what a 304 or a HEAD changes."""

# ruff: noqa: E501

from __future__ import annotations

from tests.conformance.rows import (
    AGAIN,
    ASKED,
    BRIEF,
    DATE,
    FAILED,
    FRESH,
    HOUR,
    INSTEAD,
    OPEN,
    OPTIONAL,
    PAUSE,
    REQUIRED,
    REUSED,
    VALIDATED,
    Answer,
    Kind,
    Line,
    Row,
    Step,
    answer,
    asked,
    beyond,
    cc,
    first,
    pair,
)

NONE_MATCH = "9110 §13.1.2"
SINCE = "9110 §13.1.3"
ETAGS = "9110 §8.8.3"
SENT = "9111 §4.3.1"
RECEIVED = "9111 §4.3.2"
SAME = Answer(status=304)
TAG = '"abcdef"'
NO_ETAG = "what is no entity tag (9110 §8.8.3) matches nothing; the whole goes out"


def _none_match(key: str, section: str, kind: Kind, says: str, etag: str, condition: str, *more: Line, otherwise: str = "") -> Row:
    status = 200 if otherwise else 304
    has: tuple[Line, ...] = (("ETag", etag),)
    step = Step(REUSED, sent=(("If-None-Match", condition), *more), after=PAUSE, status=status, has=has)
    return pair(key, section, kind, says, first(*FRESH, ("Last-Modified", -5000), ("ETag", etag)), step, otherwise)


ENTITY_TAGS = (
    _none_match("none-match", NONE_MATCH, OPTIONAL, "A matching If-None-Match gets a 304 from the store.", TAG, TAG),
    _none_match("none-match-etag", "9110 §15.4.5", REQUIRED, "That carries the ETag.", TAG, TAG),
    _none_match("none-match-first", "9110 §13.2.2", REQUIRED, "If-None-Match comes before If-Modified-Since.", TAG, TAG, ("If-Modified-Since", -9000)),
    _none_match("none-match-obs-text", ETAGS, OPEN, "Letters past ASCII may stand in a tag.", '"abcdef\xfc"', '"abcdef\xfc"'),
    _none_match("none-match-bare", ETAGS, OPEN, "A tag without quotation marks matches none with them.", TAG, "abcdef", otherwise=NO_ETAG),
    _none_match("none-match-bare-both", ETAGS, OPEN, "... nor one without either.", "abcdef", "abcdef", otherwise=NO_ETAG),
    _none_match("none-match-bare-stored", ETAGS, OPEN, "A tag matches none without quotation marks.", "abcdef", TAG, otherwise=NO_ETAG),
    _none_match("none-match-weak", NONE_MATCH, OPTIONAL, "Weak tags are compared weakly.", 'W/"abcdef"', 'W/"abcdef"'),
    _none_match("none-match-lower-w", ETAGS, OPEN, "A weak tag begins with an upper-case W.", 'w/"abcdef"', 'w/"abcdef"', otherwise=NO_ETAG),
    _none_match("none-match-backslash", ETAGS, OPEN, "A backslash is no slash.", 'W\\"abcdef"', 'W\\"abcdef"', otherwise=NO_ETAG),
    _none_match("none-match-no-slash", ETAGS, OPEN, "The slash may not lack.", 'W"abcdef"', 'W"abcdef"', otherwise=NO_ETAG),
    _none_match("none-match-list-first", NONE_MATCH, OPTIONAL, "In a list the first may match.", TAG, f'{TAG}, "1", "2"'),
    _none_match("none-match-list-middle", NONE_MATCH, OPTIONAL, "... or the middle one.", TAG, f'"1", {TAG}, "2"'),
    _none_match("none-match-list-last", NONE_MATCH, OPTIONAL, "... or the last.", TAG, f'"1", "2", {TAG}'),
    pair("validates-varying", SENT, REQUIRED, "A validating request carries the fields that Vary names.", Step(ASKED, answer(("Expires", 1), ("ETag", TAG), DATE, ("Vary", "Abc")), (("Abc", "123"),)), Step(VALIDATED, SAME, (("Abc", "123"),), after=PAUSE, seen=(("Abc", "123"), ("If-None-Match", TAG)))),
    pair("validates-another-variant", "9111 §4.1", OPEN, "The tag of another variant is not sent along.", Step(ASKED, answer(("Expires", 10_000), ("ETag", TAG), DATE, ("Vary", "Abc")), (("Abc", "123"),)), Step(ASKED, sent=(("Abc", "456"),), unseen=("If-None-Match",)), otherwise="a variant that is not known is fetched plainly: one request, no second look-up"),
    pair("validates-etag", SENT, OPTIONAL, "What is stale is validated by its ETag.", first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-None-Match", TAG),))),
    pair("validates-weak-etag", SENT, OPTIONAL, "... or its weak ETag.", first(*BRIEF, ("ETag", 'W/"abcdef"')), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-None-Match", 'W/"abcdef"'),))),
    pair("validates-bare-etag", SENT, OPEN, "One without quotation marks is sent as the app wrote it.", first(*BRIEF, ("ETag", "abcdef")), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-None-Match", "abcdef"),)), otherwise="the app is asked in its own spelling, whatever that is"),
    Row("condition-forwarded", "9111 §4.3.1", OPEN, "A condition that nothing stored can answer fills the store: the app gives the whole, and the condition is ours to answer.", (Step(ASKED, sent=(("If-None-Match", TAG),), unseen=("If-None-Match",)),), otherwise="the whole is worth storing, and the client's condition is answered from it; where no rule covers the URL it is forwarded as it came"),
    Row("condition-forwarded-bare", "9111 §4.3.1", OPEN, "Nor are quotation marks added to one.", (Step(ASKED, sent=(("If-None-Match", "abcdef"),), unseen=("If-None-Match",)),), otherwise="nothing of a client's request is rewritten"),
    *beyond(
        _none_match("none-match-any", NONE_MATCH, REQUIRED, "* matches whatever is stored.", TAG, "*"),
        _none_match("none-match-strength", NONE_MATCH, REQUIRED, "A weak tag matches a strong one.", TAG, 'W/"abcdef"'),
        pair("none-match-fails", NONE_MATCH, REQUIRED, "Where no tag matches the whole goes out, whatever If-Modified-Since says.", first(*FRESH, ("Last-Modified", -5000), ("ETag", TAG)), Step(REUSED, sent=(("If-None-Match", '"else"'), ("If-Modified-Since", 0)), status=200)),
        pair("match-forwarded", RECEIVED, REQUIRED, "If-Match is for the app to answer.", first(*FRESH, ("ETag", TAG)), Step(ASKED, sent=(("If-Match", TAG),), seen=(("If-Match", TAG),))),
        pair("unmodified-forwarded", RECEIVED, REQUIRED, "If-Unmodified-Since is for the app to answer.", first(*FRESH), Step(ASKED, sent=(("If-Unmodified-Since", 0),), seen=(("If-Unmodified-Since", 0),))),
        Row("condition-of-stale", "9111 §4.3.1", REQUIRED, "A client's own condition is not sent in place of ours; both are answered.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, SAME, (("If-None-Match", '"mine"'),), after=PAUSE, status=200, seen=(("If-None-Match", TAG),)))),
        Row("own-etag-unsent", SENT, REQUIRED, "The ETag that the store has made up is never shown to the app.", (first(*BRIEF), Step(ASKED, after=PAUSE, unseen=("If-None-Match", "If-Modified-Since")))),
        Row("own-etag", NONE_MATCH, OPTIONAL, "A response without an ETag gets one, and can be asked for by it.", (first(*FRESH), Step(REUSED, sent=(("If-None-Match", "*"),), status=304))),
        Row("not-modified-fields", "9110 §15.4.5", REQUIRED, "A 304 carries Cache-Control, Date, ETag, Expires, Vary and Content-Location, and nothing of the content.", (first(*FRESH, ("Expires", 3600), ("ETag", TAG), ("Vary", "Foo"), ("Content-Location", "/here"), ("Content-Type", "text/plain"), ("Last-Modified", -9000)), Step(REUSED, sent=(("If-None-Match", TAG),), status=304, has=(HOUR, DATE, ("Expires", 3600), ("ETag", TAG), ("Vary", "Foo"), ("Content-Location", "/here")), lacks=("Content-Type", "Content-Length", "Last-Modified")))),
        Row("redirect-unconditional", "9110 §13.2.1", REQUIRED, "A condition turns no 404 into a 304.", (first(*FRESH, ("ETag", TAG), status=404), Step(REUSED, sent=(("If-None-Match", TAG),), status=404))),
        Row("not-modified-passed", "9111 §4.3.3", REQUIRED, "A 304 that the app gives a client is passed on, and never stored as a 200.", (Step(ASKED, Answer(FRESH, 304), (("If-None-Match", TAG),), status=304), Step(ASKED)), rule="plain"),
        Row("validated-replaced", "9111 §4.3.3", REQUIRED, "A 200 in place of a 304 replaces what is stored.", (first(*BRIEF, ("ETag", TAG)), Step(ASKED, answer(HOUR, ("ETag", '"new"')), after=PAUSE), Step(REUSED, has=(("ETag", '"new"'),)))),
        asked("validated-no-more", "9111 §4.3.3", REQUIRED, "What the app does not confirm is not used.", *BRIEF, ("ETag", TAG)),
    ),
)


def _since(key: str, says: str, stored: tuple[Line, ...], since: str | int, step: Step) -> Row:
    sent: tuple[Line, ...] = (("If-Modified-Since", since),)
    tail = Step(step.outcome, step.app, sent, after=PAUSE, status=304)
    return pair(key, SINCE, OPTIONAL, says, first(*stored), tail)


MODIFIED: Line = ("Last-Modified", -3000)
DATES = (
    _since("since", "If-Modified-Since with the Last-Modified gets a 304.", (*FRESH, MODIFIED), -3000, Step(REUSED)),
    _since("since-later", "... with a later date too.", (*FRESH, MODIFIED), -2000, Step(REUSED)),
    _since("since-validated", "... from what is stale once that is validated.", (*BRIEF, MODIFIED, DATE), -3000, Step(VALIDATED, SAME)),
    pair("since-no-modified", RECEIVED, OPTIONAL, "Without a Last-Modified an If-Modified-Since before the Date gets the whole.", first(*FRESH), Step(REUSED, sent=(("If-Modified-Since", -3000),), after=PAUSE, status=200), "§4.3.2 has the Date stand in for it, and that is later than what the client has"),
    _since("since-rfc850", "The date may be of the format of RFC 850.", (*FRESH, ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")), "Sunday, 06-Nov-94 08:49:37 GMT", Step(REUSED)),
    *beyond(
        pair("since-date", RECEIVED, OPTIONAL, "... and one that is not before it a 304.", first(*FRESH), Step(REUSED, sent=(("If-Modified-Since", 0),), after=PAUSE, status=304)),
        pair("validators-two", SENT, REQUIRED, "Of two different ETags none is sent as a condition.", first(*BRIEF, ("ETag", '"a"'), ("ETag", '"b"')), Step(ASKED, after=PAUSE, unseen=("If-None-Match",))),
        pair("validators-invalid", SENT, REQUIRED, "A Last-Modified that is no date is not sent as a condition.", first(*BRIEF, ("Last-Modified", "yesterday")), Step(ASKED, after=PAUSE, unseen=("If-Modified-Since",))),
        pair("since-earlier", SINCE, REQUIRED, "With an earlier date the whole goes out.", first(*FRESH, MODIFIED), Step(REUSED, sent=(("If-Modified-Since", -4000),), status=200)),
        pair("since-invalid", SINCE, REQUIRED, "An invalid date is ignored.", first(*FRESH, MODIFIED), Step(REUSED, sent=(("If-Modified-Since", "yesterday"),), status=200)),
        pair("validates-modified", SENT, OPTIONAL, "What is stale is validated by its Last-Modified.", first(*BRIEF, MODIFIED), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-Modified-Since", -3000),))),
        pair("validates-both", SENT, REQUIRED, "... and by both validators where it has both.", first(*BRIEF, MODIFIED, ("ETag", TAG)), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-None-Match", TAG), ("If-Modified-Since", -3000)))),
    ),
)

UPDATE = "9111 §4.3.4"
OLD = "Wed, 01 Jan 2020 00:00:00 GMT"


def _update(name: str, before: str, behind: str, kind: Kind, *, kept: bool = False, otherwise: str = "") -> Row:
    """A 304 brings another value of a field; the store has it from then on."""
    stays = kept or bool(otherwise)
    after = before if stays else behind
    more = () if name == "Cache-Control" else BRIEF
    etag: tuple[Line, ...] = () if name == "ETag" else (("ETag", '"1"'),)
    body = b"x" * int(before) if name == "Content-Length" else None
    fill = answer(DATE, (name, before), *more, *etag, body=body)
    update = answer(DATE, (name, behind), *more, *etag, status=304)
    says = f"{name} is {'not ' if stays else ''}updated by a 304."
    steps = (Step(ASKED, fill), Step(VALIDATED, update, after=PAUSE, has=((name, after),)), Step(REUSED, has=((name, after),)))
    return Row(f"update-{name.lower()}", UPDATE, kind, says, steps, otherwise=otherwise)


_DESCRIBES = "the body stays, and so does what tells how to read it (§3.2 lets a cache protect that): frameworks put defaults on an answer without content"
_COOKIE = "Set-Cookie is meant for one user: it is never stored"
UPDATES = (
    Row("update-keeps", UPDATE, REQUIRED, "A stored field that the 304 lacks stays.", (first(*BRIEF, ("Last-Modified", OLD), DATE, ("Test-Header", "A")), Step(VALIDATED, answer(("Last-Modified", OLD), DATE, status=304), after=PAUSE, has=(("Test-Header", "A"),)))),
    *[_update(name, "A", "B", REQUIRED) for name in ("Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo")],
    _update("Cache-Control", "max-age=1", "max-age=3600", REQUIRED),
    _update("Content-Length", "5", "10", REQUIRED, kept=True),
    _update("Content-Encoding", "A", "B", OPEN, otherwise=_DESCRIBES),
    _update("Content-Location", "/foo", "/bar", OPEN),
    _update("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g==", OPEN),
    _update("Content-Range", "A", "B", OPEN, otherwise="it describes the message, and §3.2 has it removed"),
    _update("Content-Security-Policy", "default-src 'self'", "default-src 'self' cdn.example.com", OPEN),
    _update("Content-Type", "text/plain", "text/plain;charset=utf-8", OPEN, otherwise=_DESCRIBES),
    _update("Clear-Site-Data", "cache", "cookies", OPEN),
    Row("update-etag", UPDATE, OPEN, "A 304 with another strong ETag confirms nothing: the app is asked again, without a condition.", (first(*BRIEF, ("ETag", TAG)), Step(AGAIN, Answer((HOUR, ("ETag", '"new"')), 304, plainly=answer(HOUR, ("ETag", '"new"'))), after=PAUSE, has=(("ETag", '"new"'),)), Step(REUSED, has=(("ETag", '"new"'),))), otherwise="a strong validator that differs selects nothing to update (§4.3.4)"),
    _update("Expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT", OPEN),
    _update("Public-Key-Pins", "A", "B", OPEN),
    Row("update-set-cookie", UPDATE, OPEN, "Set-Cookie on a 304 is not stored.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(HOUR, ("ETag", TAG), ("Set-Cookie", "a=c"), status=304), after=PAUSE), Step(REUSED, lacks=("Set-Cookie",))), otherwise=_COOKIE),
    Row("update-set-cookie2", UPDATE, OPEN, "Set-Cookie2 on a 304 is not stored.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(HOUR, ("ETag", TAG), ("Set-Cookie2", "a=c"), status=304), after=PAUSE), Step(REUSED, lacks=("Set-Cookie2",))), otherwise=_COOKIE),
    _update("X-Frame-Options", "deny", "sameorigin", OPEN),
    _update("X-XSS-Protection", "1", "1; mode=block", OPEN),
    *beyond(
        Row("update-date", UPDATE, REQUIRED, "The Date of the 304 makes it young again.", (first(*BRIEF, DATE, ("ETag", TAG)), Step(VALIDATED, answer(HOUR, DATE, ("ETag", TAG), status=304), after=PAUSE, has=(("Date", PAUSE), ("Age", "0"))), Step(REUSED, after=5, has=(("Age", "5"),)))),
        Row("update-no-date", UPDATE, REQUIRED, "A 304 without a Date was made when it came: the old Date makes nothing old.", (first(cc("max-age=10"), DATE, ("ETag", TAG)), Step(VALIDATED, SAME, after=11, has=(("Age", "0"),)), Step(REUSED, after=5, has=(("Age", "5"),)))),
        Row("update-aged", UPDATE, REQUIRED, "The Age of the 304 counts.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(cc("max-age=60"), DATE, ("ETag", TAG), ("Age", "30"), status=304), after=PAUSE, has=(("Age", "30"),)), Step(REUSED, after=20, has=(("Age", "50"),)), Step(VALIDATED, SAME, after=20))),
        Row("update-shorter", UPDATE, REQUIRED, "What the 304 says of the lifetime counts from then on.", (first(cc("max-age=10"), ("ETag", TAG)), Step(VALIDATED, answer(cc("max-age=5"), ("ETag", TAG), status=304), after=11), Step(REUSED, after=4), Step(VALIDATED, SAME, after=2))),
        Row("update-no-store", UPDATE, REQUIRED, "After a 304 with no-store it answers nobody else.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(cc("no-store"), ("ETag", TAG), status=304), after=PAUSE), Step(ASKED))),
        Row("update-private", UPDATE, REQUIRED, "... or with private.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(cc("private, max-age=60"), ("ETag", TAG), status=304), after=PAUSE), Step(ASKED))),
        Row("update-no-store-error", UPDATE, REQUIRED, "... and stands in for no error.", (first(*BRIEF, ("ETag", TAG)), Step(VALIDATED, answer(cc("no-store"), ("ETag", TAG), status=304), after=PAUSE), Step(FAILED, Answer(fails=True)))),
        Row("update-no-store-variant", UPDATE, REQUIRED, "... which leaves other variants alone.", (Step(ASKED, answer(HOUR, ("ETag", '"1"'), ("Vary", "Foo")), (("Foo", "1"),)), Step(ASKED, answer(*BRIEF, ("ETag", '"2"'), ("Vary", "Foo")), (("Foo", "2"),)), Step(VALIDATED, answer(cc("no-store"), ("ETag", '"2"'), status=304), (("Foo", "2"),), after=PAUSE), Step(REUSED, sent=(("Foo", "1"),), body=b"body 1"), Step(FAILED, Answer(fails=True), (("Foo", "2"),)))),
        Row("update-vary", "9111 §4.1", REQUIRED, "What a 304 adds to Vary counts from then on.", (Step(ASKED, answer(*BRIEF, ("ETag", TAG)), (("Foo", "1"),)), Step(VALIDATED, answer(HOUR, ("ETag", TAG), ("Vary", "Foo"), status=304), (("Foo", "1"),), after=PAUSE), Step(REUSED, sent=(("Foo", "1"),), body=b"body 1"), Step(ASKED, sent=(("Foo", "2"),)))),
        Row("update-error", "9111 §4.3.3", OPTIONAL, "A 5xx in place of a 304 leaves it as it is.", (first(*BRIEF, ("ETag", TAG)), Step(INSTEAD, Answer(status=500), after=PAUSE), Step(VALIDATED, answer(HOUR, status=304)), Step(REUSED))),
    ),
)

HEADS = "9111 §4.3.5"
TEMPLATE: tuple[Line, ...] = (*BRIEF, ("Template-A", "1"))


def _head(*fields: Line, status: int = 200) -> Step:
    return Step(ASKED, Answer(fields, status, b"body 1"), method="HEAD", after=PAUSE)


LATER: Line = cc("max-age=1000")
UNPROVEN = "§4.3.5 would have it updated; but without a validator nothing says that the page is still the same, and most pages without one are made anew for each request"
HEAD_ROWS = (
    Row("head-forwarded", HEADS, OPEN, "HEAD reaches the app where what is stored is stale.", (first(*TEMPLATE), _head())),
    Row("head-retains", HEADS, OPEN, "Its answer is the app's own, without fields of what is stored.", (first(*TEMPLATE), Step(ASKED, method="HEAD", after=PAUSE, lacks=("Template-A",))), otherwise="what the app says to HEAD goes out as it is"),
    Row("head-freshens", HEADS, OPEN, "A 200 to HEAD without a validator freshens nothing.", (first(*TEMPLATE), _head(LATER), Step(ASKED)), otherwise=UNPROVEN),
    Row("head-updates", HEADS, OPEN, "... and updates nothing.", (first(*TEMPLATE), _head(LATER, ("Template-A", "2")), Step(ASKED)), otherwise=UNPROVEN),
    Row("head-410", HEADS, OPEN, "Any other answer to HEAD updates nothing.", (first(*TEMPLATE), _head(LATER, ("Template-A", "2"), status=410), Step(ASKED)), otherwise="§4.3.5 speaks of 200 alone"),
    *beyond(
        Row("head-freshens-etag", HEADS, OPTIONAL, "A 200 to HEAD with the same ETag freshens what is stored.", (first(*TEMPLATE, ("ETag", TAG)), _head(LATER, ("ETag", TAG), ("Template-A", "2")), Step(REUSED, body=b"body 1", has=(("Template-A", "2"), ("ETag", TAG))))),
        Row("head-invalidates-etag", HEADS, REQUIRED, "One with another ETag makes it stale for good.", (first(*TEMPLATE, ("ETag", TAG)), _head(LATER, ("ETag", '"new"')), Step(ASKED, answer(*FRESH)))),
        Row("head-invalidates-length", HEADS, REQUIRED, "One with another length too.", (first(*TEMPLATE), _head(LATER, ("Content-Length", "99")), Step(ASKED, answer(*FRESH)))),
        Row("head-stale-while-fresh", HEADS, REQUIRED, "... even while it would still be fresh.", (first(*FRESH, ("ETag", TAG)), Step(ASKED, answer(HOUR, ("ETag", '"new"')), (("Cache-Control", "no-cache"),), method="HEAD", body=b""), Step(ASKED, answer(HOUR, ("ETag", '"new"')), seen=(("If-None-Match", TAG),)), Step(REUSED))),
        Row("head-condition", NONE_MATCH, OPTIONAL, "A condition of a HEAD is answered from the store.", (first(*FRESH, ("ETag", TAG)), Step(REUSED, method="HEAD", sent=(("If-None-Match", TAG),), status=304))),
        Row("head-range", "9110 §14.2", REQUIRED, "A Range means nothing for HEAD.", (first(*FRESH), Step(REUSED, method="HEAD", sent=(("Range", "bytes=0-1"),), status=200, has=(("Content-Length", "6"),)))),
        Row("head-from-get", "9110 §9.3.2", OPTIONAL, "HEAD is answered from a stored GET.", (first(*FRESH, ("A", "1")), Step(REUSED, method="HEAD", has=(("A", "1"), ("Content-Length", "6"))))),
        Row("head-never-fills", "9111 §3", REQUIRED, "The answer to HEAD answers no GET.", (Step(ASKED, answer(*FRESH), method="HEAD"), Step(ASKED))),
    ),
)

ROWS = (*ENTITY_TAGS, *DATES, *UPDATES, *HEAD_ROWS)
