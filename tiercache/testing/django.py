"""Django's test client with the cache in front, as it stands in front of the site in production.

`django.test.Client` calls the site itself, and never the WSGI application that the cache goes around.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client

from tiercache.cache import TierCache
from tiercache.core.validation import redacted
from tiercache.errors import ConfigError


class CachedClient(Client):  # type: ignore[misc, unused-ignore]
    """`django.test.Client` for a site behind `cache`: same methods, same responses, `login` and CSRF as there.

    A hit has neither `context` nor `templates`: no view was called.

    Args:
        cache: the one that `cache.wsgi(application)` puts around the site.
        options: of `django.test.Client`.

    Raises:
        ConfigError: `cache` is not a `TierCache`.
    """

    handler: Any

    def __init__(self, cache: TierCache, **options: Any) -> None:
        if not isinstance(cache, TierCache):
            raise ConfigError("CachedClient: cache", redacted(cache), "a TierCache")
        super().__init__(**options)
        self._site = self.handler
        self._front = cache.wsgi(self._call)
        # By thread: a refresh behind an answer calls the site too.
        self._made = threading.local()
        self.handler = self._through

    def _call(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        response = self._site(environ)
        self._made.response = response
        cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items(), *cookies])
        return [bytes(piece) for piece in response]

    def _through(self, environ: dict[str, Any]) -> Any:
        head: list[Any] = []
        self._made.response = None

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            head[:] = [int(status[:3]), headers]
            return None

        pieces = self._front(environ, start_response)
        try:
            body = b"".join(pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        status, headers = head
        made = self._made.response
        response = made
        if made is None or made.streaming or made.status_code != status:
            response = HttpResponse(body, status=status)
            response.wsgi_request = WSGIRequest(environ) if made is None else made.wsgi_request
            response.cookies.update({} if made is None else made.cookies)
        for name in list(response.headers):
            del response[name]
        for name, value in headers:
            if name.lower() != "set-cookie":
                # A list of one field counts as its lines together; Django keeps one line of each.
                response[name] = f"{response[name]}, {value}" if name in response else value
        return response
