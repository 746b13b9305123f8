from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from quart import Quart

from tiercache import ConfigError, TierCache
from tiercache.integrations.flask import FlaskTierCache
from tiercache.integrations.quart import QuartTierCache


def application(name: str = "shop", **config: Any) -> Quart:
    app = Quart(name)
    app.config.update(config)
    app.calls = []  # type: ignore[attr-defined]

    @app.get("/p/<int:number>")
    async def page(number: int) -> str:
        app.calls.append(number)  # type: ignore[attr-defined]
        return "x" * len(app.calls)  # type: ignore[attr-defined]

    return app


async def said(app: Quart, path: str = "/p/1") -> str:
    response = await app.test_client(use_cookies=False).get(path)
    outcome: str = response.headers["Cache-Status"]
    return outcome.partition("; ttl=")[0]


HIT, STORED = "tiercache; hit", "tiercache; fwd=miss; stored"
RULES = {"/p/{id}": {"ttl": "10m", "tags": ["product:{id}"]}}


async def test_an_app_and_rules_in_its_configuration() -> None:
    app = application(TIERCACHE_ROUTES=RULES, TIERCACHE_L1_SIZE="1MiB")
    extension = QuartTierCache(app)
    assert [await said(app), await said(app)] == [STORED, HIT]
    assert extension.cache.settings.l1_size == 1 << 20
    await extension.apurge(tags="product:1")
    assert await said(app) == STORED
    extension_of_all = app.extensions["tiercache"]
    assert isinstance(extension_of_all, TierCache)
    assert extension_of_all is extension.cache


async def test_a_factory_a_decorator_and_the_app_at_work() -> None:
    extension = QuartTierCache()
    extension.route("/p/{id}", **RULES["/p/{id}"])  # type: ignore[arg-type]
    apps = [application(name) for name in ("one", "two")]
    for app in apps:

        @app.get("/declared/<name>")
        @extension.cached(ttl="10m", tags=["named:{name}"])
        async def declared(name: str) -> str:
            return name

        extension.init_app(app)
        assert [await said(app), await said(app)] == [STORED, HIT]
        assert [await said(app, "/declared/a"), await said(app, "/declared/a")] == [STORED, HIT]
    with pytest.raises(ConfigError, match=r"QuartTierCache\.cache"):
        await extension.apurge(tags="product:1")
    async with apps[0].app_context():
        await extension.apurge(tags=["product:1", "named:a"])
    assert [await said(app) for app in apps] == [STORED, HIT]
    assert [await said(app, "/declared/a") for app in apps] == [STORED, HIT]


@pytest.mark.parametrize("extension", [FlaskTierCache, QuartTierCache])
def test_something_else_than_a_cache_is_refused_by_name(extension: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=f"{extension.__name__}: cache") as raised:  # type: ignore[attr-defined]
        extension(cache="redis://:secret@localhost")
    assert "secret" not in str(raised.value)


def test_bad_configuration() -> None:
    with pytest.raises(ConfigError, match=r"TIERCACHE_L1_SIZ: .*TIERCACHE_L1_SIZE"):
        QuartTierCache(application(TIERCACHE_L1_SIZ="1MiB"))
    with pytest.raises(ConfigError, match="TIERCACHE_L1_SIZE"):
        QuartTierCache(application(TIERCACHE_L1_SIZE="1MiB"), cache=TierCache())


async def test_what_a_purge_may_say() -> None:
    app = application(TIERCACHE_ROUTES=RULES)
    extension = QuartTierCache(app)
    for what in ({"prefix": "/p/"}, {"glob": "/*/1"}, {"urls": "/p/1", "wait": True}):
        assert [await said(app), await said(app)] == [STORED, HIT]
        await extension.apurge(**what)  # type: ignore[arg-type]
    assert await said(app) == STORED
