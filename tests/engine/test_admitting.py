"""What a process keeps of the variants of a URL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_wsgi import app_with, environ_for
from tiercache import TierCache
from tiercache.core.entries import Variants
from tiercache.testing import isolated


def test_the_bytes_of_a_marker_are_those_of_the_keys_that_it_has() -> None:
    """However many have come and gone: else it would push out everything else, or be too large to be kept."""
    cache = TierCache(max_variants=3)
    cache.route("/p", ttl="10m")
    app = cache.wsgi(app_with(lambda: [b"page"], [("Content-Type", "text/plain"), ("Vary", "Accept-Language")]))

    def marker() -> Variants:
        (found,) = [value for value in cache._engine.memory.values() if isinstance(value, Variants)]  # type: ignore[attr-defined]
        return found

    def visit(language: str) -> None:
        body = app(environ_for("/p", HTTP_ACCEPT_LANGUAGE=language), lambda *args: lambda data: None)
        b"".join(body)
        getattr(body, "close", lambda: None)()

    visit("l0")
    known = marker()
    alone = known.size - sum(known.kept.values())
    assert alone > 0
    for number in range(40):
        visit(f"l{number}")
        known = marker()
        assert len(known.kept) <= 3
        assert known.size == alone + sum(known.kept.values())
    assert known.full


def test_what_l2_has_does_not_take_the_place_of_what_is_newer_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of the newer one was lost, and both are stale by now."""
    bodies = [b"one", b"two"]

    def origin(environ: Any, start_response: Any) -> list[bytes]:
        body = bodies.pop(0)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    with isolated() as caches:
        cache = TierCache("redis://localhost:1/0")
        cache.route("/p", ttl="10s", stale_if_error="1h")
        app = cache.wsgi(origin)

        def get() -> bytes:
            body = app(environ_for("/p"), lambda *args: lambda data: None)
            try:
                return b"".join(body)
            finally:
                getattr(body, "close", lambda: None)()

        assert get() == b"one"
        caches.clock.advance("11s")
        monkeypatch.setattr(cache._engine.shared, "set", lambda *args: None)
        assert get() == b"two"
        caches.clock.advance("11s")
        # The app has no more to say, and fails.
        assert get() == b"two"
