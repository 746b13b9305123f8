"""One fill per key inside this process, for threads and tasks alike.

The first to ask for a key leads; who comes while it is under way follows and gets the leader's outcome. A flight
ends exactly once, whatever becomes of its leader: that is what `finish` in every `finally` is for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final


class _Mark:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


RELEASED: Final = _Mark("RELEASED")
"""The outcome is not for sharing: each follower calls the app itself, without waiting again."""
RETRY: Final = _Mark("RETRY")
"""The leader gave up before it called the app: one of the followers leads now."""
LATE: Final = _Mark("LATE")
"""Not an outcome: the follower's own patience has run out."""


class Flight:
    """One fill under way. `outcome` is what it brought, or RELEASED or RETRY."""

    __slots__ = ("_flights", "_lock", "_wakers", "began", "followers", "key", "outcome")

    def __init__(self, flights: Flights | Wakes, key: Hashable) -> None:
        self.began = time.monotonic()
        self.key = key
        self.outcome: Any = None
        self.followers = 0
        self._flights = flights
        self._lock = flights._lock
        """One for all: it is held for a few steps, and most flights end with nobody waiting."""
        self._wakers: list[Callable[[], None]] = []

    def subscribe(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called once when the flight ends, from whichever thread ends it. False: it has ended already."""
        with self._lock:
            if self.outcome is not None:
                return False
            self._wakers.append(wake)
            return True

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget a waker whose owner waits no longer."""
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def follow(self) -> None:
        """One more waits for it."""
        with self._lock:
            self.followers += 1

    def leave(self) -> None:
        """A follower has gone, with its answer or without: it no longer keeps the fill alive."""
        with self._lock:
            self.followers -= 1

    def depart(self) -> None:
        """Take nobody else in: newcomers lead a flight of their own, although this one has not ended."""
        self._flights._forget(self)

    def finish(self, outcome: Any) -> None:
        """End the flight; only the first call counts. Newcomers lead a flight of their own from here on."""
        with self._lock:
            if self.outcome is not None:
                return
            self.outcome = outcome
            wakers, self._wakers = self._wakers, []
            self._flights._forget(self)
        for wake in wakers:
            wake()


class Wakes:
    """Who waits for a fill in another process, by the name under which its outcome will lie in L2."""

    def __init__(self) -> None:
        # Reentrant: a collection that happens to run meanwhile may end a flow that was left, and its flight with it.
        self._lock = threading.RLock()
        self._by_name: dict[Hashable, Flight] = {}

    def expect(self, name: str) -> Flight:
        """What will land when word of that fill comes. To be dismissed."""
        with self._lock:
            flight = self._by_name.get(name)
            if flight is None:
                flight = self._by_name[name] = Flight(self, name)
            flight.followers += 1
            return flight

    def dismiss(self, flight: Flight) -> None:
        """One who waited has gone."""
        with self._lock:
            flight.followers -= 1
            if not flight.followers and self._by_name.get(flight.key) is flight:
                del self._by_name[flight.key]

    def wake(self, name: str, outcome: Any) -> None:
        """Word has come: RETRY, it is there; RELEASED, there will be nothing to share."""
        flight = self._by_name.get(name)
        if flight is not None:
            flight.finish(outcome)

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            if self._by_name.get(flight.key) is flight:
                del self._by_name[flight.key]


class Flights:
    """The flights of this process by key."""

    def __init__(self) -> None:
        # Reentrant: a collection that happens to run meanwhile may end a flow that was left, and its flight with it.
        self._lock = threading.RLock()
        self._by_key: dict[Hashable, Flight] = {}

    def join(self, key: Hashable) -> tuple[Flight, bool]:
        """The flight of this key, and whether the caller leads it."""
        with self._lock:
            flight = self._by_key.get(key)
            if flight is None:
                flight = self._by_key[key] = Flight(self, key)
                return flight, True
            flight.follow()
            return flight, False

    def __len__(self) -> int:
        return len(self._by_key)

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            if self._by_key.get(flight.key) is flight:
                del self._by_key[flight.key]
