"""Apps below a path: rules and purges name what clients see, however the scope tells of the mount point."""

from __future__ import annotations

from typing import Any

import pytest

from tests.asgi_client import visit
from tiercache import TierCache
from tiercache.asgi import full_path


@pytest.fixture
def cache() -> TierCache:
    return TierCache()


@pytest.mark.parametrize(
    ("path", "root", "seen"),
    [
        ("/p/1", "", "/p/1"),
        ("/shop/p/1", "/shop", "/shop/p/1"),
        ("/p/1", "/shop", "/shop/p/1"),
        ("/p/1", "/shop/", "/shop/p/1"),
        ("/p/1", "/", "/p/1"),
        ("/shop", "/shop", "/shop"),
        ("/shopping", "/shop", "/shop/shopping"),
        ("/shop/shop/p", "/shop", "/shop/shop/p"),
        ("/é", "/shöp", "/shöp/é"),
    ],
)
def test_the_path_that_clients_see(path: str, root: str, seen: str) -> None:
    assert full_path({"path": path, "root_path": root}) == seen


async def test_a_prefix_that_was_cut_off_counts_for_rules_and_purges(cache: TierCache) -> None:
    cache.route("/shop/kept-out/{id}", cache=False)
    cache.route("/shop/{rest:path}", ttl="10m")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # As Litestar does it.
        scope["path"] = "/elsewhere"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"page"})

    cached = cache.asgi(app)
    cut = {"root_path": "/shop", "raw_path": b"/caf%C3%A9%20au%20lait"}
    path = "/café au lait"
    for purge in (
        {"urls": "/shop/café au lait"},
        {"urls": "http://x/shop/caf%C3%A9%20au%20lait"},
        {"route": "/shop/{rest:path}"},
        {"prefix": "/shop/ca"},
    ):
        assert (await visit(cached, path, **cut)).outcome == b"tiercache; fwd=miss; stored"
        assert (await visit(cached, path, **cut)).outcome == b"tiercache; hit; detail=l1"
        await cache.apurge(**purge)  # type: ignore[arg-type]
    assert (await visit(cached, path, **cut)).outcome == b"tiercache; fwd=miss; stored"
    out = await visit(cached, "/kept-out/1", root_path="/shop")
    assert out.outcome == b"tiercache; fwd=bypass; detail=route"


async def test_what_the_app_can_tell_apart_is_kept_apart(cache: TierCache) -> None:
    """With the prefix and without it, clients see one path; an app may see two."""
    cache.route("/shop/{rest:path}", ttl="10m")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    cached = cache.asgi(app)
    for path in ("/p", "/shop/p"):
        for _ in range(2):
            assert (await visit(cached, path, root_path="/shop", raw_path=None)).body == path.encode()
