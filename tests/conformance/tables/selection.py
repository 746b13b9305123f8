"""Which stored response answers a request: the URL, `Vary`, ranges; and what unsafe requests invalidate."""

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
    Kind,
    Line,
    Outcome,
    Row,
    Step,
    answer,
    beyond,
    cc,
    first,
    pair,
)

VARY = "9111 §4.1"


def _vary(
    key: str, kind: Kind, says: str, vary: tuple[str, ...], stored: tuple[Line, ...], sent: tuple[Line, ...], outcome: Outcome,
    section: str = VARY, otherwise: str = "", *more: Line,
) -> Row:
    lines: tuple[Line, ...] = tuple(("Vary", value) for value in vary)
    return pair(key, section, kind, says, Step(ASKED, answer(*FRESH, ("Last-Modified", -3000), *lines, *more), stored), Step(outcome, sent=sent), otherwise)


FOO1: Line = ("Foo", "1")
FOO2: Line = ("Foo", "2")
BAR: Line = ("Bar", "abc")
BAZ: Line = ("Baz", "789")
TWO, THREE = ("Foo, Bar",), ("Foo, Bar, Baz",)
LANGUAGE = ("Accept-Language",)
GERMAN: Line = ("Accept-Language", "en, de")


def _language(key: str, says: str, value: str, outcome: Outcome = REUSED, otherwise: str = "") -> Row:
    return _vary(key, OPTIONAL, says, LANGUAGE, (GERMAN,), (("Accept-Language", value),), outcome, "9110 §12.5.4", otherwise, ("Content-Language", "de"))


