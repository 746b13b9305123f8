"""Where the rows are played: the middleware of both faces around one app, on each tier, with a clock in the hand.

On L1 one process answers all the steps of a row. On L2 each step reaches a process that has never seen the URL, so
that whatever it knows has come through a real Redis. Nothing listens to the bus there: a purge arrives as it does
where messages are lost, with the next sync, at the latest when the staleness bound has passed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from tests.clock import Clock
from tests.conformance.rows import (
    AGAIN,
    ASKED,
    FAILED,
    INSTEAD,
    REFUSED,
    REUSED,
    STALE,
    VALIDATED,
    Answer,
    Line,
    Row,
    Step,
)
from tests.parity.faces import FACES, GUARD, HOST, ASGIFace, Asked, Face, Origin, Reply, Response
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.core.server_time import ServerTime

SETTINGS: dict[str, Any] = {"targets": ["CDN-Cache-Control"]}
RULES: dict[str, dict[str, Any]] = {
    "plain": {"ttl": None},
    "ttl": {"ttl": "1h"},
    "page": {"ttl": "1h", "tags": ["page"], "browser_ttl": "30s"},
    "cookies": {"cookies": "ignore"},
    "all": {
        "heuristic": 0.1,
        "client_directives": True,
        "stale_if_error": "1h",
        "retry_after_error": 0,
        "normalize": ["Accept-Language", "Accept-Encoding"],
    },
}
"""`all` is the one that the figures are for. None but `ttl` and `page` gives a lifetime."""
COMBINATIONS = [(kind, tier) for tier in ("L1", "L2") for kind in ("WSGI", "ASGI")]
PROCESSES = 4
CONDITIONS = {"if-none-match", "if-modified-since"}
BEGINNING = datetime(2030, 1, 7, 12, tzinfo=UTC).timestamp()


class Failure(Exception):
    """What the app raises where a step has it fail."""


class Mismatch(Exception):
    """A step did not come out as its row says."""


class Wall(Clock):
    """The clock of every process of a stage, and of its Redis."""

    offset = BEGINNING - 1_000.0

    def wall(self) -> float:
        return self.now + self.offset


class Server:
    """A shared tier whose server reads the time from the clock of the stage."""

    def __init__(self, tier: Any, wall: Wall) -> None:
        self._tier, self._wall = tier, wall

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tier, name)

    def sync(self, *arguments: Any, **options: Any) -> Any:
        return self._tier.sync(*arguments, **options)._replace(time=self._wall.wall())

    async def asynchronise(self, *arguments: Any, **options: Any) -> Any:
        return (await self._tier.asynchronise(*arguments, **options))._replace(time=self._wall.wall())


class Script(Origin):
    """The app: for each URL it says what the step at hand has it say."""

    def __init__(self) -> None:
        super().__init__(self._say)
        self.says: dict[str, Answer] = {}

    def _say(self, asked: Asked) -> Reply:
        answer = self.says[asked.path]
        if answer.fails:
            raise Failure
        if answer.plainly is not None and not CONDITIONS & asked.fields.keys():
            answer = answer.plainly
        body: Any = answer.body
        if answer.breaks:
            body = [answer.body, Failure()]
        lines = [(name, str(value)) for name, value in answer.fields]
        return Reply(body, lines, answer.status, "Whatever")

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        early = self.says[scope["path"]].early
        if early:
            assert "http.response.early_hint" in scope["extensions"]
            await send({"type": "http.response.early_hint", "links": [value.encode() for _, value in early]})
        await super().asgi(scope, receive, send)


class _Closable:
    """What the driver of `tests.parity` expects of a body, whatever the app gives."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Any:
        return iter(self._body)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


