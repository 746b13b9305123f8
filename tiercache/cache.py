"""`TierCache`: wires settings, tiers, engine and faces together, and nothing more."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, Self, TypeVar, Unpack, cast

from tiercache.asgi import ASGIMiddleware
from tiercache.asgi_fills import ASGIApp
from tiercache.config import CacheSettings, Settings, SourcedSettings
from tiercache.config.checks import without_effect
from tiercache.config.effective import Configuration
from tiercache.config.sources import CONFIG_VARIABLE, gathered
from tiercache.config.toml import NOTHING, Document, read_toml
from tiercache.core.event_rules import EventRule, EventRules, EventSettings
from tiercache.core.named_policies import NamedPolicies
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import SESSION, PolicySettings
from tiercache.core.routes import IN_CODE, Route, RouteTable
from tiercache.engine.clocks import boot_clock
from tiercache.engine.declare import declares_from
from tiercache.engine.effects import Flow, adrive, drive
from tiercache.engine.emitting import checked, purges_of, united
from tiercache.engine.engine import Engine
from tiercache.engine.explaining import ExplainedEngine
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.purging import Purge, PurgeReceipt, PurgeSettings, carry_out, purge_for
from tiercache.errors import ConfigError, PurgeError
from tiercache.explained import ExplainedASGI, ExplainedWSGI
from tiercache.strategies import Strategies
from tiercache.tiers.choice import shared_tier
from tiercache.tiers.memory import MemoryTier, size_of
from tiercache.wsgi import WSGIMiddleware
from tiercache.wsgi_fills import WSGIApp

if TYPE_CHECKING:
    from tiercache.tiers.redis_credentials import CredentialProvider

_log = logging.getLogger("tiercache.config")
View = TypeVar("View", bound=Callable[..., Any])


class TierCache(Strategies):
    """One cache: its tiers, the rules of its routes, and the apps around which it is put.

    A hit skips the app, and with it the app's own login checks, rate limits and dependencies. That is why requests
    with credentials bypass the cache unless a rule or the app says otherwise.

    Args:
        url: the shared tier, e.g. `redis://localhost:6379/0`; None for this process alone.
        credentials: asked for user and password at each new connection, in place of those in the URL, as redis-py's
            credential providers are.
        settings: see `tiercache.config`; durations are seconds, a `timedelta` or text such as `"5s"`.

    Raises:
        ConfigError: a setting that cannot work, named in the message.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        credentials: CredentialProvider | None = None,
        **settings: Unpack[CacheSettings],
    ) -> None:
        self.settings = Settings(url=url, **settings)
        self.sources: Mapping[str, str] = dict.fromkeys(self.settings.given, IN_CODE)
        """Where each setting was written that has not its default."""
        self.routes = RouteTable()
        self.policies = NamedPolicies()
        self.events = EventRules()
        memory = MemoryTier(self.settings.l1_size, timer=boot_clock)
        shared = shared_tier(self.settings, credentials)
        make = ExplainedEngine if self.settings.debug else Engine
        self._engine = make(self.settings, self.routes, memory, shared, size_of)
        self._lifecycle = Lifecycle(self._engine)
        self._announced = False
        self._begin_stores()
        if shared is not None and shared.alone:
            self._engine.complaints.swallow(
                "purges stay in this process", "Memcached has no ledger; give ledger='redis://...' beside its URL"
            )

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        *,
        environ: Mapping[str, str] | None = None,
        credentials: CredentialProvider | None = None,
        **settings: Unpack[SourcedSettings],
    ) -> Self:
        """A cache with settings, named policies and rules from a TOML file, or from `[tool.tiercache]` of a
        `pyproject.toml`.

        Args:
            path: of the file.
            environ: where `TIERCACHE_` variables are looked for, which are stronger than the file; None: `os.environ`.
            credentials: as above.
            settings: stronger than both.

        Raises:
            ConfigError: the file cannot be read, or says something that is not accepted, named by file, table, setting
                and value; or a variable is not accepted.
        """
        return cls._configured(read_toml(path), os.environ if environ is None else environ, credentials, settings)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        credentials: CredentialProvider | None = None,
        **settings: Unpack[SourcedSettings],
    ) -> Self:
        """A cache with settings from `TIERCACHE_URL`, `TIERCACHE_L1_SIZE` and so on, over those of the TOML file that
        `TIERCACHE_CONFIG` names, if it does. The rest is as for `from_toml`.
        """
        environ = os.environ if environ is None else environ
        path = environ.get(CONFIG_VARIABLE, "").strip()
        return cls._configured(read_toml(path) if path else NOTHING, environ, credentials, settings)

    @classmethod
    def _configured(
        cls,
        document: Document,
        environ: Mapping[str, str],
        credentials: CredentialProvider | None,
        settings: SourcedSettings,
    ) -> Self:
        gained, sources = gathered(document.settings, environ, cast("dict[str, Any]", settings), document.name)
        cache = cls(gained.pop("url", None), credentials=credentials, **gained)
        cache.sources = sources
        cache.policies.configure(document.policies, document.used)
        for route in document.routes:
            cache._admit(route)
        for event in document.events:
            cache.events.add(checked(cache.routes, event))
        return cache

    # -- what is cached ----------------------------------------------------------------------------------------------

    def route(self, template: str, policy: Policy | str | None = None, **settings: Unpack[PolicySettings]) -> Route:
        """Add a rule; the first rule that matches a path decides.

        What a configuration file says of the same template is put over it, setting by setting.

        Args:
            template: a path with parameters as Starlette writes them: `/p/{id}`, `/n/{x:int}`, `/files/{rest:path}`.
            policy: a policy to start from, or the name of one; `settings` are put over it.

        Raises:
            ConfigError: a template or setting that cannot work, no setting, a policy that there is not, or a rule that
                an earlier one shadows.
        """
        return self._admit(Route.of(template, policy, settings, self.policies))

    def policy(self, name: str, **settings: Unpack[PolicySettings]) -> Policy:
        """Name a policy, for rules that follow: `cache.policy("pages", ttl="10m")`, `cache.route("/", "pages")`.

        What a configuration file says under the same name is put over it, setting by setting. Returns what holds.

        Raises:
            ConfigError: a setting that cannot work, no setting, or a name that another one has already.
        """
        return self.policies.add(name, Policy.parse(cast("dict[str, Any]", settings), f"policy {name!r}"))

    def _admit(self, route: Route) -> Route:
        held = self.routes.add(route)
        self.settings.check_consistency(f"{held.named}: consistency", held.policy.consistency)
        if held.policy.consistency == SESSION and self._engine.shared is not None:
            if self.settings.session_secret is None:
                raise ConfigError(
                    f"{held.named}: consistency",
                    SESSION,
                    "'bounded' or 'strong', or a session_secret beside the URL of the shared tier, "
                    "which signs what clients carry",
                )
            self._engine.sessions = True
        return held

    def cached(self, *bare: Never, **settings: Unpack[PolicySettings]) -> Callable[[View], View]:
        """Declare a policy beside a view. It comes into force with the view's first answer; rules are stronger.

        Raises:
            ConfigError: a setting that cannot work here, such as one that changes the key: requests are looked up
                before the view is reached.
        """
        return declares_from(bare, settings)

    # -- the faces ---------------------------------------------------------------------------------------------------

    def asgi(self, app: ASGIApp) -> ASGIMiddleware:
        """An ASGI application with the cache in front."""
        self._announce()
        make = ExplainedASGI if self.settings.debug else ASGIMiddleware
        return make(app, self._engine, self._lifecycle)

    def wsgi(self, app: WSGIApp) -> WSGIMiddleware:
        """A WSGI application with the cache in front."""
        self._announce()
        make = ExplainedWSGI if self.settings.debug else WSGIMiddleware
        return make(app, self._engine, self._lifecycle)

    def _announce(self) -> None:
        """Tell once what has no effect. No warning: a rule of the file that takes over is often what is meant."""
        if not self._announced:
            self._announced = True
            whole = Configuration(self.settings, self.sources, self.policies, self.routes, self.events)
            for finding in without_effect(whole):
                _log.info("%s: %s", finding.code, finding.message)

    # -- invalidation ------------------------------------------------------------------------------------------------

    def purge(self, **settings: Unpack[PurgeSettings]) -> PurgeReceipt:
        """Invalidate in every tier of every process of the namespace. Call it after the database has committed.

        Args:
            tags: of rules, decorators and `tiercache.tag`.
            urls: a path means that path with any query on every host; a full URL means that one.
            route: the template of a rule: everything stored under it.
            prefix: the beginning of paths: everything stored under them.
            glob: paths by pattern: `*` is any run of characters within a segment, `**` any run, `?` one character.
            everything: the whole namespace.
            soft: count what is named as stale instead of dead, so that it may be served while it is revalidated
                (`stale_while_revalidate`) and when the app fails (`stale_if_error`).
            wait: return when every process has applied it or trusts nothing any more: at most the staleness bound
                after the ledger has it.
            settle: repeat it once after this time, for views that read from a database replica which lags.
            quiet: where the shared tier does not confirm it, say so in the receipt (`confirmed`) and the log alone.

        Raises:
            PurgeUnconfirmed: the shared tier has not confirmed it; it holds here and is queued. Not with `quiet`.
            PurgeError: called on a running event loop, which it would block: `await apurge(...)` there.
            ConfigError: nothing to purge is named, or something that is none.
        """
        _refuse_on_a_loop("purge", "apurge")
        return drive(self._purging(settings))

    async def apurge(self, **settings: Unpack[PurgeSettings]) -> PurgeReceipt:
        """`purge` for async code."""
        return await adrive(self._purging(settings))

    def on(self, event: str, /, **settings: Unpack[EventSettings]) -> None:
        """Say what an event of the application purges. Several for one event add up, those of a file included.

        It has to be said in every process that emits the event; what an emit purges is the same for all.

        Args:
            event: its name, e.g. `"product.updated"`.
            settings: as for `purge`. `tags`, `urls`, `prefix` and `glob` are templates, filled from the arguments of
                the event: `"product:{id}"`; a function among the tags is given them by name and returns tags.

        Raises:
            ConfigError: a setting that cannot work, or nothing to purge.
        """
        self.events.add(checked(self.routes, EventRule.of(event, cast("dict[str, Any]", settings))))

    def emit(self, event: str, /, **arguments: object) -> PurgeReceipt:
        """Purge what `on` and `[[events]]` say of an event, by one write to the ledger. Call it after the commit.

        Raises:
            PurgeUnconfirmed: as `purge` does.
            PurgeError: called on a running event loop: `await aemit(...)` there.
            ConfigError: an event that has not been declared in this process; an argument that a template needs is
                missing, None, or an object that is no value.
        """
        _refuse_on_a_loop("emit", "aemit")
        return drive(self._carrying_out(purges_of(self.routes, self.events, event, arguments)))

    async def aemit(self, event: str, /, **arguments: object) -> PurgeReceipt:
        """`emit` for async code."""
        return await adrive(self._carrying_out(purges_of(self.routes, self.events, event, arguments)))

    def _purging(self, settings: PurgeSettings) -> Flow[PurgeReceipt]:
        return self._carrying_out([purge_for(self.routes, settings)])

    def _carrying_out(self, purges: list[Purge]) -> Flow[PurgeReceipt]:
        # It replays what the shared tier does not confirm.
        self._lifecycle.ensure_running()
        for purge in purges:
            if purge.settle:
                self._lifecycle.repeat(purge.members, purge.everything, purge.settle)
        return carry_out(self._engine, united(purges))

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen for invalidations now rather than with the first request. Harmless if called twice."""
        self._lifecycle.ensure_running()

    def close(self) -> None:
        """Stop listening and close the connections. A later request starts both again."""
        self._lifecycle.stop()

    async def aclose(self) -> None:
        """`close` for async code; closes the running loop's own connections too."""
        await self._lifecycle.astop()

    def stats(self) -> dict[str, Any]:
        """Counters of this process: hits, misses, purges, and everything that was bypassed, refused or swallowed."""
        return self._engine.stats.snapshot()


def _refuse_on_a_loop(name: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise PurgeError(f"{name}() would block the running event loop; use `await cache.{instead}(...)` here")
