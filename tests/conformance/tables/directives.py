"""Directives other than lifetimes: of responses, of requests, of targeted fields; credentials; stale answers."""

# ruff: noqa: E501

from __future__ import annotations

from tests.conformance.rows import (
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
    REFUSED,
    REQUIRED,
    REUSED,
    STALE,
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
    reused,
)

NO_STORE = "9111 §5.2.2.5"
NO_CACHE = "9111 §5.2.2.4"
PRIVATE = "9111 §5.2.2.7"
MUST_REVALIDATE = "9111 §5.2.2.2"
MUST_UNDERSTAND = "9111 §5.2.2.3"
DAYS: tuple[Line, ...] = (("Expires", 10_000), DATE)
ETAG: Line = ("ETag", '"abcd"')
SAME = Answer(status=304)
STILL_VALID = Step(VALIDATED, SAME, seen=(("If-None-Match", '"abcd"'),))
GONE_ON = "a newer response that may not be stored says nothing about the stored one; the app is not even asked while that is fresh"


def _no_store_later(key: str, value: str) -> Row:
    stored = (cc("max-age=10000"), *DAYS, ("A", "1"))
    newer = Step(REUSED, answer(cc(value), DATE, ("A", "2")), after=PAUSE, has=(("A", "1"),))
    says = f"A stored response is used on while the app would say {value}."
    return Row(key, NO_STORE, REQUIRED, says, (first(*stored), newer, Step(REUSED, after=PAUSE, has=(("A", "1"),))))


RESPONSES = (
    asked("private", PRIVATE, REQUIRED, "private keeps it out of a shared cache.", cc("private, max-age=3600"), after=0),
    asked("no-store", NO_STORE, REQUIRED, "no-store keeps it out.", cc("no-store"), after=0),
    asked("no-store-case", NO_STORE, REQUIRED, "... in any case of letters.", cc("No-StOrE"), after=0),
    asked("no-store-fresh", NO_STORE, REQUIRED, "... whatever lifetime stands beside it.", cc("max-age=10000, no-store"), *DAYS, after=0),
    _no_store_later("no-store-later", "no-store"),
    _no_store_later("no-store-0-later", "no-store, max-age=0"),
    asked("no-cache", NO_CACHE, REQUIRED, "no-cache forbids to reuse it unasked, whatever its lifetime.", cc("max-age=10000, no-cache"), *DAYS, after=0),
    asked("no-cache-case", NO_CACHE, REQUIRED, "... in any case of letters.", cc("max-age=10000, No-CaChE"), *DAYS, after=0),
    pair("no-cache-validated", NO_CACHE, OPTIONAL, "It is stored all the same, and validated for each use.", first(cc("no-cache"), ETAG), STILL_VALID),
    pair("no-cache-fresh-validated", NO_CACHE, OPTIONAL, "... whatever its lifetime.", first(cc("max-age=10000, no-cache"), *DAYS, ETAG), STILL_VALID),
    pair("no-cache-field", NO_CACHE, OPEN, "A field that no-cache names is not stored.", first(cc('no-cache="a"'), ("a", "1"), ("b", "2"), *FRESH), Step(REUSED, after=PAUSE, has=(("b", "2"),), lacks=("a",))),
    pair("no-cache-fields", NO_CACHE, OPEN, "Fields that no-cache names are not stored.", first(cc('no-cache="a, b"'), ("a", "1"), ("b", "2"), ("c", "3"), *FRESH), Step(REUSED, after=PAUSE, has=(("c", "3"),), lacks=("a", "b"))),
    reused("must-revalidate-fresh", MUST_REVALIDATE, OPTIONAL, "must-revalidate changes nothing while it is fresh.", cc("max-age=10000, must-revalidate"), ETAG, after=0),
    Row("must-revalidate-stale", MUST_REVALIDATE, REQUIRED, "Behind that, it is validated.", (first(cc("max-age=2, must-revalidate"), ETAG), Step(REUSED), Step(VALIDATED, SAME, after=PAUSE, seen=(("If-None-Match", '"abcd"'),)))),
    *beyond(
        pair("private-field", PRIVATE, REQUIRED, "A field that private names is not stored, and the rest is.", first(cc('private="a"'), ("a", "1"), ("b", "2"), *FRESH), Step(REUSED, has=(("b", "2"),), lacks=("a",))),
        pair("no-cache-set-cookie", NO_CACHE, OPTIONAL, "Where no-cache names Set-Cookie the rest is stored without it.", first(cc('max-age=3600, no-cache="Set-Cookie"'), ("Set-Cookie", "a=b")), Step(REUSED, lacks=("Set-Cookie",))),
        pair("no-cache-and-fields", NO_CACHE, REQUIRED, "no-cache without names beside one with names is unqualified.", first(cc('max-age=3600, no-cache="a", no-cache')), Step(ASKED)),
        asked("public-alone", "9111 §5.2.2.9", OPEN, "public alone is no lifetime.", cc("public")),
        asked("private-token", PRIVATE, REQUIRED, "private with anything but a list in quotation marks is unqualified.", cc("private=a, max-age=3600")),
        asked("no-store-argument", NO_STORE, REQUIRED, "no-store with an argument is no-store.", cc("no-store=1, max-age=3600")),
        pair("no-cache-stale-field-validated", NO_CACHE, REQUIRED, "A response to validate goes out with what the 304 brings.", first(cc("no-cache"), ETAG, ("A", "1")), Step(VALIDATED, answer(cc("no-cache"), ETAG, ("A", "2"), status=304), has=(("A", "2"),))),
        asked("no-cache-replaced", NO_CACHE, REQUIRED, "Where the app does not confirm it, its new response goes out.", cc("no-cache"), ETAG),
        reused("must-understand", MUST_UNDERSTAND, REQUIRED, "must-understand puts no-store out of force for a status that is understood.", cc("max-age=3600, no-store, must-understand")),
    ),
)

