"""Memcached URLs: which servers, and whether over TLS.

    memcached://host[:port][,host[:port]...]
    memcacheds://...                           over TLS, with the parameters of `rediss://` (`ssl_ca_certs=...`)
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis.connection as sio

from tiercache.errors import ConfigError
from tiercache.tiers.redis_connections import Tls

PORT = 11211
_ACCEPTED = "memcached://host[:port][,host[:port]...], memcacheds for TLS"


class Address(NamedTuple):
    """How one server is reached."""

    host: str
    port: int
    tls: Tls | None = None

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


class _Refused(Exception):
    pass


def parse_url(url: str, setting: str = "url") -> tuple[Address, ...]:
    """The servers, each once. Raises `ConfigError` for anything that could only fail later."""
    try:
        return _parse(url)
    except _Refused as refused:
        # Somebody may have thought that Memcached has passwords.
        shown = re.sub(r"//.*@", "//***@", url)
        raise ConfigError(setting, shown, f"{_ACCEPTED} ({refused})") from refused.__cause__


def _parse(url: str) -> tuple[Address, ...]:
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise _Refused("Memcached is not logged in to: let the network decide who reaches it")
        hosts = [_host_of(host) for host in parts.netloc.split(",")]
    except ValueError:
        raise _Refused("host or port is wrong") from None
    if parts.path not in ("", "/"):
        raise _Refused("there is nothing behind the hosts")
    tls = None
    if parts.scheme.lower() == "memcacheds":
        tls = Tls(_tls_options(parts.query))
        try:
            tls.context()
        except (OSError, ValueError) as error:
            raise _Refused(str(error) or type(error).__name__) from error
    elif parts.query:
        raise _Refused("parameters are for TLS alone, memcacheds://; timeouts and pool size are settings of tiercache")
    return tuple(dict.fromkeys(Address(host, port, tls) for host, port in hosts))


def _host_of(written: str) -> tuple[str, int]:
    parts = urlsplit(f"//{written}")
    host = parts.hostname
    if not host or parts.port == 0:
        raise ValueError("no host")
    host.encode("idna")
    return host, parts.port or PORT


def _tls_options(query: str) -> dict[str, Any]:
    if unknown := [part.partition("=")[0] for part in query.split("&") if part and not part.startswith("ssl_")]:
        raise _Refused(f"unknown parameter {unknown[0]!r}; timeouts and pool size are settings of tiercache")
    try:
        options: dict[str, Any] = sio.parse_url(f"rediss://h/?{query}")  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise _Refused(str(error)) from None
    return {name: value for name, value in options.items() if name.startswith("ssl_")}
