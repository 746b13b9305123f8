"""Text as a log may show it. Messages of exceptions repeat what clients sent and what apps hold: passwords in URLs,
cookies, tokens. What looks like one of these is left out, and so is what is known to be secret, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from tiercache.core.credentials import CREDENTIAL_HEADERS

HIDDEN: Final = "***"
SHORTEST_SECRET: Final = 4
"""Characters: what is shorter occurs by chance, and to hide it everywhere would tell what it is."""

_AUTHORITY: Final = re.compile(r"://([^\s'\"<>]++)")
_SCHEME: Final = re.compile(r"\b(Bearer|Basic|Digest|Negotiate|Token)(\s+)[^\s'\",]{4,}", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)*")
_TOLD: Final = re.compile(
    r"pass(?:word|wd|phrase)|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|session(?:[_-]?id)?|sid|csrf|"
    r"signature|credentials?|auth(?:enticity)?(?![a-z])",
    re.IGNORECASE,
)
_SEPARATED: Final = r"(?:\\?['\"])?\s*(?:=>|[:=,])\s*"
"""What stands between a name and its value: `a: b`, `a=b`, `'a': 'b'`, `(b'a', b'b')`."""
# Each run of letters is looked at once, from its beginning and without going back: what is logged may be as long and as
# strange as a client likes.
_NAME: Final = re.compile(rf"(?<![\w-])([\w-]++){_SEPARATED}")
_VALUE: Final = re.compile(r"b?\\?['\"][^'\"]*|[^\s'\"&;,)}\]]+")
_PASSWORD: Final = re.compile(r"://[^/?#\s]*?:(?P<login>[^\s]*)@|[?&](?:sentinel_)?password=(?P<parameter>[^&#\s]*)")


def secret_name(name: str) -> bool:
    """Whether the value of a parameter with this name is likely to be a secret."""
    return _TOLD.search(name) is not None


def passwords_of(url: str | None) -> tuple[str, ...]:
    """The passwords in a URL, as they are written there and as they are meant."""
    found = [value for match in _PASSWORD.finditer(url or "") for value in match.groups() if value]
    return tuple(dict.fromkeys([*found, *map(unquote, found)]))


class Redactor:
    """Leaves out of a text what must not be shown.

    Args:
        headers: names of request fields that are credentials, beside `Cookie` and `Set-Cookie`.
        secrets: what is known to be secret.
    """

    __slots__ = ("_fields", "_known")

    def __init__(self, headers: Iterable[str] = CREDENTIAL_HEADERS, secrets: Iterable[str] = ()) -> None:
        names = {"cookie", "set-cookie", *headers}
        # As fields are written, and as a gateway writes them (HTTP_COOKIE).
        spelt = "|".join(re.escape(name).replace(r"\-", "[-_]") for name in sorted(names, key=len, reverse=True))
        # To the end of the line: what a cookie holds may look like anything.
        self._fields = re.compile(rf"(?<![A-Za-z0-9-])({spelt})({_SEPARATED})\S.*", re.IGNORECASE)
        told = [one for one in secrets if len(one) >= SHORTEST_SECRET]
        known = {form for one in told for form in (one, quote(one, safe=""), quote_plus(one))}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def known(self, text: str) -> str:
        """The text without what is known to be secret, and with all that only looks so."""
        return text if self._known is None else self._known.sub(HIDDEN, text)

    def __call__(self, text: str) -> str:
        text = self.known(text)
        text = _AUTHORITY.sub(_without_login, text)
        text = self._fields.sub(rf"\1\2{HIDDEN}", text)
        text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
        text = _JWT.sub(HIDDEN, text)
        return _without_named(text)


def _without_login(found: re.Match[str]) -> str:
    """The rest of a URL; a password that is not encoded may hold an @ itself."""
    _, at, rest = found[1].rpartition("@")
    return f"://{HIDDEN}@{rest}" if at else found[0]


def _without_named(text: str) -> str:
    """The text without the values that stand beside names of secrets."""
    parts, end = [], 0
    for found in _NAME.finditer(text):
        if found.start() < end or not secret_name(found[1]):
            continue
        value = _VALUE.match(text, found.end())
        if value is not None:
            parts += [text[end : found.end()], HIDDEN]
            end = value.end()
    return "".join([*parts, text[end:]])


redact: Final = Redactor()
"""For text that comes from no cache in particular."""