WITH_CLIENT = "9111 §5.2.1"


def _request(key: str, section: str, says: str, fields: tuple[Line, ...], wants: str, step: Step, kind: Kind = OPEN) -> Row:
    sent: tuple[Line, ...] = (cc(wants),)
    return pair(key, section, kind, says, first(*fields), Step(step.outcome, step.app, sent, after=step.after, seen=step.seen))


NEW = Step(ASKED)
REQUESTS = (
    _request("asks-max-age-0", "9111 §5.2.1.1", "max-age=0 asks past what is fresh.", FRESH, "max-age=0", Step(ASKED, after=PAUSE)),
    _request("asks-max-age-1", "9111 §5.2.1.1", "max-age=1 asks past what is older.", FRESH, "max-age=1", Step(ASKED, after=PAUSE)),
    _request("asks-max-age-aged", "9111 §5.2.1.1", "... counting the Age that it came with.", (HOUR, ("Age", "1800")), "max-age=600", NEW),
    _request("asks-max-stale", "9111 §5.2.1.2", "max-stale accepts what is stale.", (cc("max-age=1"),), "max-stale=1000", Step(REUSED, after=PAUSE)),
    _request("asks-max-stale-aged", "9111 §5.2.1.2", "... counting the Age that it came with.", (cc("max-age=1500"), ("Age", "2000")), "max-stale=1000", Step(REUSED)),
    _request("asks-min-fresh", "9111 §5.2.1.3", "min-fresh asks past what is fresh for less.", (cc("max-age=1500"),), "min-fresh=2000", NEW),
    _request("asks-min-fresh-aged", "9111 §5.2.1.3", "... counting the Age that it came with.", (cc("max-age=1500"), ("Age", "1000")), "min-fresh=1000", NEW),
    _request("asks-no-cache", "9111 §5.2.1.4", "no-cache asks past what is fresh.", (HOUR,), "no-cache", NEW),
    _request("asks-no-cache-modified", "9111 §5.2.1.4", "... with its Last-Modified as a condition.", (HOUR, ("Last-Modified", -10_000), DATE), "no-cache", Step(VALIDATED, SAME, seen=(("If-Modified-Since", -10_000),))),
    _request("asks-no-cache-etag", "9111 §5.2.1.4", "... with its ETag as a condition.", (HOUR, ("ETag", '"abc"')), "no-cache", Step(VALIDATED, SAME, seen=(("If-None-Match", '"abc"'),))),
    _request("asks-no-store", "9111 §5.2.1.5", "no-store passes the store by.", (HOUR,), "no-store", NEW),
    Row("asks-only-if-cached", "9111 §5.2.1.7", OPEN, "only-if-cached gets a 504 where nothing is stored.", (Step(REFUSED, sent=(cc("only-if-cached"),), status=504),)),
    pair("pragma-asks", "9111 §5.4", OPEN, "Pragma: no-cache asks as Cache-Control: no-cache does.", first(HOUR), Step(ASKED, sent=(("Pragma", "no-cache"),)), otherwise="the rule has clients obeyed, and RFC 7234 §5.4 has this one mean no-cache"),
    pair("pragma-asks-else", "9111 §5.4", OPEN, "Any other Pragma asks nothing.", first(HOUR), Step(REUSED, sent=(("Pragma", "other"),))),
    reused("pragma-answers", "9111 §5.4", OPEN, "Pragma in a response means nothing.", HOUR, ("Pragma", "no-cache"), after=0),
    reused("pragma-answers-guess", "9111 §5.4", OPEN, "... beside a guessed lifetime either.", DATE, ("Last-Modified", -10_000), ("Pragma", "no-cache"), after=0),
    reused("pragma-answers-else", "9111 §5.4", OPEN, "... whatever it says.", HOUR, ("Pragma", "other"), after=0),
    *beyond(
        _request("asks-max-stale-any", "9111 §5.2.1.2", "max-stale without a number accepts any staleness.", (cc("max-age=1"),), "max-stale", Step(REUSED, after=PAUSE)),
        _request("asks-max-stale-less", "9111 §5.2.1.2", "What is staler than max-stale does not do.", (cc("max-age=1"),), "max-stale=1", Step(ASKED, after=PAUSE)),
        _request("asks-max-stale-forbidden", "9111 §5.2.1.2", "must-revalidate outweighs max-stale.", (cc("max-age=1, must-revalidate"), ETAG), "max-stale", Step(ASKED, after=PAUSE)),
        _request("asks-only-if-cached-stale", "9111 §5.2.1.7", "only-if-cached gets a 504 where what is stored is stale.", (cc("max-age=1"),), "only-if-cached", Step(REFUSED, after=PAUSE)),
        _request("asks-stale-forbidden", "9111 §5.2.2.2", "must-revalidate outweighs a client's stale-if-error.", (cc("max-age=1, must-revalidate"), ETAG), "stale-if-error=60", Step(FAILED, Answer(fails=True), after=PAUSE)),
        _request("asks-garbage", "9111 §5.2.1", "What is malformed asks nothing.", FRESH, "max-age=x, min-fresh, max-age=-1", Step(REUSED)),
        _request("asks-only-if-cached-stored", "9111 §5.2.1.7", "only-if-cached gets what is stored.", FRESH, "only-if-cached", Step(REUSED)),
        Row("asks-no-store-first", "9111 §5.2.1.5", OPEN, "The response to a request with no-store is not stored.", (Step(ASKED, answer(*FRESH), (cc("no-store"),)), Step(ASKED))),
        _request("asks-stale-if-error", "5861 §4", "A client may ask for a stale answer in place of an error.", (cc("max-age=1, stale-if-error=0"),), "stale-if-error=60", Step(INSTEAD, Answer(status=503), after=PAUSE)),
        Row("advice-ignored", WITH_CLIENT, OPEN, "Without client_directives=True none of them counts: any client could defeat the cache.", (first(*FRESH), *[Step(REUSED, sent=(cc(value),)) for value in ("no-cache", "no-store", "max-age=0", "min-fresh=9999")]), rule="plain"),
    ),
)