VARYING = (
    _vary("vary", OPTIONAL, "It is reused where the field that Vary names is the same.", ("Foo",), (FOO1,), (FOO1,), REUSED),
    _vary("vary-differs", REQUIRED, "It is not where that differs.", ("Foo",), (FOO1,), (FOO2,), ASKED),
    _vary("vary-added", REQUIRED, "... or was absent when it was stored.", ("Foo",), (), (FOO1,), ASKED),
    _vary("vary-absent", REQUIRED, "... or is absent now.", ("Foo",), (FOO1,), (), ASKED),
    Row("vary-two-variants", VARY, OPTIONAL, "Two variants are stored side by side.", (Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO1,)), Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO2,)), Step(REUSED, sent=(FOO1,), body=b"body 1"), Step(REUSED, sent=(FOO2,), body=b"body 2"))),
    _vary("vary-others", OPTIONAL, "Fields that Vary does not name do not matter.", ("Foo",), (FOO1, ("Other", "2")), (FOO1, ("Other", "3")), REUSED),
    _vary("vary-2", OPTIONAL, "Two fields: reused where both are the same.", TWO, (FOO1, BAR), (FOO1, BAR), REUSED),
    _vary("vary-2-differs", REQUIRED, "Two fields: not where one differs.", TWO, (FOO1, BAR), (FOO2, BAR), ASKED),
    _vary("vary-2-absent", REQUIRED, "Two fields: not where they are absent now.", TWO, (FOO1, BAR), (), ASKED),
    _vary("vary-3", OPTIONAL, "Three fields: reused where all are the same.", THREE, (FOO1, BAR, BAZ), (FOO1, BAR, BAZ), REUSED),
    _vary("vary-3-differs", REQUIRED, "Three fields: not where one differs.", THREE, (FOO1, BAR, BAZ), (FOO2, BAR, BAZ), ASKED),
    _vary("vary-3-order", REQUIRED, "... in whatever order they come.", THREE, (FOO1, BAR, BAZ), (FOO1, BAZ, ("Bar", "abcde")), ASKED),
    _vary("vary-3-absent", OPTIONAL, "A field that is absent both times is the same.", THREE, (FOO1, BAZ), (FOO1, BAZ), REUSED),
    _vary("vary-star", REQUIRED, "Vary: * is never reused.", ("*",), (FOO1, BAZ), (FOO1, BAZ), ASKED),
    _vary("vary-lines-joined", OPTIONAL, "Several lines are the same as their list.", ("Foo",), (("Foo", "1, 2"),), (("Foo", "1"), ("Foo", "2")), REUSED),
    _language("vary-language-order", "The order of languages of the same weight does not matter.", "de, en"),
    _language("vary-language-case", "Their case does not.", "eN, De"),
    _language("vary-language-space", "Spaces do not.", " en ,   de"),
    _language("vary-language-chosen", "Another list is another request, though the stored language would do.", "fr;q=0.5, de;q=1.0", ASKED, "the app chooses the language; the cache does not guess how"),
    _vary("vary-spaces", OPTIONAL, "Spaces in a list do not matter.", ("Foo",), (("Foo", "1,2"),), (("Foo", " 1, 2 "),), REUSED),
    *beyond(
        _vary("vary-empty", REQUIRED, "A field that is empty is not absent.", ("Foo",), (("Foo", ""),), (), ASKED),
        _vary("vary-lines", REQUIRED, "All lines of Vary count.", ("Foo", "Bar"), (FOO1, BAR), (FOO1, ("Bar", "else")), ASKED),
        Row("vary-gone", VARY, REQUIRED, "The newest of those that match answers: here one without Vary.", (Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO1,)), Step(ASKED, answer(*FRESH), (FOO2,)), Step(REUSED, sent=(FOO1,), body=b"body 2"))),
        Row("vary-validated", VARY, REQUIRED, "Each variant is validated by its own ETag.", (Step(ASKED, answer(cc("max-age=1"), ("Vary", "Foo"), ("ETag", '"1"')), (FOO1,)), Step(ASKED, answer(cc("max-age=1"), ("Vary", "Foo"), ("ETag", '"2"')), (FOO2,)), Step(VALIDATED, Answer(status=304), (FOO1,), after=PAUSE, seen=(("If-None-Match", '"1"'),), body=b"body 1"), Step(VALIDATED, Answer(status=304), (FOO2,), seen=(("If-None-Match", '"2"'),), body=b"body 2"))),
        _vary("vary-case", OPTIONAL, "The case of a name does not matter.", ("fOO",), (FOO1,), (FOO1,), REUSED),
        _vary("vary-value-case", REQUIRED, "The case of an unknown value does.", ("Foo",), (("Foo", "a"),), (("Foo", "A"),), ASKED),
        Row("vary-newest", VARY, REQUIRED, "What Vary names later counts from then on.", (Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO1,)), Step(ASKED, answer(*FRESH, ("Vary", "Foo, Bar")), (FOO2, BAR)), Step(REUSED, sent=(FOO2, BAR), body=b"body 2"), Step(ASKED, sent=(FOO2, ("Bar", "else"))))),
        _vary("vary-not-normal", REQUIRED, "Without normalize=[...] languages in another order are another request.", LANGUAGE, (GERMAN,), (("Accept-Language", "de, en"),), ASKED),
    ),
)
VARYING = tuple(row if row.id != "vary-not-normal" else Row(row.id, row.section, row.kind, row.says, row.steps, rule="plain", beyond=True) for row in VARYING)

STARS = tuple(
    _vary(f"vary-star-{key}", REQUIRED, f"Vary: {' and '.join(lines) or 'nothing'} is never reused.", lines, (FOO1, BAZ), (FOO1, BAZ), ASKED, "9110 §12.5.5")
    for key, lines in {
        "alone": ("*",),
        "twice": ("*, *",),
        "two-lines": ("*", "*"),
        "empty": (", *",),
        "empty-line": ("", "*"),
        "first": ("*, Foo",),
        "last": ("Foo, *",),
    }.items()
)  # fmt: skip

