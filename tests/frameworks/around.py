"""Middleware to stand outside of the cache, for frameworks whose own always stands inside."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from tests.frameworks.site import ORIGINS


def asgi_outside(app: Any) -> Any:
    """Starlette's own are plain ASGI and go around anything."""
    return CORSMiddleware(GZipMiddleware(app), allow_origins=ORIGINS)


def wsgi_outside(app: Any) -> Any:
    def around(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started: list[Any] = []
        body = app(environ, lambda *words: started.append(words))
        content = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        status, headers, *rest = started[-1]
        origin = environ.get("HTTP_ORIGIN")
        if origin in ORIGINS:
            headers += [("Access-Control-Allow-Origin", origin)]
        headers += [("Vary", "Origin"), ("Vary", "Accept-Encoding")]
        if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "") and len(content) > 500:
            content = gzip.compress(content)
            headers[:] = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers += [("Content-Encoding", "gzip"), ("Content-Length", str(len(content)))]
        start_response(status, headers, *rest)
        return [content]

    return around