SHARING = "9111 §3.5"
USER: tuple[Line, ...] = (("Authorization", "FOO"),)


def _user(key: str, value: str) -> Row:
    head = Step(ASKED, answer(cc(value), DATE), USER, seen=USER)
    return pair(key, SHARING, OPTIONAL, f"With {value} it answers others too.", head, Step(REUSED, after=PAUSE))


CREDENTIALS = (
    pair("user", SHARING, REQUIRED, "The response to a request with Authorization answers nobody else.", Step(ASKED, answer(*FRESH), USER, seen=USER), Step(ASKED)),
    _user("user-public", "max-age=3600, public"),
    _user("user-must-revalidate", "max-age=3600, must-revalidate"),
    _user("user-s-maxage", "s-maxage=3600"),
    *beyond(
        pair("user-not-answered", SHARING, OPEN, "A request with Authorization is not answered with what was stored for others.", first(*FRESH), Step(ASKED, sent=USER)),
        pair("user-answered-public", SHARING, OPTIONAL, "... unless that is marked public.", first(cc("max-age=3600, public")), Step(REUSED, sent=USER)),
        pair("user-field", SHARING, OPEN, "Other fields that carry credentials count as Authorization does.", Step(ASKED, answer(*FRESH), (("X-Api-Key", "1"),)), Step(ASKED)),
    ),
)

TARGETED = "9213 §2.2"


def cdn(value: str) -> Line:
    return ("CDN-Cache-Control", value)


