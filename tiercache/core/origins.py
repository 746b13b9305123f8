"""What a response says of the origins whose scripts may read it (the Fetch standard, "CORS protocol and HTTP caches").

Whoever answers by the `Origin` of the request is to say `Vary: Origin` of every answer. Many say it of none, or only of
the answers that allow something. So a response that allows one origin counts as one that varies by `Origin`, whatever
its `Vary` says; and one that says nothing answers no origin of which it is not known that it would be told nothing.
"""

from __future__ import annotations

from tiercache.core.fields import OWS
from tiercache.core.messages import Fields

ORIGIN = b"origin"
_ALLOW = b"access-control-allow-origin"
_CREDENTIALS = b"access-control-allow-credentials"
_TIMING = b"timing-allow-origin"
_SAYING = frozenset({_ALLOW, _CREDENTIALS, _TIMING})


def open_to_origins(fields: Fields, asked: bytes | None = None) -> bool | None:
    """Whether a response is for all origins alike. None: it says nothing of them.

    False where it names one, be it `null`, and where it allows credentials beside `*`: no browser takes both together,
    so that an app means to name whoever asks. `Timing-Allow-Origin` is often one list for everybody: it counts where it
    says what was `asked`, the request's own `Origin`.
    """
    opened, credentials = None, False
    for name, value in fields:
        if name not in _SAYING:
            continue
        if name == _CREDENTIALS:
            credentials = True
        elif name == _TIMING:
            if value.strip(OWS) == asked:
                return False
        elif value.strip(OWS) != b"*":
            return False
        else:
            opened = True
    return False if opened and credentials else opened