URLS = (
    pair("query-differs", "9111 §2", REQUIRED, "Another query is another URL.", Step(ASKED, answer(*FRESH), at="?test=1"), Step(ASKED, at="?test=2")),
    pair("query-same", "9111 §2", OPTIONAL, "A URL with a query is reused.", Step(ASKED, answer(*FRESH), at="?test=1"), Step(REUSED, at="?test=1", after=PAUSE)),
)

RANGES = "9110 §14.2"
TEN = b"01234567890"


def _range(key: str, section: str, kind: Kind, says: str, value: str, part: bytes, content_range: str, *more: Line, status: int = 206) -> Row:
    has: tuple[Line, ...] = (("Content-Range", content_range),) if content_range else ()
    step = Step(REUSED, sent=(("Range", value), *more), status=status, body=part, has=has)
    return pair(key, section, kind, says, first(HOUR, ("A", "1"), ("ETag", '"1"'), body=TEN), step)


_WHOLE = "a part is never stored: §3.3 allows to leave that out, and parts of several responses are never mixed"


def _part(key: str, says: str, value: str) -> Row:
    part = Answer((HOUR, ("Content-Range", "bytes 4-9/10")), 206, b"01234")
    sent: tuple[Line, ...] = (("Range", "bytes=-5"),)
    return pair(key, "9111 §3.4", OPTIONAL, says, Step(ASKED, part, sent, seen=sent), Step(ASKED, part, (("Range", value),), seen=(("Range", value),)), _WHOLE)


