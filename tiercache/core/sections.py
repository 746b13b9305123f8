"""Where the RFCs say why a request passes the store by, or a response is not stored."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SECTIONS: Final = MappingProxyType(
    {
        "method": "RFC 9111 §4",
        "route": "",
        "host": "RFC 9112 §3.2",
        "upgrade": "RFC 9110 §7.8",
        "body": "RFC 9110 §9.3.1",
        "forwarded": "",
        "cookie": "RFC 9111 §3.5, extended to cookies",
        "authorization": "RFC 9111 §3.5",
        "credential": "RFC 9111 §3.5, extended to other credentials",
        "range": "RFC 9110 §14.2",
        "condition": "RFC 9111 §4.3.2",
        "client": "RFC 9111 §5.2.1",
        "nested": "",
        "remembered": "",
        "status": "RFC 9111 §3, RFC 9110 §15.1",
        "no-store": "RFC 9111 §5.2.2.5",
        "private": "RFC 9111 §5.2.2.7",
        "no-cache": "RFC 9111 §5.2.2.4",
        "must-understand": "RFC 9111 §5.2.2.3",
        "ambiguous": "",
        "malformed": "RFC 9110 §5.5",
        "vary": "RFC 9111 §4.1",
        "set-cookie": "RFC 9111 §7.3",
        "event-stream": "",
        "no-lifetime": "RFC 9111 §3, §4.2.1",
        "expired": "RFC 9111 §4.2",
        "too-large": "",
        "incomplete": "RFC 9111 §3.3",
        "extension": "",
        "view": "",
        "data": "",
        "behind": "",
        "isolated": "",
    }
)
"""By the reasons of `decisions.REASONS`; empty where it is a rule of our own."""
