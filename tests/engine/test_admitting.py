"""What a process keeps of the variants of a URL."""

from __future__ import annotations

from tests.test_wsgi import app_with, environ_for
from tiercache import TierCache
from tiercache.core.entries import Variants


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
