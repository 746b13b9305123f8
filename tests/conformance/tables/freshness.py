"""How long a response is fresh: directives and their odd spellings, `Expires`, `Age`, heuristics."""

# ruff: noqa: E501

from __future__ import annotations

from tests.conformance.rows import (
    ASKED,
    DATE,
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
    reused,
)

MAX_AGE = "9111 §5.2.2.1"
S_MAXAGE = "9111 §5.2.2.10"
PARSING = "9111 §5.2"
EXPIRES = "9111 §5.3"
AGE = "9111 §5.1"
LIFETIME = "9111 §4.2.1"
HEURISTIC = "9111 §4.2.2"

DIRECTIVES = (
    asked("no-word", LIFETIME, OPEN, "Without a lifetime and a validator nothing is reused."),
    reused("max-age", MAX_AGE, OPTIONAL, "It is reused within max-age.", HOUR),
    asked("max-age-over", MAX_AGE, REQUIRED, "It is not reused when max-age is over.", cc("max-age=2")),
    asked("max-age-0", MAX_AGE, REQUIRED, "It is not reused with max-age=0.", cc("max-age=0")),
    reused("max-age-31-bits", MAX_AGE, OPTIONAL, "max-age may be 2^31 - 1.", cc("max-age=2147483647")),
    reused("max-age-2-31", MAX_AGE, OPTIONAL, "max-age may be 2^31.", cc("max-age=2147483648")),
    reused("max-age-past-2-31", MAX_AGE, OPTIONAL, "max-age may be 2^31 + 1.", cc("max-age=2147483649")),
    reused("max-age-huge", MAX_AGE, OPTIONAL, "max-age may be far past 2^31.", cc("max-age=99999999999")),
    asked("max-age-aged", AGE, REQUIRED, "It is not reused where its Age exceeds max-age.", *(HOUR, DATE, ("Age", "7200"))),
    asked("max-age-old-date", "9111 §4.2.3", OPEN, "A Date far in the past makes it old.", HOUR, ("Date", -7200)),
    reused(
        "max-age-over-expires", EXPIRES, OPTIONAL, "max-age counts, and a past Expires does not.",
        HOUR, ("Expires", -7200), DATE,
    ),
    reused(
        "max-age-over-bad-expires", EXPIRES, OPTIONAL, "max-age counts, and an invalid Expires does not.",
        HOUR, ("Expires", "0"), DATE,
    ),
    asked(
        "max-age-0-over-expires", EXPIRES, REQUIRED, "max-age=0 counts, and a future Expires does not.",
        cc("max-age=0"), ("Expires", 3600), DATE,
    ),
    reused("max-age-extension", "9111 §5.2.3", OPTIONAL, "Beside an unknown directive max-age counts.", cc("ext, max-age=3600")),
    reused("max-age-case", PARSING, OPTIONAL, "The case of a directive means nothing.", cc("mAx-AgE=3600")),
    asked("max-age-negative", MAX_AGE, REQUIRED, "A negative max-age is over.", cc("max-age=-3600")),
    reused("s-maxage", S_MAXAGE, REQUIRED, "It is reused within s-maxage.", cc("s-maxage=3600")),
    asked("s-maxage-shorter", S_MAXAGE, REQUIRED, "s-maxage comes before a longer max-age.", cc("max-age=3600, s-maxage=1")),
    asked("s-maxage-shorter-front", S_MAXAGE, REQUIRED, "... in whatever order.", cc("s-maxage=1, max-age=3600")),
    asked(
        "s-maxage-shorter-lines", S_MAXAGE, REQUIRED, "... and on lines of their own.", cc("max-age=3600"), cc("s-maxage=1")
    ),
    reused("s-maxage-longer", S_MAXAGE, OPTIONAL, "s-maxage comes before a shorter max-age.", cc("max-age=1, s-maxage=3600")),
    reused(
        "s-maxage-over-all", S_MAXAGE, OPTIONAL, "s-maxage comes before max-age=0 and a past Expires.",
        cc("max-age=0, s-maxage=3600"), ("Expires", -10),
    ),
)

_STRICT = "what is malformed or contradicts itself counts as stale, which §4.2.1 encourages"

