"""Explicit invalidation: from what a user names to members of the ledger, and the receipt."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tiercache.core.keys import url_tag
from tiercache.core.routes import RouteTable
from tiercache.engine import flows
from tiercache.engine.effects import Flow
from tiercache.engine.engine import Engine
from tiercache.errors import ConfigError, PurgeUnconfirmed


class PurgeReceipt(NamedTuple):
    """What a purge has done. It holds in every process within the staleness bound of the moment it returned."""

    epoch: str
    """The history that the number belongs to."""
    number: int
    """Its number in the ledger, the last one where it took several: what is stored with a lower one is dead."""
    members: tuple[str, ...]
    """What was invalidated, as the ledger names it: `t:` a tag, `p:` a path, `u:` a URL, `r:` a route."""
    everything: bool
    shared: bool
    """Whether other processes hear of it; False where there is no shared tier."""


def _strings(setting: str, value: str | Iterable[str] | None) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, Iterable):
        raise ConfigError(f"purge: {setting}", value, "a non-empty string, or several")
    values = [value] if isinstance(value, str) else list(value)
    for item in values:
        if not item or not isinstance(item, str):
            raise ConfigError(f"purge: {setting}", item, "a non-empty string, or several")
    return values


def members_for(
    routes: RouteTable,
    *,
    tags: str | Iterable[str] | None,
    urls: str | Iterable[str] | None,
    route: str | Iterable[str] | None,
    everything: bool,
) -> list[str]:
    """The tags of the ledger that a purge names.

    Raises:
        ConfigError: nothing is named, a URL is neither a path nor absolute, or no rule has the route's template.
    """
    members = ["t:" + tag for tag in _strings("tags", tags)]
    for url in _strings("urls", urls):
        if url.startswith("/"):
            # The path that the app sees, whether it is given encoded or not.
            path = url.partition("?")[0]
            if path != url:
                raise ConfigError("purge: urls", url, "a path without a query (it means any), or a full URL")
            members += ["p:" + path] if unquote(path) == path else ["p:" + path, "p:" + unquote(path)]
            continue
        try:
            parts = urlsplit(url)
            target, query = (parts.path or "/").encode(), parts.query.encode()
        except ValueError:
            parts, target, query = urlsplit(""), b"", b""
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                "purge: urls", url, "a path such as '/products/1', or a full URL with http:// or https://"
            )
        members.append(url_tag(parts.scheme, parts.netloc.encode("latin-1", "replace"), target, query))
    templates = {known.template for known in routes}
    for template in _strings("route", route):
        if template not in templates:
            known_ones = ", ".join(sorted(templates)) or "there are none"
            raise ConfigError("purge: route", template, f"the template of a rule: {known_ones}")
        members.append("r:" + template)
    if not members and not everything:
        raise ConfigError("purge", None, "at least one of tags, urls, route and everything=True")
    return list(dict.fromkeys(members))


def purge(engine: Engine, members: Sequence[str], everything: bool) -> Flow[PurgeReceipt]:
    """Invalidate, hard, in every process.

    Raises:
        PurgeUnconfirmed: the shared tier has not confirmed it. It holds in this process and is queued for the rest.
    """
    deadline = time.monotonic() + engine.settings.purge_timeout
    messages, error = yield from flows.invalidate(engine, ["h:" + m for m in members], everything, deadline)
    if error is not None:
        raise PurgeUnconfirmed(
            "the shared tier has not confirmed the purge: it holds in this process, and is queued until that tier "
            f"answers again ({error})"
        ) from error
    last = messages[-1]
    return PurgeReceipt(last.epoch, last.number, tuple(members), everything, engine.shared is not None)
