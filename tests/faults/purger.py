"""The purger: begins new versions at the origin, has them purged through some process, and notes both times."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import quote

from tests.faults.client import BadReply, Connection
from tests.faults.fleet import App, Fleet
from tests.faults.judge import Judge, Purge, Verdict
from tests.faults.readers import Readers
from tests.faults.report import Tally
from tests.faults.terms import HOST, IDS, KEYS, ROUTES, SESSION_MARK, SHOPPED, terms_of

AT_ONCE = 24
"""Purges under way: those that wait for a Redis that does not answer must not hold up the others."""
NOTHING = {"content-length": "0"}
CONFIRM = 0.2
"""Seconds between two looks at a queue."""
Aim = tuple[str, dict[str, Any], set[str]]
"""A word for the report, the arguments of `purge`, and the keys that it must kill."""


def one_tag(rng: random.Random) -> Aim:
    key = rng.choice(SHOPPED)
    return "tag", {"tags": [f"{key[1]}:{key[3:]}"]}, {key}


def some_tags(rng: random.Random) -> Aim:
    keys = rng.sample(SHOPPED, rng.randrange(2, 9))
    return "tags", {"tags": [f"{key[1]}:{key[3:]}" for key in keys]}, set(keys)


def thousands_of_tags(rng: random.Random) -> Aim:
    """Too many for one number."""
    keys = rng.sample(SHOPPED, 3)
    return "2,200 tags", {"tags": [f"{key[1]}:{key[3:]}" for key in keys], "others": 2_200}, set(keys)


def id_tag(rng: random.Random) -> Aim:
    number = rng.choice(IDS)
    return "id", {"tags": [f"id:{number}"]}, {key for key in SHOPPED if key[3:] == str(number)}


def route_tag(rng: random.Random) -> Aim:
    route = rng.choice([name for name, terms in ROUTES.items() if not terms.kept])
    return "route tag", {"tags": [route]}, {key for key in SHOPPED if key[1] == route}


def template(rng: random.Random) -> Aim:
    _, _, keys = route_tag(rng)
    return "route", {"route": f"/{next(iter(keys))[1]}/{{id}}"}, keys


def path(rng: random.Random) -> Aim:
    keys = rng.sample(SHOPPED, rng.randrange(1, 4))
    return "path", {"urls": keys}, set(keys)


def url(rng: random.Random) -> Aim:
    key = rng.choice(SHOPPED)
    return "URL", {"urls": f"http://{HOST}{key}"}, {key}


def unsafe(rng: random.Random) -> Aim:
    """A request that changes the page, in place of a call of `purge`."""
    key = rng.choice(SHOPPED)
    return UNSAFE, {"urls": key}, {key}


def everything(rng: random.Random) -> Aim:
    return "everything", {"everything": True}, set(KEYS)


def prefix(rng: random.Random) -> Aim:
    _, _, keys = route_tag(rng)
    return "prefix", {"prefix": next(iter(keys))[:3]}, keys


def glob(rng: random.Random) -> Aim:
    number = rng.choice(IDS)
    return "glob", {"glob": f"/?/{number}"}, {key for key in KEYS if key[3:] == str(number)}


AIMS: dict[Callable[[random.Random], Aim], float] = {
    one_tag: 50,
    some_tags: 12,
    path: 12,
    url: 8,
    id_tag: 6,
    prefix: 4,
    template: 3,
    route_tag: 3,
    glob: 1,
    thousands_of_tags: 1,
    unsafe: 5,
    everything: 0.1,
}
SOFT = 0.15
"""Share of purges by tag that are soft."""
WAITED = 0.1
"""Share of purges that wait for the fleet."""
UNSAFE = "unsafe request"
LOOKS = 6
"""Reads of a client that has purged."""


class Purger:
    """Purges at a rate, through all processes."""

    def __init__(
        self, fleet: Fleet, judge: Judge, readers: Readers, tally: Tally, rng: random.Random
    ) -> None:
        self.fleet, self.judge, self.readers, self.tally = fleet, judge, readers, tally
        self._rng = rng
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._queued: list[Purge] = []
        self._sessions = 0
        for key in KEYS:
            judge.committed(key, time.monotonic())

    async def run(self, rate: float, until: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_queues(until))
            while not until.is_set():
                await asyncio.sleep(self._rng.expovariate(rate))
                await self._slots.acquire()
                tasks.create_task(self._one())

    async def _one(self) -> None:
        try:
            if self._rng.random() < 0.1:
                await self._session()
            else:
                name, arguments, keys = self._rng.choices(list(AIMS), list(AIMS.values()))[0](self._rng)
                if "tags" in arguments and self._rng.random() < SOFT:
                    name, arguments = name + ", soft", {**arguments, "soft": True}
                if name != UNSAFE and self._rng.random() < WAITED:
                    name, arguments = name + ", waited", {**arguments, "wait": True}
                await self._purge(name, arguments, keys)
        finally:
            self._slots.release()

    async def _session(self) -> None:
        """A client that purges, and then looks everywhere at what it has purged."""
        key = self._rng.choice([key for key in SHOPPED if terms_of(key).consistency == "session"])
        self._sessions += 1
        purge, mark = await self._purge("session", {"urls": key}, {key}, session=self._sessions)
        if SESSION_MARK not in mark:
            if purge.returned < inf:
                self.tally.verdicts("", [Verdict("session", f"no mark came with {purge}")])
            return
        for _ in range(LOOKS):
            app = self._rng.choice(self.fleet.apps)
            connection = Connection(app.port)
            await self.readers.one(app, connection, key, purge.session, mark)
            connection.close()

    async def _purge(
        self, name: str, arguments: dict[str, Any], keys: set[str], session: int | None = None
    ) -> tuple[Purge, dict[str, str]]:
        """One commit and its purge, and then two looks through the same process. Brings the mark that came with it."""
        up = [app for app in self.fleet.apps if not app.is_away] or self.fleet.apps
        app = self._rng.choice(up)
        for key in keys:
            self.fleet.origin.commit(key)
            self.judge.committed(key, time.monotonic())
        shown = json.dumps(arguments)
        what = f"{UNSAFE} {shown}" if name == UNSAFE else shown
        purge = Purge(what, frozenset(keys), time.monotonic(), session=session)
        purge.soft, purge.waited = "soft" in arguments, "wait" in arguments
        self.judge.invoked(purge)
        connection = Connection(app.port)
        try:
            if session is not None:
                reply = await connection.ask("POST", "/purge?" + quote(shown), NOTHING)
            elif name == UNSAFE:
                reply = await connection.ask("POST", arguments["urls"], NOTHING)
            else:
                reply = await connection.get("/admin/purge?" + quote(shown))
            if reply.status != 200:
                raise BadReply(f"status {reply.status}")
            # What an unsafe request says of it is nothing: it may be queued.
            answer = {"at": None} if name == UNSAFE else json.loads(reply.body)
            purge.worker, purge.returned = int(reply.fields["x-worker"]), reply.received
        except (OSError, TimeoutError, BadReply, ValueError, KeyError) as error:
            connection.close()
            self.tally.purges["outcome unknown"] += 1
            if not app.was_away(purge.invoked, time.monotonic()):
                self.tally.error(app.name, f"{purge}: {type(error).__name__}: {error}")
            return purge, {}
        self.tally.purges[name] += 1
        if answer["at"]:
            purge.confirmed, purge.at = reply.received, answer["at"]
        else:
            self.tally.unconfirmed += name != UNSAFE
            self._queued.append(purge)
        self.readers.hot.extend((reply.received, key) for key in sorted(keys)[:8] if key in SHOPPED)
        for key in self._rng.sample(sorted(keys), min(2, len(keys))):
            await self.readers.one(app, connection, key)
        connection.close()
        return purge, {name: value for name, value in reply.fields.items() if name == SESSION_MARK}

    async def _follow_queues(self, until: asyncio.Event) -> None:
        """Ask the processes that could not have a purge confirmed when they have."""
        while not until.is_set():
            await asyncio.sleep(CONFIRM)
            waiting, self._queued = self._queued, []
            for app in self.fleet.apps:
                mine = [purge for purge in waiting if purge.worker == app.pid]
                if mine and not await self._is_empty(app, mine):
                    self._queued += mine
            # Those of a process that is gone are gone with it.

    async def _is_empty(self, app: App, waiting: list[Purge]) -> bool:
        connection = Connection(app.port)
        try:
            reply = await connection.get("/admin/state", patience=1.0)
            state = json.loads(reply.body)
        except (OSError, TimeoutError, BadReply, ValueError):
            return False
        finally:
            connection.close()
        if state["queued"]:
            return False
        for purge in waiting:
            if purge.worker == state["pid"]:
                purge.confirmed = reply.received
                self.tally.confirmed_later += UNSAFE not in purge.what
        return True
