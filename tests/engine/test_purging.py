from __future__ import annotations

from typing import Any

import pytest

from tiercache import ConfigError, PurgeError, PurgeReceipt, TierCache
from tiercache.core.routes import Route, RouteTable
from tiercache.engine.purging import members_for

ROUTES = RouteTable([Route("/products/{id}"), Route("/dashboard")])
NOTHING: dict[str, Any] = {"tags": None, "urls": None, "route": None, "everything": False}


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
        ({"everything": True}, []),
        ({"tags": "a", "urls": "/x", "route": "/dashboard"}, ["t:a", "p:/x", "r:/dashboard"]),
    ],
)
def test_what_a_purge_names(named: dict[str, Any], members: list[str]) -> None:
    assert members_for(ROUTES, **{**NOTHING, **named}) == members


def test_a_path_is_meant_encoded_or_not() -> None:
    assert {"p:/caf%C3%A9", "p:/café"} <= set(members_for(ROUTES, **{**NOTHING, "urls": "/caf%C3%A9"}))


@pytest.mark.parametrize(
    ("named", "setting"),
    [
        ({}, "purge"),
        ({"tags": []}, "purge"),
        ({"tags": [""]}, "purge: tags"),
        ({"tags": [7]}, "purge: tags"),
        ({"urls": "products/1"}, "purge: urls"),
        ({"urls": "/products/1?x=1"}, "purge: urls"),
        ({"urls": "ftp://shop.example/a"}, "purge: urls"),
        ({"route": "/nowhere"}, "purge: route"),
    ],
)
def test_what_is_refused(named: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigError) as raised:
        members_for(ROUTES, **{**NOTHING, **named})
    assert raised.value.setting == setting


async def test_a_purge_that_would_block_the_loop_names_the_other() -> None:
    cache = TierCache()
    with pytest.raises(PurgeError, match=r"await cache\.apurge"):
        cache.purge(tags="a")
    receipt = await cache.apurge(tags="a")
    assert receipt == PurgeReceipt(receipt.epoch, 1, ("t:a",), False, False)
    assert (await cache.apurge(everything=True)).number == 2