PARSED = (
    asked("two-max-ages", LIFETIME, OPEN, "Of a long and then a short max-age none counts.", cc("max-age=1800, max-age=1"), otherwise=_STRICT),
    asked("two-max-age-lines", LIFETIME, OPEN, "... on two lines either.", cc("max-age=1800"), cc("max-age=1"), otherwise=_STRICT),
    asked("two-max-ages-short", LIFETIME, OPEN, "Of a short and then a long max-age none counts.", cc("max-age=1, max-age=1800"), otherwise=_STRICT),
    asked("two-max-age-lines-short", LIFETIME, OPEN, "... on two lines either.", cc("max-age=1"), cc("max-age=1800"), otherwise=_STRICT),
    reused("max-age-quoted", PARSING, OPEN, "A max-age in quotation marks counts.", cc('max-age="3600"')),
    asked("max-age-in-string", PARSING, REQUIRED, "A max-age inside a string is none.", cc('ext="max-age=3600", max-age=1')),
    asked("max-age-in-string-behind", PARSING, REQUIRED, "... behind the real one either.", cc('max-age=1, ext="max-age=3600"')),
    asked("max-age-space-before", PARSING, OPEN, "A space before the = makes it invalid.", cc("max-age =3600")),
    asked("max-age-space-behind", PARSING, OPEN, "A space behind the = makes it invalid.", cc("max-age= 3600")),
    reused("max-age-zeros", "9111 §1.2.2", REQUIRED, "Leading zeros mean nothing.", cc("max-age=003600")),
    asked("max-age-apostrophes", PARSING, REQUIRED, "Apostrophes are no quotation marks.", cc("max-age='3600'")),
    asked("max-age-decimal", MAX_AGE, OPEN, "3600.0 is no number of seconds.", cc("max-age=3600.0"), otherwise=_STRICT),
    asked("max-age-fraction", MAX_AGE, OPEN, "3600.5 is no number of seconds.", cc("max-age=3600.5"), otherwise=_STRICT),
    asked("max-age-letter", MAX_AGE, OPEN, "a3600 is no number of seconds.", cc("max-age=a3600"), otherwise=_STRICT),
    asked("max-age-letter-behind", MAX_AGE, OPEN, "3600a is no number of seconds.", cc("max-age=3600a"), otherwise=_STRICT),
    *beyond(
        reused("directives-empty-members", PARSING, REQUIRED, "Empty members of the list mean nothing.", cc(", ,max-age=3600, ,")),
        reused("two-max-ages-alike", LIFETIME, OPTIONAL, "The same max-age twice is one.", cc("max-age=3600, max-age=3600")),
        asked("max-age-no-value", MAX_AGE, REQUIRED, "max-age without a number is over.", cc("max-age"), ("Expires", 3600)),
        asked("no-store-behind-stray-quote", PARSING, OPTIONAL, "A stray quotation mark hides no directive.", cc('ext=", max-age=3600, no-store')),
    ),
)


def _expires(value: str) -> tuple[Line, Line]:
    return ("Expires", value), DATE


