"""HTTP dates (RFC 9110 §5.6.7).

The three formats are matched strictly, since a date that is not one of them means "already expired" (RFC 9111 §5.3),
and without regard to case, as a cache should (RFC 9111 §4.2). The day of the week is not compared with the date:
nothing depends on it. Only `GMT` is a time zone.
"""

from __future__ import annotations

import re
from datetime import date

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}

_EPOCH = date(1970, 1, 1).toordinal()
_LAST_SECOND = (date.max.toordinal() - _EPOCH + 1) * 86_400 - 1
_FIFTY_YEARS = int(50 * 365.2425 * 86_400)

_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = rb"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

_IMF_FIXDATE = re.compile(
    rb"%b, (?P<day>\d\d) %b (?P<year>\d{4}) %b gmt" % (_DAY, _MONTH, _TIME),
    re.IGNORECASE,
)
_RFC_850 = re.compile(
    rb"%b, (?P<day>\d\d)-%b-(?P<year>\d\d) %b gmt" % (_LONG_DAY, _MONTH, _TIME),
    re.IGNORECASE,
)
_ASCTIME = re.compile(
    rb"%b %b (?P<day>\d\d| \d) %b (?P<year>\d{4})" % (_DAY, _MONTH, _TIME),
    re.IGNORECASE,
)


def _seconds(year: int, match: re.Match[bytes]) -> int | None:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if hour > 23 or minute > 59 or second > 60:  # 60 is a leap second
        return None
    try:
        day = date(year, _MONTH_NUMBERS[match["month"].lower()], int(match["day"]))
    except ValueError:
        return None
    return (day.toordinal() - _EPOCH) * 86_400 + hour * 3_600 + minute * 60 + second


def parse_date(value: bytes, now: float) -> int | None:
    """A date as Unix time in whole seconds; None if it is no valid HTTP date.

    `now` is Unix time. It decides the century of the two-digit years of RFC 850: a date that would lie more than
    50 years ahead belongs to the past.
    """
    value = value.strip(b" \t")
    match = _IMF_FIXDATE.fullmatch(value) or _ASCTIME.fullmatch(value)
    if match is not None:
        return _seconds(int(match["year"]), match)
    match = _RFC_850.fullmatch(value)
    if match is None:
        return None
    ordinal = _EPOCH + int(min(max(now, 0.0), _LAST_SECOND)) // 86_400
    century = date.fromordinal(ordinal).year // 100
    for years in (century + 1, century):
        seconds = _seconds(years * 100 + int(match["year"]), match)
        if seconds is not None and seconds <= now + _FIFTY_YEARS:
            return seconds
    return _seconds((century - 1) * 100 + int(match["year"]), match)
