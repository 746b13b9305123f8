"""Starlette and FastAPI: sessions on the server. `app.add_middleware(SessionsMiddleware, sessions=sessions)`.

It stands where Starlette's own `SessionMiddleware` would, and `request.session` is one of `Sessions`: inside the cache
(added before `TierCacheMiddleware`), so that what sets a cookie is seen there and not stored. Outside the cache, where
its cookie and `Vary` come too late to be seen, it keeps whatever looks at a session out of the store itself; and so in
any order where that is done once the response has begun.
"""

from __future__ import annotations

from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tiercache.core.user_sessions import UserSession
from tiercache.engine.fill import current_fill, no_store
from tiercache.errors import ConfigError, SessionUnavailable
from tiercache.integrations.sessions import Sessions, Told, decode, encode


class SessionsMiddleware:
    """Puts the session of a request into `scope["session"]`, and saves it when the response begins.

    Redis is asked only where a request brings a cookie of ours. What a WebSocket changes is not saved, and neither is
    what is changed after the response has begun. Where a session cannot be saved since Redis is away, 503 is answered.

    Args:
        app: the app inside, handed over by `add_middleware`.
        sessions: where they are kept.

    Raises:
        ConfigError: `sessions` is none.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        if not isinstance(sessions, Sessions):
            raise ConfigError(
                "SessionsMiddleware: sessions", type(sessions), "a tiercache.integrations.sessions.Sessions"
            )
        self.app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        sessions = self._sessions
        named = sessions.named(_cookie(scope, sessions.settings.cookie))
        session = scope["session"] = await sessions.aopen(named, encode, decode)
        not_stored = partial(no_store, "session")
        if current_fill() is None:
            session.looked = not_stored
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return

        failed = False

        async def sending(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start":
                try:
                    told = await sessions.asave(session, named)
                except SessionUnavailable:
                    failed = True
                    raise
                headers = MutableHeaders(scope=message)
                if session.accessed:
                    headers.add_vary_header("Cookie")
                else:
                    session.looked = not_stored
                if told is not None:
                    headers.append("set-cookie", self._header(told))
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            if not failed:
                raise
            # Starlette asks no handler of the app for what is raised once a response has begun.
            busy = PlainTextResponse("Service Unavailable", 503, {"Cache-Control": "no-store"})
            await busy(scope, receive, send)

    def _header(self, told: Told) -> str:
        settings = self._sessions.settings
        morsels: SimpleCookie = SimpleCookie()
        morsels[settings.cookie] = told.value or ""
        morsel: Any = morsels[settings.cookie]
        morsel["path"], morsel["samesite"], morsel["httponly"] = settings.path, settings.samesite, True
        if settings.secure:
            morsel["secure"] = True
        if settings.domain is not None:
            morsel["domain"] = settings.domain
        if told.value is None:
            morsel["max-age"], morsel["expires"] = 0, "Thu, 01 Jan 1970 00:00:00 GMT"
        elif told.max_age is not None:
            morsel["max-age"] = told.max_age
        return str(morsels.output(header="").strip())


def session_of(connection: HTTPConnection) -> UserSession:
    """The session of a request or a WebSocket: `request.session`, as type checkers are to see it, with `rotate` and
    `tag`.

    Raises:
        ConfigError: there is none of `SessionsMiddleware`.
    """
    session = connection.scope.get("session")
    if not isinstance(session, UserSession):
        raise ConfigError("session_of", type(session), "a request that has come through SessionsMiddleware")
    return session


def _cookie(scope: Scope, name: str) -> str | None:
    # RFC 9113 §8.2.3: HTTP/2 may split the field.
    lines = [value for field, value in scope["headers"] if field == b"cookie"]
    if not lines:
        return None
    try:
        return cookie_parser(b"; ".join(lines).decode("latin-1")).get(name)
    except CookieError:
        return None