PARTS = (
    _part("part-reused", "A part asked for again is asked of the app again.", "bytes=-5"),
    _range("range", RANGES, OPTIONAL, "A range is cut out of what is stored.", "bytes=0-1", b"01", "bytes 0-1/11"),
    _range("range-open", RANGES, OPTIONAL, "... from a position on.", "bytes=1-", TEN[1:], "bytes 1-10/11"),
    _range("range-suffix", RANGES, OPTIONAL, "... or from the end.", "bytes=-1", b"0", "bytes 10-10/11"),
    _part("part-of-part", "A part of a part is asked of the app.", "bytes=6-8"),
    _part("part-of-part-open", "... from a position on.", "bytes=6-"),
    _part("part-of-part-suffix", "... or from the end.", "bytes=-1"),
    pair("part-completed", "9111 §3.4", OPTIONAL, "The whole is asked for as a whole.", Step(ASKED, Answer((HOUR, ("Content-Range", "bytes 0-4/10")), 206, b"01234"), (("Range", "bytes=-5"),)), Step(ASKED, unseen=("Range",)), _WHOLE),
    pair("range-fields", "9110 §15.3.7", REQUIRED, "A part goes out with the fields that belong to it.", first(HOUR, ("A", "1"), body=TEN), Step(REUSED, sent=(("Range", "bytes=0-1"),), status=206, body=b"01", has=(("Content-Length", "2"),))),
    pair("range-stored-fields", "9110 §15.3.7", REQUIRED, "... and with those of the stored response.", first(HOUR, ("A", "1"), body=TEN), Step(REUSED, sent=(("Range", "bytes=0-1"),), status=206, body=b"01", has=(("A", "1"),))),
    *beyond(
        _range("range-too-long", "9110 §14.1.2", REQUIRED, "A range that ends past the end ends there.", "bytes=9-99", b"90", "bytes 9-10/11"),
        _range("range-unsatisfiable", "9110 §15.5.17", REQUIRED, "A range past the end gets a 416 with the length.", "bytes=11-", b"", "bytes */11", status=416),
        _range("range-suffix-0", "9110 §14.1.2", REQUIRED, "So does an empty suffix.", "bytes=-0", b"", "bytes */11", status=416),
        _range("range-several", RANGES, OPEN, "Several ranges get the whole.", "bytes=0-1,4-5", TEN, "", status=200),
        _range("range-backwards", "9110 §14.1.1", REQUIRED, "A range that ends before it begins is ignored.", "bytes=5-1", TEN, "", status=200),
        _range("range-unit", RANGES, REQUIRED, "A unit that is not known is ignored.", "lines=0-1", TEN, "", status=200),
        _range("range-garbage", RANGES, REQUIRED, "What is no range is ignored.", "bytes=a-b", TEN, "", status=200),
        _range("range-if", "9110 §13.1.5", REQUIRED, "If-Range with the ETag allows the part.", "bytes=0-1", b"01", "bytes 0-1/11", ("If-Range", '"1"')),
        _range("range-if-other", "9110 §13.1.5", REQUIRED, "... with another the whole goes out.", "bytes=0-1", TEN, "", ("If-Range", '"2"'), status=200),
        _range("range-if-weak", "9110 §13.1.5", REQUIRED, "... and with a weak one.", "bytes=0-1", TEN, "", ("If-Range", 'W/"1"'), status=200),
        _range("range-huge", "9110 §14.1.2", REQUIRED, "Numbers may be of any length.", f"bytes=1-{'9' * 40}", TEN[1:], "bytes 1-10/11"),
        pair("range-if-date", "9110 §13.1.5", REQUIRED, "If-Range with the Last-Modified allows the part.", first(*FRESH, ("Last-Modified", -3000), body=TEN), Step(REUSED, sent=(("Range", "bytes=0-1"), ("If-Range", -3000)), status=206, body=b"01")),
        pair("range-if-later", "9110 §13.1.5", REQUIRED, "... with a later date the whole goes out.", first(*FRESH, ("Last-Modified", -3000), body=TEN), Step(REUSED, sent=(("Range", "bytes=0-1"), ("If-Range", -2000)), status=200)),
        pair("range-status", RANGES, REQUIRED, "A range is cut out of nothing but a 200.", first(*FRESH, status=404, body=TEN), Step(REUSED, sent=(("Range", "bytes=0-1"),), status=404)),
        _range("range-condition", "9110 §13.2.2", REQUIRED, "A condition that holds comes before the range.", "bytes=0-1", b"", "", ("If-None-Match", '"1"'), status=304),
        pair("part-no-whole", "9111 §3.3", REQUIRED, "A 206 never answers for the whole.", Step(ASKED, Answer((HOUR, ("Content-Range", "bytes 0-1/10")), 206, b"01")), Step(ASKED)),
        pair("range-forwarded", "9111 §3.3", REQUIRED, "A range of what is not stored is the app's to answer.", Step(ASKED, sent=(("Range", "bytes=0-1"),), seen=(("Range", "bytes=0-1"),)), Step(ASKED)),
    ),
)

INVALIDATION = "9111 §4.4"
METHODS = ("POST", "PUT", "DELETE", "M-SEARCH")


def _invalidates(method: str) -> Row:
    return Row(f"invalidated-by-{method.lower()}", INVALIDATION, REQUIRED, f"A successful {method} invalidates its target.", (first(*FRESH), Step(ASKED, method=method, content=b"abc"), Step(ASKED)))


def _spares(method: str) -> Row:
    return Row(f"spared-by-{method.lower()}", INVALIDATION, OPTIONAL, f"A {method} that fails invalidates nothing.", (first(*FRESH), Step(ASKED, Answer(status=500), method=method, content=b"abc"), Step(REUSED, body=b"body 1")))


def _invalidates_named(method: str, field: str) -> Row:
    key = f"{field.lower()}-invalidated-by-{method.lower()}"
    fill = Step(ASKED, answer(*FRESH), at="/target")
    step = Step(ASKED, answer((field, f"/all/{key}/target"), status=201), method=method, content=b"abc")
    return Row(key, INVALIDATION, OPEN, f"{field} of its response is invalidated by a {method} too.", (fill, step, Step(ASKED, at="/target")))