class Stage:
    """One face on one tier."""

    def __init__(self, kind: str, tier: str, url: str) -> None:
        self.tier = tier
        self.wall = Wall()
        self.origin = Script()
        self.early: list[tuple[str, str]] = []
        self.faces = [self._face(kind.lower(), url) for _ in range(1 if tier == "L1" else PROCESSES)]

    def _face(self, kind: str, url: str) -> Face:
        shared = self.tier == "L2"
        settings = {"l2_budget": "10s", "namespace": kind, **SETTINGS}
        cache = TierCache(url, **settings) if shared else TierCache(**settings)
        for name, policy in RULES.items():
            cache.route(f"/{name}/{{rest:path}}", **policy)
        engine: Any = cache._engine
        engine.clock = engine.memory.timer = self.wall
        engine.unshareable._clock = engine.passing._clock = self.wall
        engine.wall = self.wall.wall
        engine.server_time = ServerTime(self.wall.offset)
        if shared:
            engine.shared = Server(engine.shared, self.wall)
        cache._lifecycle.ensure_running = lambda: None  # type: ignore[method-assign]
        face = FACES[kind](cache, self.origin)
        if isinstance(face, ASGIFace):
            face.app = self._with_early_hints(cache.asgi(self.origin.asgi))
        else:
            # Not through wsgiref.validate: some rows are about fields that it does not let an app send.
            app = cache.wsgi(self.origin.wsgi)
            face.app = lambda environ, start: _Closable(app(environ, start))  # type: ignore[attr-defined]
        return face

    def _with_early_hints(self, app: Any) -> Any:
        async def called(scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.early_hint":
                    self.early += [("link", link.decode()) for link in message["links"]]
                else:
                    await send(message)

            await app({**scope, "extensions": {"http.response.early_hint": {}}}, receive, sent)

        return called

    def play(self, row: Row) -> None:
        """Raise `Mismatch` where a step does not come out as it should."""
        beginning = self.wall.wall()
        body = b""
        for number, step in enumerate(row.steps):
            self.wall.turn(step.after)
            face = self.faces[number % len(self.faces)]
            try:
                body = self._step(face, f"/{row.rule}/{row.id}{step.at}", step, number + 1, beginning, body)
            except Mismatch as mismatch:
                raise Mismatch(f"request {number + 1} of {row.id} ({row.says}) {mismatch}") from None
            if step.method not in ("GET", "HEAD") and self.tier == "L2":
                # By then every process has heard of it, or does not trust what it knows.
                self.wall.turn(2 * face.cache.settings.staleness_bound)

    def _step(self, face: Face, url: str, step: Step, number: int, beginning: float, stored: bytes) -> bytes:
        """Play one step; the body that is stored behind it, as far as bodies tell."""
        app = step.app
        own = b"body %d" % number if app.body is None else app.body
        said = _dated(app.fields, self.wall.wall())
        path = url.partition("?")[0]
        plainly = app.plainly and replace(app.plainly, body=own)
        self.origin.says[path] = replace(app, fields=said, body=own, plainly=plainly)
        calls, self.early = self.origin.calls, []
        got: Response | None = None
        call = face.begin(url, _dated(step.sent, beginning), step.method, content=step.content)
        try:
            got = call.result()
        except Failure:
            pass
        _check((got is None) == (step.outcome is FAILED), f"ended in {got or 'the failure of the app'}")
        if step.outcome is STALE:
            _until_refreshed(face)
        called = self.origin.calls - calls
        _check(called == _CALLS[step.outcome], f"called the app {called} times: {got and got.headers}")
        if got is None:
            return stored
        expected = {ASKED: own, AGAIN: own, REFUSED: b""}.get(step.outcome, stored)
        if step.body is not None:
            expected = step.body
        elif step.method == "HEAD" or got.status in (204, 304, 416):
            expected = b""
        _check(got.body == expected, f"got {got.body!r}, not {expected!r}")
        status = step.status or (app.status if step.outcome is ASKED else None)
        _check(status in (None, got.status), f"got status {got.status}, not {status}")
        if step.outcome in (REUSED, STALE):
            _check(got.hit, f"is no hit: {got.all('cache-status')}")
        self._fields(step, got, beginning)
        if called:
            self._asked(step, self.origin.asked[calls], beginning)
        kept = step.method == "GET" and step.outcome in (ASKED, STALE) and app.status not in (206, 304, 416)
        kept = kept or step.outcome is AGAIN
        return own if kept else stored

    def _fields(self, step: Step, got: Response, beginning: float) -> None:
        for name, value in _dated(step.has, beginning):
            _check(value in got.all(name.lower()), f"has {name}: {got.all(name.lower())}, not {value}")
        for name, value in _dated(step.lists, beginning):
            found = " | ".join(got.all(name.lower()))
            _check(found == value, f"has {name}: {found}, not {value}")
        for name, value in _dated(step.starts, beginning):
            found = " | ".join(got.all(name.lower()))
            _check(found.startswith(value), f"has {name}: {found}, not {value}...")
        for name in step.lacks:
            _check(not got.all(name.lower()), f"has {name}: {got.all(name.lower())}")
        if step.older is not None:
            _check(int(got.header("age") or "-1") >= step.older, f"has Age: {got.all('age')}")
        _check(list(step.early) == self.early, f"had a 103 with {self.early}")

    @staticmethod
    def _asked(step: Step, asked: Asked, beginning: float) -> None:
        for name, value in _dated(step.seen, beginning):
            found = asked.fields.get(name.lower())
            _check(found == value, f"showed the app {name}: {found}, not {value}")
        for name in step.unseen:
            _check(name.lower() not in asked.fields, f"showed the app {name}")
        if step.outcome is VALIDATED:
            _check(bool(CONDITIONS & asked.fields.keys()), "asked the app without a condition")
        _check(asked.method == step.method, f"showed the app {asked.method}")

    def close(self) -> None:
        for face in self.faces:
            face.close()


_CALLS = {REUSED: 0, STALE: 1, ASKED: 1, AGAIN: 2, VALIDATED: 1, INSTEAD: 1, FAILED: 1, REFUSED: 0}


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Mismatch(otherwise)


def _dated(lines: Sequence[Line], now: float) -> list[tuple[str, str]]:
    return [(n, http_date(now + value) if isinstance(value, int) else value) for n, value in lines]


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def _until_refreshed(face: Face) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.001)):
        if not face.cache._engine.limits.refreshing:
            return
        pause.wait(0.001)
    raise Mismatch("the refresh behind it did not end")


Results = dict[tuple[str, str, str], str]
"""(id of the row, face, tier) → what went wrong; empty where nothing did."""


def applies(row: Row, kind: str) -> bool:
    return not row.only or row.only.startswith(kind + ":")


def play(rows: Sequence[Row]) -> Results:
    """Play rows on every face and tier that can show them."""
    results: Results = {}
    with RedisServer() as server:
        for kind, tier in COMBINATIONS:
            stage = Stage(kind, tier, server.url)
            try:
                for row in rows:
                    if applies(row, kind):
                        try:
                            stage.play(row)
                            results[row.id, kind, tier] = ""
                        except Mismatch as mismatch:
                            results[row.id, kind, tier] = str(mismatch)
            finally:
                stage.close()
    return results


__all__ = ["COMBINATIONS", "HOST", "RULES", "SETTINGS", "Mismatch", "Results", "Stage", "applies", "play"]
