"""Explicit invalidation: from what a user names to members of the ledger, the barrier, and the receipt."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypedDict
from urllib.parse import unquote, urlsplit

from tiercache.core.keys import url_tag
from tiercache.core.policy import parse_duration
from tiercache.core.policy_settings import Duration
from tiercache.core.records import HARD, SOFT, SOFT_EVERYTHING, is_text
from tiercache.core.routes import RouteTable
from tiercache.core.validation import refuse_unknown
from tiercache.engine import flows
from tiercache.engine.barrier import Fleet, wait_for_fleet
from tiercache.engine.effects import Flow
from tiercache.engine.engine import Engine
from tiercache.errors import ConfigError, PurgeUnconfirmed

Names = str | Iterable[str]
_UNFILLED: Final = re.compile(r"^t:.*\{[A-Za-z_]\w*\}")
"""A tag with a parameter in it, as the templates of rules have them: most likely an f-string without its f."""


class PurgeSettings(TypedDict, total=False):
    """What `purge` takes."""

    tags: Names | None
    urls: Names | None
    route: Names | None
    prefix: Names | None
    glob: Names | None
    everything: bool
    soft: bool
    wait: bool
    settle: Duration | None
    quiet: bool


class Purge(NamedTuple):
    """One purge as it is to be carried out."""

    named: tuple[str, ...]
    """What is invalidated, as the ledger names it: `t:` a tag, `p:` a path, `u:` a URL, `r:` a route, `b:` a ban."""
    members: tuple[str, ...]
    """The members of the ledger to raise."""
    everything: bool
    """The floor of the ledger is raised, in place of members."""
    wait: bool
    settle: float
    quiet: bool = False
    """Whether the receipt alone tells that it is not confirmed."""


class PurgeReceipt(NamedTuple):
    """What a purge has done. It holds in every process within the staleness bound of the moment it returned."""

    epoch: str
    """The history that the number belongs to."""
    number: int
    """Its number in the ledger, the last one where it took several: what is stored with a lower one is dead."""
    members: tuple[str, ...]
    """What was invalidated, as the ledger names it: `t:` a tag, `p:` a path, `u:` a URL, `r:` a route, `b:` a ban."""
    everything: bool
    shared: bool
    """Whether other processes hear of it; False where there is no shared tier, or none with a ledger."""
    acknowledged: tuple[str, ...] = ()
    """With `wait=True`, the processes that have told that they apply it."""
    isolated: tuple[str, ...] = ()
    """With `wait=True`, the processes seen lately that have not: cut off or ended. Cut off, they may go on answering
    with what they have filled themselves, for the `isolated_ttl` of its rule."""
    confirmed: bool = True
    """False, with `quiet=True` alone: Redis has not confirmed it. It holds in this process, and is queued."""


def _strings(setting: str, value: Names | None) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, Iterable):
        raise ConfigError(setting, value, "a non-empty string, or several")
    values: list[Any] = [value] if isinstance(value, str) else list(value)
    for item in values:
        # What is no text could never be written to the ledger, and would hold up the queue of what waits for it.
        if not isinstance(item, str) or not item or not is_text(item):
            raise ConfigError(setting, item, "a non-empty string, or several")
    return values


def _flag(setting: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(setting, value, "True or False")
    return value


def _urls(setting: str, value: Names | None) -> list[str]:
    members = []
    for url in _strings(setting, value):
        if url.startswith("/"):
            # The path that the app sees, whether it is given encoded or not.
            path = url.partition("?")[0]
            if path != url:
                raise ConfigError(setting, url, "a path without a query (it means any), or a full URL")
            members += ["p:" + path] if unquote(path) == path else ["p:" + path, "p:" + unquote(path)]
            continue
        try:
            parts = urlsplit(url)
            target, query = (parts.path or "/").encode(), parts.query.encode()
        except ValueError:
            parts, target, query = urlsplit(""), b"", b""
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(setting, url, "a path such as '/products/1', or a full URL with http:// or https://")
        members.append(url_tag(parts.scheme, parts.netloc.encode("latin-1", "replace"), target, query))
    return members


def _routes(setting: str, routes: RouteTable, value: Names | None) -> list[str]:
    templates = {known.template for known in routes}
    named = _strings(setting, value)
    for template in named:
        if template not in templates:
            known_ones = ", ".join(sorted(templates)) or "there are none"
            raise ConfigError(setting, template, f"the template of a rule: {known_ones}")
    return ["r:" + template for template in named]


def _bans(where: str, settings: PurgeSettings, soft: bool) -> list[str]:
    members = []
    named = (("prefix", "b:p:", settings.get("prefix")), ("glob", "b:g:", settings.get("glob")))
    for setting, kind, value in named:
        for text in _strings(f"{where}: {setting}", value):
            if not text.startswith(("/", "*")) or (text[0] == "*" and setting == "prefix"):
                raise ConfigError(f"{where}: {setting}", text, "a path that begins with '/'")
            if soft:
                raise ConfigError(f"{where}: {setting}", text, "no paths to ban beside soft=True; bans are hard")
            # As the app sees paths, whether it is given encoded or not.
            members += [kind + text] if unquote(text) == text else [kind + text, kind + unquote(text)]
    return members


def purge_for(routes: RouteTable, settings: PurgeSettings, where: str = "purge") -> Purge:
    """The purge that a user names; errors name its settings as `where: setting`.

    Raises:
        ConfigError: nothing is named, a URL is neither a path nor absolute, no rule has the route's template, or a
            setting is unknown or of another kind.
    """
    for name, value in settings.items():
        if name not in PurgeSettings.__annotations__:
            refuse_unknown(where, name, value, PurgeSettings.__annotations__)
    everything = _flag(f"{where}: everything", settings.get("everything", False))
    soft = _flag(f"{where}: soft", settings.get("soft", False))
    tags = ["t:" + tag for tag in _strings(f"{where}: tags", settings.get("tags"))]
    bans = _bans(where, settings, soft)
    tags += _urls(f"{where}: urls", settings.get("urls"))
    tags += _routes(f"{where}: route", routes, settings.get("route"))
    if not tags and not bans and not everything:
        raise ConfigError(where, None, "at least one of tags, urls, route, prefix, glob and everything=True")
    kind = SOFT if soft else HARD
    members = [*[kind + tag for tag in tags], *bans]
    if everything:
        members = [SOFT_EVERYTHING] if soft else []
    settle = settings.get("settle")
    return Purge(
        named=tuple(dict.fromkeys([*tags, *bans])),
        members=tuple(dict.fromkeys(members)),
        everything=everything and not soft,
        wait=_flag(f"{where}: wait", settings.get("wait", False)),
        settle=0.0 if settle is None else parse_duration(f"{where}: settle", settle),
        quiet=_flag(f"{where}: quiet", settings.get("quiet", False)),
    )


def unconfirmed(error: BaseException) -> PurgeUnconfirmed:
    """What a caller is told whose purge the shared tier has not confirmed."""
    return PurgeUnconfirmed(
        "the shared tier has not confirmed the purge: it holds in this process, and is queued until that tier "
        f"answers again ({error})"
    )


def carry_out(engine: Engine, purge: Purge) -> Flow[PurgeReceipt]:
    """Invalidate in every process, and with `wait` stay until each has applied it or trusts nothing any more.

    Raises:
        PurgeUnconfirmed: the shared tier has not confirmed it. It holds in this process and is queued for the rest.
            Where it is to be quiet, the receipt says so.
    """
    everything = purge.everything or SOFT_EVERYTHING in purge.members
    for name in purge.named:
        if "{" in name and _UNFILLED.search(name):
            engine.complaints.swallow("purge of a template", f"{name[2:]!r} is no tag yet; f{name[2:]!r} would be")
    if not purge.members and not purge.everything:
        return PurgeReceipt(*engine.ledger.stamp(), purge.named, False, _shared(engine))
    deadline = time.monotonic() + engine.settings.purge_timeout
    messages, error = yield from flows.invalidate(engine, purge.members, purge.everything, deadline, ack=purge.wait)
    if error is not None:
        if purge.quiet:
            return PurgeReceipt(*engine.ledger.stamp(), purge.named, everything, _shared(engine), confirmed=False)
        raise unconfirmed(error) from error
    last = messages[-1]
    fleet = Fleet((), ())
    if purge.wait and engine.shared is not None:
        fleet = yield from wait_for_fleet(engine, last)
    return PurgeReceipt(last.epoch, last.number, purge.named, everything, _shared(engine), *fleet)


def _shared(engine: Engine) -> bool:
    """Whether other processes hear of a purge."""
    return engine.shared is not None and not engine.shared.alone