def _after_post(key: str, section: str, kind: Kind, says: str, fields: tuple[Line, ...], outcome: Outcome, *post: Line, status: int = 200) -> Row:
    steps = (Step(ASKED, answer(*FRESH, *fields), at="/target"), Step(ASKED, answer(*post, status=status), method="POST", content=b"x"), Step(outcome, at="/target", body=b"body 1" if outcome is REUSED else None))
    return Row(key, section, kind, says, steps)


UNSAFE = (
    *[_invalidates(method) for method in METHODS],
    *[_spares(method) for method in METHODS],
    *[_invalidates_named(method, "Location") for method in METHODS],
    *[_invalidates_named(method, "Content-Location") for method in METHODS],
    pair("post-reused", "9110 §9.3.3", OPTIONAL, "The response to a POST answers no GET.", Step(ASKED, answer(("Expires", 3600), ("Content-Location", "/all/post-reused"), DATE), method="POST", content=b"12345"), Step(ASKED), "only GET fills: what an app answers to a POST is rarely meant for everybody"),
    *beyond(
        Row("invalidated-by-redirect", INVALIDATION, REQUIRED, "A 303 is a success.", (first(*FRESH), Step(ASKED, Answer(status=303), method="POST", content=b"x"), Step(ASKED))),
        Row("invalidated-variants", INVALIDATION, REQUIRED, "All variants of the target are invalidated.", (Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO1,)), Step(ASKED, answer(*FRESH, ("Vary", "Foo")), (FOO2,)), Step(ASKED, method="PUT", content=b"x"), Step(ASKED, sent=(FOO1,)), Step(ASKED, sent=(FOO2,)))),
        Row("invalidated-queries", INVALIDATION, OPTIONAL, "So is its path with any query.", (Step(ASKED, answer(*FRESH), at="?page=2"), Step(ASKED, method="PUT", content=b"x"), Step(ASKED, at="?page=2"))),
        Row("invalidated-not-stale", INVALIDATION, REQUIRED, "What has been invalidated is not used stale, and not validated either.", (first(*FRESH, ("ETag", '"1"')), Step(ASKED, method="PUT", content=b"x"), Step(FAILED, Answer(fails=True), unseen=("If-None-Match",)))),
        Row("spared-by-options", INVALIDATION, OPTIONAL, "A safe method invalidates nothing.", (first(*FRESH), Step(ASKED, method="OPTIONS"), Step(REUSED, body=b"body 1"))),
        _after_post("other-origin-spared", INVALIDATION, REQUIRED, "A Location on another origin is left alone.", (), REUSED, ("Location", "http://else.example/all/other-origin-spared/target"), status=201),
        _after_post("group-invalidated", "9875 §3", OPTIONAL, "Cache-Group-Invalidation invalidates what names the group.", (("Cache-Groups", '"scripts"'),), ASKED, ("Cache-Group-Invalidation", '"styles", "scripts"')),
        _after_post("group-other", "9875 §3", REQUIRED, "... and nothing else.", (("Cache-Groups", '"images"'),), REUSED, ("Cache-Group-Invalidation", '"fonts"')),
        _after_post("group-case", "9875 §2", REQUIRED, "The case of a group matters.", (("Cache-Groups", '"Pages"'),), REUSED, ("Cache-Group-Invalidation", '"pages"')),
        _after_post("group-invalid", "9875 §3", OPTIONAL, "What is no list of strings is ignored.", (("Cache-Groups", '"plain"'),), REUSED, ("Cache-Group-Invalidation", "plain")),
        Row("group-safe", "9875 §3", REQUIRED, "On the response to a safe method it means nothing.", (Step(ASKED, answer(*FRESH, ("Cache-Groups", '"safe"')), at="/target"), Step(ASKED, answer(("Cache-Group-Invalidation", '"safe"'))), Step(REUSED, at="/target", body=b"body 1"))),
    ),
)  # fmt: skip

ROWS = (*VARYING, *STARS, *URLS, *PARTS, *UNSAFE)
