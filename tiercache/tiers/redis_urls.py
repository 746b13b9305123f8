"""Redis URLs: which servers, of which kind, and how to log in.

    redis://, rediss:// (TLS), unix://     one server
    redis+sentinel://, rediss+sentinel://  the primary of a service, as its sentinels name it
    redis+cluster://, rediss+cluster://    a Cluster, entered through any of its nodes

`valkey` and `valkeys` stand for `redis` and `rediss` everywhere.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import redis.connection as sio

from tiercache.errors import ConfigError
from tiercache.tiers.redis_connections import Address, Tls, make_async_connection, make_connection
from tiercache.tiers.redis_errors import PERMISSIONS
from tiercache.tiers.sockets import Resolver

_ACCEPTED = (
    "redis://[[user]:password@]host[:port][/db], unix://[[user]:password@]/path[?db=N], "
    "redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/service[/db], "
    "redis+cluster://[[user]:password@]host[:port][,host[:port]...]; "
    "rediss for TLS, valkey and valkeys for redis and rediss"
)
_SCHEMES = {("unix", "")} | {(scheme, kind) for scheme in ("redis", "rediss") for kind in ("", "sentinel", "cluster")}
_PARAMETERS = {"db", "client_name", "username", "password"}
_SENTINEL_PARAMETERS = {"sentinel_username", "sentinel_password"}
_READ_SIZE = 65_536

_PORT = 6379
_SENTINEL_PORT = 26379


def _introduction() -> dict[str, Any]:
    """What connections tell of the client library, found out once: left to itself, redis-py reads the metadata of its
    distribution for each connection, a millisecond in which an event loop stands still.
    """
    try:
        from redis.driver_info import DriverInfo
    except ImportError:  # an older one, which reads it once
        return {}
    return {"driver_info": DriverInfo()}


_INTRODUCTION = _introduction()


class Target(NamedTuple):
    """A parsed URL."""

    kind: str
    """`server`, `sentinel` or `cluster`."""
    where: str
    """All of it, for messages: no password."""
    seeds: tuple[Address, ...]
    """The server; the sentinels; some nodes of the Cluster."""
    address: Address
    """What a server is reached with; for `sentinel` and `cluster` but for its host and port."""
    service: str = ""
    """What the sentinels call the primary."""


class _Refused(Exception):
    pass


def parse_url(url: str, setting: str = "url") -> Target:
    """Read a Redis URL. Raises `ConfigError` for anything that could only fail later, with the password hidden."""
    given: object = url
    try:
        if not isinstance(given, str) or "://" not in given:
            raise _Refused("not a URL")
        return _parse(given)
    except _Refused as refused:
        shown = re.sub(r"(//[^:/@]*:).*@|(password=)[^&]*", r"\1\2***", given) if isinstance(given, str) else given
        raise ConfigError(setting, shown, f"{_ACCEPTED} ({refused})") from refused.__cause__


def _parse(url: str) -> Target:
    written, _, rest = url.partition("://")
    scheme, _, kind = written.lower().partition("+")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    if (scheme, kind) not in _SCHEMES:
        raise _Refused(f"unknown scheme {written!r}")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        login, at, listed = parts.netloc.rpartition("@")
        hosts = [_host_of(host, _SENTINEL_PORT if kind == "sentinel" else _PORT) for host in listed.split(",")]
    except ValueError:
        raise _Refused("host or port is wrong") from None
    path, service = parts.path, ""
    if scheme == "unix":
        if not path.startswith("/") or listed:
            raise _Refused("unix:// needs an absolute path")
    elif len(hosts) > 1 and not kind:
        raise _Refused("several hosts need +sentinel or +cluster")
    elif kind == "sentinel":
        service, _, db = path[1:].partition("/")
        service = unquote(service)
        if not service or re.search(r"\s", service):
            raise _Refused("the path must begin with the name of the service")
        path = f"/{db}"
    if scheme != "unix" and not re.fullmatch(r"/?|/\d+", path):
        raise _Refused("the path must be the number of a database")
    query = _query_of(parts.query, scheme, kind)
    own = "&".join(part for part in parts.query.split("&") if part.partition("=")[0] not in _SENTINEL_PARAMETERS)
    try:
        options: dict[str, Any] = sio.parse_url(  # type: ignore[no-untyped-call]
            f"{scheme}://{login}{at}{'' if scheme == 'unix' else 'h'}{path}{own and '?'}{own}"
        )
    except ValueError as error:
        raise _Refused(str(error)) from None
    if kind == "cluster" and options.get("db"):
        raise _Refused("a Cluster has database 0 alone")
    options = {name: value for name, value in options.items() if name not in ("connection_class", "host", "port")} | {
        **_INTRODUCTION,
        # The older reply format: replies come as plain values, and no HELLO is needed to agree on it.
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "socket_read_size": _READ_SIZE,
    }
    if scheme == "unix":
        address = Address(scheme, options["path"], options)
        return _tried(Target("server", address.where, (address,), address))
    tls = Tls(options) if scheme == "rediss" else None
    address = Address(scheme, "", options, PERMISSIONS[kind or "server"], primary=kind == "sentinel", tls=tls)
    where = ",".join(f"{host}:{port}" for host, port in hosts)
    if not kind:
        address = address.at(*hosts[0])
        return _tried(Target("server", where, (address,), address))
    if kind == "cluster":
        return _tried(Target(kind, where, tuple(address.at(*host) for host in hosts), address))
    spoken_to = {name: value for name, value in options.items() if name not in ("db", "username", "password")}
    for name in _SENTINEL_PARAMETERS & query.keys():
        spoken_to[name.removeprefix("sentinel_")] = query[name][0]
    sentinel = Address(scheme, "", spoken_to, "+ping +sentinel|get-master-addr-by-name", tls=tls)
    seeds = tuple(sentinel.at(*host) for host in hosts)
    return _tried(Target(kind, f"{where}/{service}", seeds, address, service))


def _host_of(written: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{written}")
    host = parts.hostname or "localhost"
    host.encode("idna")
    if parts.port == 0:
        raise ValueError("port 0")
    return host, parts.port or port


def _query_of(text: str, scheme: str, kind: str) -> dict[str, list[str]]:
    query = parse_qs(text, keep_blank_values=True)
    for name, values in query.items():
        known = name in _PARAMETERS or (name in _SENTINEL_PARAMETERS and kind == "sentinel")
        if not known and not (scheme == "rediss" and name.startswith("ssl_")):
            raise _Refused(f"unknown parameter {name!r}; timeouts and pool size are settings of tiercache")
        if name == "db" and not values[0].isdigit():
            raise _Refused("db must be the number of a database")
    return query


def _tried(target: Target) -> Target:
    for address in (target.seeds[0], target.address if target.kind == "server" else target.address.at("localhost", 1)):
        try:
            make_connection(address, Resolver())
            make_async_connection(address)
        except Exception as error:
            raise _Refused(str(error)) from error
    return target
