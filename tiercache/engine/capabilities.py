"""What the stores of a cache can do beyond keeping values, and what is said where they cannot."""

from __future__ import annotations

from tiercache.engine.engine import Engine
from tiercache.engine.ports import SessionStore, WriteQueue
from tiercache.errors import ConfigError


def queue_of(engine: Engine) -> WriteQueue | None:
    """Where writes wait for the database: in the shared tier that the engine has now. None: that keeps no queue."""
    return None if engine.shared is None else engine.shared.queue


def sessions_of(engine: Engine) -> SessionStore | None:
    """Where sessions of users lie: in the shared tier that the engine has now, or in this process where there is none.
    None: there is one, and it keeps no sessions."""
    return engine.memory.sessions if engine.shared is None else engine.shared.sessions


def lacking(engine: Engine, setting: str, accepted: str) -> ConfigError:
    """To be raised for a setting that needs what the stores of its cache have not got."""
    # No more of the URL than its scheme: the rest may hold a password.
    url = engine.settings.url
    return ConfigError(setting, None if url is None else url.partition("://")[0] + "://", accepted)
