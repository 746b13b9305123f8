from __future__ import annotations

from typing import Any

import pytest

from tests.asgi_client import scope_for
from tests.servers import free_port
from tiercache import ConfigError, PurgeError, PurgeReceipt, PurgeUnconfirmed, TierCache
from tiercache.asgi import ASGIRequest
from tiercache.core.keys import bucket_of
from tiercache.core.records import is_text
from tiercache.core.routes import Route, RouteTable
from tiercache.engine.flows import changed_by
from tiercache.engine.purging import purge_for

ROUTES = RouteTable([Route("/products/{id}"), Route("/dashboard")])


@pytest.mark.parametrize(
    ("named", "members"),
    [
        ({"tags": "product:1"}, ["t:product:1"]),
        ({"tags": ["a", "b", "a"]}, ["t:a", "t:b"]),
        ({"tags": (name for name in "ab")}, ["t:a", "t:b"]),
        ({"urls": "/products/1"}, ["p:/products/1"]),
        ({"urls": ["http://Shop.example:80/a?b=1"]}, ["u:http://shop.example/a?b=1"]),
        ({"urls": "https://shop.example"}, ["u:https://shop.example/?"]),
        ({"route": "/dashboard"}, ["r:/dashboard"]),
        ({"route": ["/dashboard", "/products/{id}"]}, ["r:/dashboard", "r:/products/{id}"]),
        ({"tags": "a", "urls": "/x", "route": "/dashboard"}, ["t:a", "p:/x", "r:/dashboard"]),
    ],
)
def test_what_a_purge_names(named: dict[str, Any], members: list[str]) -> None:
    purge = purge_for(ROUTES, named)  # type: ignore[arg-type]
    assert purge.named == tuple(members)
    assert purge.members == tuple("h:" + member for member in members)


@pytest.mark.parametrize(
    ("settings", "members", "everything"),
    [
        ({"prefix": "/products/"}, ("b:p:/products/",), False),
        ({"glob": ["/a/*", "**.json"], "tags": "x"}, ("h:t:x", "b:g:/a/*", "b:g:**.json"), False),
        ({"tags": "a", "urls": "/x", "soft": True}, ("s:t:a", "s:p:/x"), False),
        ({"prefix": "/caf%C3%A9"}, ("b:p:/caf%C3%A9", "b:p:/café"), False),
        ({"everything": True}, (), True),
        ({"everything": True, "tags": "a"}, (), True),
        ({"everything": True, "soft": True}, ("s:*",), False),
    ],
)
def test_what_it_raises_in_the_ledger(settings: Any, members: tuple[str, ...], everything: bool) -> None:
    purge = purge_for(ROUTES, settings)
    assert (purge.members, purge.everything) == (members, everything)


def test_a_path_is_meant_encoded_or_not() -> None:
    assert {"p:/caf%C3%A9", "p:/café"} <= set(purge_for(ROUTES, {"urls": "/caf%C3%A9"}).named)


@pytest.mark.parametrize(
    ("named", "setting"),
    [
        ({}, "purge"),
        ({"tags": []}, "purge"),
        ({"tags": [""]}, "purge: tags"),
        ({"tags": [7]}, "purge: tags"),
        ({"tags": "\udce9"}, "purge: tags"),
        ({"urls": "/\udce9"}, "purge: urls"),
        ({"glob": "/\udce9*"}, "purge: glob"),
        ({"urls": "products/1"}, "purge: urls"),
        ({"urls": "/products/1?x=1"}, "purge: urls"),
        ({"urls": "ftp://shop.example/a"}, "purge: urls"),
        ({"route": "/nowhere"}, "purge: route"),
        ({"prefix": "products/"}, "purge: prefix"),
        ({"prefix": "*"}, "purge: prefix"),
        ({"glob": "products/*"}, "purge: glob"),
        ({"glob": "/products/*", "soft": True}, "purge: glob"),
        ({"tag": "a"}, "purge: tag"),
        ({"tags": "a", "soft": "yes"}, "purge: soft"),
        ({"tags": "a", "wait": 1}, "purge: wait"),
        ({"tags": "a", "quiet": "yes"}, "purge: quiet"),
        ({"tags": "a", "settle": "soon"}, "purge: settle"),
    ],
)
def test_what_is_refused(named: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigError) as raised:
        purge_for(ROUTES, named)  # type: ignore[arg-type]
    assert raised.value.setting == setting


def test_what_is_no_text_does_not_get_into_the_queue() -> None:
    """The ledger could never take it, nor what would be replayed together with it."""
    cache = TierCache()
    cache.route("/p/{id}", ttl="10m", invalidates=["x:{id}", "all"])
    scope = {**scope_for("/p/", "POST"), "path": "/p/\udce9"}
    engine = cache._engine
    request = ASGIRequest(scope, engine.routes.match(scope["path"]), engine.rules.watched, engine.prefix)
    engine.hit(request)
    changed = changed_by(engine, request, ())
    assert "h:t:all" in changed
    assert "h:" + bucket_of(request.path) in changed
    assert all(is_text(member) for member in changed)


async def test_a_purge_that_would_block_the_loop_names_the_other() -> None:
    cache = TierCache()
    with pytest.raises(PurgeError, match=r"await cache\.apurge"):
        cache.purge(tags="a")
    receipt = await cache.apurge(tags="a")
    assert receipt == PurgeReceipt(receipt.epoch, 1, ("t:a",), False, False)
    assert (await cache.apurge(everything=True)).number == 2


def test_a_quiet_purge_tells_by_its_receipt_that_it_is_not_confirmed() -> None:
    cache = TierCache(f"redis://127.0.0.1:{free_port()}/0", purge_timeout="10s")
    cache.on("changed", tags=["a:{id}"], quiet=True)
    cache.on("moved", tags=["a:{id}"], quiet=True)
    cache.on("moved", tags=["b:{id}"])
    try:
        for receipt in (cache.purge(tags="a:1", quiet=True), cache.emit("changed", id=1)):
            assert (receipt.members, receipt.everything, receipt.confirmed) == (("t:a:1",), False, False)
        assert [item.members for item in cache._engine.ledger.pending()] == [("h:t:a:1",)]
        everything = cache.purge(everything=True, quiet=True)
        assert (everything.everything, everything.confirmed) == (True, False)
        assert cache._engine.ledger.pending()[0].everything
        # Loud where one of several rules is.
        with pytest.raises(PurgeUnconfirmed):
            cache.emit("moved", id=1)
        with pytest.raises(PurgeUnconfirmed):
            cache.purge(tags="a:1")
    finally:
        cache.close()


def test_a_purge_is_confirmed_where_there_is_nobody_to_confirm_it() -> None:
    assert TierCache().purge(tags="a", quiet=True).confirmed