LONG: tuple[Line, ...] = (cc("max-age=10000"), *DAYS)
SHORT_FOR_OTHERS = (cc("max-age=1"), cdn("max-age=10000"), DATE)
TARGETS = (
    reused("target-max-age", TARGETED, OPTIONAL, "It is reused within the max-age of the targeted field.", cdn("max-age=3600")),
    reused("target-2-31", TARGETED, OPTIONAL, "That may be 2^31.", cdn("max-age=2147483648")),
    reused("target-huge", TARGETED, OPTIONAL, "It may be far past 2^31.", cdn("max-age=99999999999")),
    asked("target-aged", TARGETED, REQUIRED, "Age counts against it.", DATE, cdn("max-age=3600"), ("Age", "7200")),
    asked("target-space-before", "9213 §2.1", OPEN, "With a space before the = it is no structured field, and ignored.", cc("max-age=1"), cdn("max-age =100")),
    asked("target-space-behind", "9213 §2.1", OPEN, "With a space behind the = it is no structured field, and ignored.", cc("max-age=1"), cdn("max-age= 100")),
    asked("target-0", TARGETED, REQUIRED, "Its max-age=0 is over.", cdn("max-age=0")),
    reused("target-extension", TARGETED, OPTIONAL, "An unknown directive does not disturb.", cdn("ext, max-age=3600")),
    asked("target-case", "9213 §2.1", OPEN, "Upper case makes it no structured field, and ignored.", cdn("MaX-aGe=3600"), otherwise="keys of a structured field are in lower case (9651 §3.2), and what is none is ignored as a whole"),
    reused("target-over-expires", TARGETED, OPTIONAL, "A past Expires does not count beside it.", cdn("max-age=3600"), ("Expires", -10_000), DATE),
    reused("target-over-bad-expires", TARGETED, OPTIONAL, "An invalid Expires does not count beside it.", cdn("max-age=3600"), ("Expires", "0"), DATE),
    asked("target-0-over-expires", TARGETED, REQUIRED, "A future Expires does not count beside it.", cdn("max-age=0"), *DAYS),
    reused("target-longer", TARGETED, OPTIONAL, "A shorter max-age in Cache-Control does not count.", cc("max-age=1"), cdn("max-age=3600")),
    asked("target-shorter", TARGETED, REQUIRED, "A longer max-age in Cache-Control does not count.", HOUR, cdn("max-age=1")),
    asked("target-private", TARGETED, REQUIRED, "Its private keeps the response out.", cdn("private"), *LONG, after=0),
    asked("target-no-cache", TARGETED, REQUIRED, "Its no-cache forbids to reuse it unasked.", cdn("no-cache"), *LONG, after=0),
    asked("target-no-store", TARGETED, REQUIRED, "Its no-store keeps the response out.", cdn("no-store"), *LONG),
    reused("target-over-no-store", TARGETED, REQUIRED, "no-store in Cache-Control does not count beside it.", cc("no-store"), cdn("max-age=10000")),
    asked("target-garbage", "9213 §2.1", REQUIRED, "What is no structured field is ignored as a whole.", cdn("max-age=10000, &&&&&"), cc("no-store")),
    asked("target-string", "9213 §2.1", REQUIRED, "A max-age of another type does not count.", cdn('max-age="10000"'), cc("no-store")),
    Row("target-passed-on", TARGETED, OPEN, "The field is passed on to the caches in front.", (Step(ASKED, answer(*LONG, cdn("foo")), has=(cdn("foo"),)),)),
    Row("target-age", TARGETED, OPEN, "Age tells the others that their own lifetime is over.", (first(*SHORT_FOR_OTHERS), Step(REUSED, after=PAUSE, older=PAUSE))),
    Row("target-date", TARGETED, OPEN, "Date is left as it came.", (first(*SHORT_FOR_OTHERS), Step(REUSED, after=PAUSE, has=(DATE,)))),
    Row("target-expires", TARGETED, OPEN, "Expires is left as it came.", (first(*SHORT_FOR_OTHERS, ("Expires", 1)), Step(REUSED, after=PAUSE, has=(("Expires", 1),)))),
    *beyond(
        asked("target-empty", "9213 §2.1", REQUIRED, "An empty field counts as absent.", cdn(""), cc("no-store")),
        reused("target-lines", "9213 §2.1", REQUIRED, "Its lines are one dictionary.", cdn("ext"), cdn("max-age=3600"), cc("no-store")),
    ),
)

STALE_SECTION = "9111 §4.2.4"
DOWN = Answer(fails=True)


def _forbidden(directive: str, section: str) -> Row:
    says = f"{directive} forbids to answer stale when the app fails."
    return pair(f"stale-{directive.partition('=')[0]}", section, REQUIRED, says, first(cc(f"max-age=2, {directive}")), Step(FAILED, DOWN, after=PAUSE))