FAR = 30 * 24 * 60 * 60
EXPIRING = (
    reused("expires", EXPIRES, OPTIONAL, "It is reused before Expires.", ("Expires", FAR), DATE),
    asked("expires-past", EXPIRES, REQUIRED, "It is not reused where Expires has passed.", ("Expires", -FAR), DATE),
    asked("expires-now", EXPIRES, REQUIRED, "It is not reused where Expires is its Date.", ("Expires", 0), DATE, after=0),
    asked("expires-before-date", LIFETIME, REQUIRED, "It is not reused where Expires precedes its Date.", ("Expires", 300), ("Date", 400)),
    asked("expires-0", EXPIRES, REQUIRED, "Expires: 0 has passed.", *_expires("0")),
    reused("expires-bad-date", LIFETIME, OPTIONAL, "Expires counts beside an invalid Date.", ("Date", "foo"), ("Expires", 10), after=0),
    asked("expires-aged-slow", LIFETIME, REQUIRED, "Age may exceed Expires - Date, with a slow Date.", ("Date", -10), ("Expires", 10), ("Age", "25"), after=0),
    asked("expires-aged-fast", LIFETIME, REQUIRED, "Age may exceed Expires - Date, with a fast Date.", ("Date", 10), ("Expires", 20), ("Age", "15"), after=0),
    reused("expires-32-bits", EXPIRES, OPTIONAL, "It may be past 31 bits.", *_expires("Tue, 19 Jan 2038 14:14:08 GMT")),
    reused("expires-far", EXPIRES, OPTIONAL, "It may be centuries ahead.", *_expires("Sun, 21 Nov 2286 04:46:39 GMT")),
    reused("expires-rfc850", "9110 §5.6.7", OPTIONAL, "The format of RFC 850 counts.", *_expires("Thursday, 18-Aug-50 02:01:18 GMT")),
    reused("expires-asctime", "9110 §5.6.7", OPTIONAL, "The format of asctime counts.", *_expires("Thu Aug  8 02:01:18 2050")),
    reused("expires-case-day", "9111 §4.2", OPTIONAL, "The case of the weekday means nothing.", *_expires("THU, 18 Aug 2050 02:01:18 GMT")),
    reused("expires-case-month", "9111 §4.2", OPTIONAL, "The case of the month means nothing.", *_expires("Thu, 18 AUG 2050 02:01:18 GMT")),
    reused("expires-case-zone", "9111 §4.2", OPTIONAL, "The case of the zone means nothing.", *_expires("Thu, 18 Aug 2050 02:01:18 gMT")),
    asked("expires-utc", EXPIRES, REQUIRED, "UTC is no zone of a date.", *_expires("Thu, 18 Aug 2050 02:01:18 UTC")),
    asked("expires-zone", EXPIRES, REQUIRED, "No other zone is one.", *_expires("Thu, 18 Aug 2050 02:01:18 AEST")),
    asked("expires-short-year", EXPIRES, REQUIRED, "A year has four digits.", *_expires("Thu, 18 Aug 50 02:01:18 GMT")),
    asked("expires-no-comma", EXPIRES, REQUIRED, "A comma follows the weekday.", *_expires("Thu 18 Aug 2050 02:01:18 GMT")),
    asked("expires-spaces", EXPIRES, REQUIRED, "Single spaces stand between the parts.", *_expires("Thu, 18  Aug  2050 02:01:18 GMT"), after=0),
    asked("expires-dashes", EXPIRES, REQUIRED, "No dashes stand between them.", *_expires("Thu, 18-Aug-2050 02:01:18 GMT"), after=0),
    asked("expires-periods", EXPIRES, REQUIRED, "Colons stand in the time.", *_expires("Thu, 18 Aug 2050 02.01.18 GMT"), after=0),
    asked("expires-short-hour", EXPIRES, REQUIRED, "An hour has two digits.", *_expires("Thu, 18 Aug 2050 2:01:18 GMT"), after=0),
    asked("expires-lines", LIFETIME, REQUIRED, "Of two lines none counts.", *_expires("Thu, 18 Aug 2050 2:01:18 GMT"), ("Expires", "Thu, 18 Aug 2050 2:01:19 GMT"), after=0),
    *beyond(
        asked("expires-lines-valid", LIFETIME, REQUIRED, "... nor if both are dates.", ("Expires", 3600), ("Expires", 7200), DATE),
        asked("expires-empty", EXPIRES, REQUIRED, "An empty Expires has passed.", *_expires("")),
        asked("expires-minus-1", EXPIRES, REQUIRED, "Expires: -1 has passed.", *_expires("-1")),
        asked("expires-hour-24", EXPIRES, REQUIRED, "There is no hour 24.", *_expires("Thu, 18 Aug 2050 24:01:18 GMT")),
        Row(
            "expires-no-date", "9111 §4.2.3", REQUIRED, "Without a Date of the app no time counts twice: Expires leaves as max-age.",
            (first(("Expires", 3600)), Step(REUSED, after=PAUSE, has=(cc("max-age=3600"),), lacks=("Expires",), older=3)),
        ),
    ),
)


def _aged(*values: str) -> tuple[Line, ...]:
    return (HOUR, DATE, *[("Age", value) for value in values])


