"""Flask: sessions on the server. `FlaskSessions(app, sessions)`, and `flask.session` is one of `Sessions`.

What `app.config` says of the cookie (`SESSION_COOKIE_NAME`, `_DOMAIN`, `_PATH`, `_SECURE`, `_SAMESITE`) is not asked:
the settings of `Sessions` hold, which are safe by themselves.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import flask
from flask import Flask, Request, Response
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from tiercache.core.user_sessions import UserSession
from tiercache.engine.fill import no_store
from tiercache.engine.user_sessions import Named
from tiercache.errors import ConfigError, SessionUnavailable
from tiercache.integrations.sessions import Sessions

session: UserSession = cast("UserSession", flask.session)
"""`flask.session`, as type checkers are to see it: with `rotate` and `tag`."""
_serializer = TaggedJSONSerializer()
_NAMED = "tiercache.session"
"""In the environ of WSGI: what the cookie of this request said."""
_FAILED = "tiercache.session_failed"
"""In the environ of WSGI: the session of this request could not be saved."""


def _encode(value: Any) -> bytes:
    # Flask's own, for what `flash` and extensions put there: tuples, bytes, markup, UUIDs, dates.
    return _serializer.dumps(value).encode()


def _decode(data: bytes) -> Any:
    return _serializer.loads(data.decode())


def _handled(app: Flask, error: Exception) -> Any:
    # By now Flask itself asks no handlers for this error any more, but that of 500.
    try:
        return app.handle_user_exception(error)
    except SessionUnavailable:
        return app.handle_user_exception(ServiceUnavailable())


class FlaskSessions(SessionInterface):
    """Keeps `flask.session` in the store of `Sessions`.

    Args:
        app: the app to begin with; None: `init_app` follows.
        sessions: where they are kept.

    Raises:
        ConfigError: `sessions` is none.
    """

    def __init__(self, app: Flask | None = None, sessions: Sessions | None = None) -> None:
        if not isinstance(sessions, Sessions):
            raise ConfigError("FlaskSessions: sessions", type(sessions), "a tiercache.integrations.sessions.Sessions")
        self._sessions = sessions
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Use it in this app."""
        app.session_interface = self

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Redis is asked when the session is first looked at, if it is."""
        named = self._sessions.named(request.cookies.get(self._sessions.settings.cookie))
        request.environ[_NAMED] = named
        # Flask asks for nothing but a mapping with these attributes.
        return cast("SessionMixin", self._sessions.open(named, _encode, _decode))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store what has changed, and tell the client where its cookie changes."""
        held = cast("UserSession", session)
        if held.accessed:
            response.vary.add("Cookie")
        else:
            # A body that is streamed may look at it yet, too late to say so in a field.
            held.looked = partial(no_store, "session")
        environ = flask.request.environ
        if environ.get(_FAILED):
            # What answers instead of the response whose session could not be saved.
            return
        named: Named | None = environ.get(_NAMED)
        try:
            told = self._sessions.save(held, named)
        except Exception as error:
            environ[_FAILED] = True
            instead = app.make_response(_handled(app, error))
            response.response, response.status, response.headers = instead.response, instead.status, instead.headers
            response.vary.add("Cookie")
            return
        if told is None:
            return
        settings = self._sessions.settings
        common: dict[str, Any] = {
            "domain": settings.domain,
            "path": settings.path,
            "secure": settings.secure,
            "samesite": settings.samesite,
            "httponly": True,
        }
        if told.value is None:
            response.delete_cookie(settings.cookie, **common)
        else:
            response.set_cookie(settings.cookie, told.value, max_age=told.max_age, **common)
        response.vary.add("Cookie")
