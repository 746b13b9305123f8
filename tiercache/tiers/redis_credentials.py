"""Credentials that are asked for at each new connection: redis-py's `CredentialProvider`, made to keep a deadline.

Tokens of a cloud expire within minutes, so what was right for the last connection may be wrong for the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar, cast

from redis.credentials import CredentialProvider as _RedisProvider

from tiercache.errors import ConfigError, TierUnavailable

T = TypeVar("T")


class CredentialProvider(Protocol):
    """What `redis.credentials.CredentialProvider` asks for; any of redis-py's providers fits.

    `get_credentials` is called in a thread of its own. A provider may have `get_credentials_async` too, which event
    loops then await.
    """

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """User and password (or token), or the password alone."""


class Detached(Generic[T]):
    """Calls that can be left, for what can neither be interrupted nor given a timeout.

    One at a time for each key; whoever comes while it hangs waits for the same one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[T]] = {}

    def start(self, key: Hashable, call: Callable[[], T]) -> Future[T]:
        """The result to come. Raises `OSError` where no thread can be had."""
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = Future()
                # Whoever waits in an event loop may be cancelled, and must not cancel it for the others.
                future.set_running_or_notify_cancel()
                try:
                    threading.Thread(target=self._run, args=(key, call, future), daemon=True).start()
                except RuntimeError as error:
                    raise OSError(f"no thread: {error}") from error
                self._running[key] = future
            return future

    def _run(self, key: Hashable, call: Callable[[], T], future: Future[T]) -> None:
        try:
            result = call()
        except BaseException as error:
            self._forget(key)
            future.set_exception(error)
        else:
            self._forget(key)
            future.set_result(result)

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._running.pop(key, None)


class Login:
    """Asks a provider for what `AUTH` is given. Raises `TierUnavailable` for all that goes wrong with it."""

    def __init__(self, provider: CredentialProvider) -> None:
        if not callable(getattr(provider, "get_credentials", None)):
            raise ConfigError("credentials", type(provider), "an object with get_credentials() -> (user, password)")
        self._provider = provider
        self._calls: Detached[Any] = Detached()
        given = getattr(provider, "get_credentials_async", None)
        # redis-py's own base class has one that calls the other: a blocking call within the loop.
        inherited = getattr(_RedisProvider, "get_credentials_async", None)
        same = getattr(type(provider), "get_credentials_async", None) is inherited
        self._async = cast("Callable[[], Awaitable[Any]] | None", None if same else given)

    def ask(self, seconds: float) -> tuple[str, ...]:
        """For a thread, which waits so long."""
        try:
            return _checked(self._calls.start("", self._provider.get_credentials).result(seconds))
        except Exception as error:
            raise _failed(error) from error

    async def aask(self) -> tuple[str, ...]:
        """For a task, under the caller's own timeout."""
        try:
            if self._async is not None:
                return _checked(await self._async())
            return _checked(await asyncio.wrap_future(self._calls.start("", self._provider.get_credentials)))
        except Exception as error:
            raise _failed(error) from error


def _checked(answer: Any) -> tuple[str, ...]:
    if not isinstance(answer, tuple | list) or len(answer) not in (1, 2) or not all(isinstance(a, str) for a in answer):
        # The answer itself may hold a token.
        raise TypeError(f"it answered with {type(answer).__name__} and not (user, password)")
    return tuple(answer)


def _failed(error: Exception) -> TierUnavailable:
    if isinstance(error, TimeoutError) and not str(error):
        return TierUnavailable("the credential provider did not answer in time")
    return TierUnavailable(f"the credential provider failed: {type(error).__name__}: {error}")