WARNED = "Warning is obsolete (9111 §5.5); Age and Cache-Status tell"
WINDOW = cc("max-age=1, stale-while-revalidate=4")
STALENESS = (
    pair("stale-failed", STALE_SECTION, OPEN, "Where a rule allows it, what is stale stands in for an app that fails.", first(*BRIEF), Step(INSTEAD, DOWN, after=PAUSE)),
    pair("stale-503", STALE_SECTION, OPEN, "... or that answers 503.", first(*BRIEF), Step(INSTEAD, Answer(status=503), after=PAUSE, status=200)),
    pair("stale-while-revalidate", "5861 §3", OPTIONAL, "Within the window what is stale answers at once.", first(cc("max-age=1, stale-while-revalidate=3600"), ("ETag", '"abc"')), Step(STALE, SAME, after=PAUSE)),
    Row("stale-while-revalidate-over", "5861 §3", REQUIRED, "Past the window it does not.", (first(WINDOW, ("ETag", '"abc"')), Step(STALE, answer(cc("no-cache"), ("ETag", '"def"')), after=PAUSE), Step(ASKED, after=PAUSE))),
    pair("stale-if-error-failed", "5861 §4", OPEN, "stale-if-error covers an app that fails.", first(cc("max-age=2, stale-if-error=60")), Step(INSTEAD, DOWN, after=PAUSE)),
    pair("stale-if-error-503", "5861 §4", OPEN, "... or that answers 503.", first(cc("max-age=2, stale-if-error=60")), Step(INSTEAD, Answer(status=503), after=PAUSE)),
    _forbidden("must-revalidate", MUST_REVALIDATE),
    _forbidden("proxy-revalidate", "9111 §5.2.2.8"),
    _forbidden("no-cache", NO_CACHE),
    _forbidden("s-maxage=2", "9111 §5.2.2.10"),
    Row("stale-stored-warning", "9111 §5.5", OPEN, "An answer that was stale when it came carries no Warning.", (first(("Expires", -5000), ("Last-Modified", -100_000), DATE), Step(INSTEAD, DOWN, lacks=("Warning",))), otherwise=WARNED),
    Row("stale-warning", "9111 §5.5", OPEN, "A stale answer carries no Warning.", (first(*BRIEF), Step(INSTEAD, DOWN, after=PAUSE, lacks=("Warning",), older=PAUSE)), otherwise=WARNED),
    *beyond(
        pair("stale-if-error-over", "5861 §4", REQUIRED, "Past the window the error goes out.", first(cc("max-age=1, stale-if-error=1")), Step(ASKED, Answer(status=500), after=PAUSE)),
        pair("stale-if-error-404", "5861 §4", REQUIRED, "A 404 is no error to hide.", first(cc("max-age=2, stale-if-error=60")), Step(ASKED, Answer(status=404), after=PAUSE)),
        pair("stale-if-error-s-maxage", "5861 §4", OPTIONAL, "The app's own window counts beside s-maxage.", first(cc("s-maxage=2, stale-if-error=60")), Step(INSTEAD, DOWN, after=PAUSE)),
        pair("stale-window-must-revalidate", MUST_REVALIDATE, REQUIRED, "must-revalidate outweighs both windows.", first(cc("max-age=2, must-revalidate, stale-if-error=60, stale-while-revalidate=60")), Step(FAILED, DOWN, after=PAUSE)),
        Row("stale-refresh-fails", "5861 §3", OPTIONAL, "A refresh that fails leaves it as it is.", (first(cc("max-age=1, stale-while-revalidate=60")), Step(STALE, Answer(status=500), after=PAUSE, body=b"body 1"), Step(STALE, answer(HOUR), body=b"body 1"), Step(REUSED, body=b"body 3"))),
        Row("stale-window-client", WITH_CLIENT, REQUIRED, "Whoever asks for max-age gets nothing stale, whatever the window.", (first(cc("max-age=1, stale-while-revalidate=60")), Step(ASKED, sent=(cc("max-age=30"),), after=PAUSE))),
        Row("stale-refreshed", "5861 §3", OPTIONAL, "The refresh behind it replaces it.", (first(cc("max-age=1, stale-while-revalidate=60")), Step(STALE, answer(HOUR), after=PAUSE), Step(REUSED, body=b"body 2"))),
    ),
)

ROWS = (*RESPONSES, *REQUESTS, *CREDENTIALS, *TARGETS, *STALENESS)