AGED = (
    reused("age-word", AGE, REQUIRED, "An Age that is no number does not count.", *_aged("abc")),
    reused("age-negative", AGE, REQUIRED, "A negative Age does not count.", *_aged("-7200")),
    reused("age-decimal", AGE, REQUIRED, "7200.0 does not count.", *_aged("7200.0")),
    asked("age-31-bits", AGE, REQUIRED, "An Age of 2^31 - 1 counts.", *_aged("2147483647")),
    asked("age-2-31", "9111 §1.2.2", REQUIRED, "An Age of 2^31 counts.", *_aged("2147483648")),
    asked("age-past-2-31", "9111 §1.2.2", REQUIRED, "An Age of 2^31 + 1 counts.", *_aged("2147483649")),
    asked("age-list-old", AGE, REQUIRED, "Of several members the first counts: an old one.", *_aged("7200, 0")),
    reused("age-list-young", AGE, REQUIRED, "Of several members the first counts: a young one.", *_aged("0, 7200")),
    asked("age-lines-old", AGE, REQUIRED, "Of several lines the first counts: an old one.", *_aged("7200", "0")),
    reused("age-lines-young", AGE, REQUIRED, "Of several lines the first counts: a young one.", *_aged("0", "7200")),
    reused("age-list-0", AGE, REQUIRED, "0 twice is 0.", *_aged("0, 0")),
    reused("age-lines-0", AGE, REQUIRED, "0 on two lines is 0.", *_aged("0", "0")),
    reused("age-lines-alike", AGE, REQUIRED, "An Age on two lines counts once.", cc("max-age=10000"), DATE, ("Age", "3600"), ("Age", "3600")),
    reused("age-parameter", AGE, OPEN, "An Age with a parameter does not count.", *_aged("7200;foo=bar"), otherwise="it is no number of seconds, and §5.1 has such a field ignored"),
    reused("age-number-parameter", AGE, OPEN, "... whatever its value.", *_aged("7200;foo=111"), otherwise="it is no number of seconds, and §5.1 has such a field ignored"),
)


def _guess(code: int, kind: object, *more: Line, again: bool, otherwise: str = "", label: str = "") -> Row:
    lines: tuple[Line, ...] = (("Last-Modified", -24 * 60 * 60), DATE, *more)
    said = answer(*lines, status=code)
    required = REQUIRED if kind is REQUIRED else OPTIONAL
    outcome = REUSED if again else ASKED
    says = f"A {code}{label} is {'reused' if again else 'not reused'} by its Last-Modified alone."
    steps = (Step(ASKED, said), Step(outcome, said, status=code))
    return Row(f"guess-{code}{'-public' if label else ''}", HEURISTIC, required, says, steps, otherwise=otherwise)


def _modified(seconds: int) -> Row:
    says = f"A tenth of the {seconds} s since it was modified counts."
    lines: tuple[Line, ...] = (("Last-Modified", -seconds), DATE)
    if seconds <= 10 * PAUSE:
        why = f"a tenth of {seconds} s is over after {PAUSE} s"
        steps = (first(*lines), Step(VALIDATED, Answer(status=304), after=PAUSE))
        return Row(f"guess-{seconds}-s", HEURISTIC, OPEN, says, steps, otherwise=why)
    return reused(f"guess-{seconds}-s", HEURISTIC, OPEN, says, *lines)


_BY_THE_REQUEST = "what the request itself caused is never stored, whatever the fields say: one bad request would be everybody's answer"
GUESSED = (
    *[_guess(code, OPTIONAL, again=True) for code in (200, 203, 204, 404, 410)],
    *[_guess(code, OPTIONAL, again=False, otherwise=_BY_THE_REQUEST) for code in (405, 414, 501)],
    *[_guess(code, REQUIRED, again=False) for code in (201, 202, 403, 502, 503, 504, 599)],
    _guess(599, OPTIONAL, cc("public"), again=True, label=" with public"),
    *[_modified(seconds) for seconds in (5, 10, 30, 60, 300, 600, 1200, 1800, 3600, 43_200, 86_400)],
)

ROWS = (*DIRECTIVES, *PARSED, *EXPIRING, *AGED, *GUESSED)
