"""What a client carries of its own purges: epoch and number, signed, so that nobody can make a process look for a
history that never was.

The text is `<epoch>.<number>.<signature>`, or `!.<Unix time>.<signature>` after a purge that the shared tier has not
confirmed: until that time nothing that any process has stored is sure to be newer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from tiercache.core.records import Stamp

COOKIE = "tiercache-session"
FIELD = b"tiercache-session"
MAX_AGE = 60
"""Seconds that a client carries its mark, or twice the staleness bound where that is more: longer than any purge takes
to be known everywhere."""
UNCONFIRMED = "!"
_LONGEST = 200
_FORM = re.compile(r"(!|[0-9A-Za-z~_-]+)\.([0-9]{1,15})\.([0-9A-Za-z_-]{32})")


def sign(secret: str, stamp: Stamp) -> str:
    """The text for a client. `stamp.epoch` may be `UNCONFIRMED`, `number` is a Unix time then."""
    text = f"{stamp.epoch}.{stamp.number}"
    return f"{text}.{_signature(secret, text)}"


def read(secret: str, text: str) -> Stamp | None:
    """The stamp that a client brings; None if it is not one of ours."""
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    epoch, number, signature = found.groups()
    if not hmac.compare_digest(signature, _signature(secret, f"{epoch}.{number}")):
        return None
    return Stamp(epoch, int(number))


def _signature(secret: str, text: str) -> str:
    digest = hmac.digest(secret.encode(), b"tiercache-session:" + text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:24]).decode()
