"""Hits of the peers in process: those in memory in one interleaved run, those in Redis in another."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from wsgiref.types import WSGIApplication

from benchmarks import measure
from benchmarks.apps import ASGIApp, Lifespan, Message, Receive, Scope, Send
from benchmarks.drive import Answer, asgi_answer, asgi_call, wsgi_answer, wsgi_call
from benchmarks.measure import Case, timed, timed_async, timed_singly, timed_singly_async, timed_together
from benchmarks.peers.report import TOGETHER
from benchmarks.peers.standings import Standing, Standings
from benchmarks.peers.subjects import (
    ASGI,
    ASYNC,
    AT_ONCE,
    MEMORY,
    PATH,
    SYNC,
    WSGI,
    Face,
    NotMeasured,
    Place,
    Subject,
    Value,
    judge_answers,
    settle,
)

Ask = Callable[[], bytes]
RUNS = {"ASGI": ASGI, "WSGI": WSGI, "Sync function": SYNC, "Async function": ASYNC}


def standings(url: str | None, *, rounds: int, batch_ms: float) -> Iterator[Standings]:
    """Who takes how long for a hit: in memory, and in the Redis at `url` where there is one."""
    for store, where in ((MEMORY, "memory"), (url, "Redis")):
        for title, subjects in RUNS.items():
            if store is not None:
                asked = subjects if store == MEMORY else [one for one in subjects if one.caches]
                yield _run(f"{title}, hit in {where}", asked, store, rounds, batch_ms)
    if url is not None:
        # As under load: many tasks of one process ask at once, and none of them for what another one waits for.
        yield _run(TOGETHER, [one for one in ASYNC if one.caches], url, rounds, batch_ms, at_once=AT_ONCE)


def _run(
    title: str, subjects: Iterable[Subject], store: str, rounds: int, batch_ms: float, *, at_once: int = 1
) -> Standings:
    found = Standings(title, "µs")
    cases: dict[Subject, Case] = {}
    asks: dict[Subject, Ask] = {}
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        for subject in subjects:
            try:
                cases[subject], asks[subject] = _case(subject, store, runner, resources, at_once)
            except NotMeasured as error:
                found.lines.append(Standing(subject, note=str(error), version=subject.version))
        measure.run(list(cases.values()), rounds=rounds, batch_ms=batch_ms)
        for subject, case in cases.items():
            found.lines.append(_standing(subject, case, asks[subject], subject.remark if store == MEMORY else ""))
    return found


def _standing(subject: Subject, case: Case, ask: Ask, remark: str) -> Standing:
    try:
        judge_answers(subject, ask)  # as before the run
    except NotMeasured as error:
        return Standing(subject, note=str(error), version=subject.version)
    return Standing(subject, case.samples, remark, subject.version)


def _case(
    subject: Subject, store: str, runner: asyncio.Runner, resources: ExitStack, at_once: int
) -> tuple[Case, Ask]:
    place = Place(store, resources)
    call, ask = _CALLS[subject.face](subject, subject.app(place), runner, resources)
    for close in place.closing_async:
        resources.callback(lambda close=close: runner.run(_awaited(close)))  # type: ignore[misc]
    settle(subject, ask)
    if at_once > 1:
        calls = [functools.partial(call, key) for key in range(at_once)]
        for one in calls:
            settle(subject, _async(subject, one, runner)[1])
        batch = timed_together(runner, calls, _nothing)
    elif subject.face in ("wsgi", "sync"):
        batch = timed(call) if store == MEMORY else timed_singly(call, _nothing)
    else:
        batch = timed_async(runner, call) if store == MEMORY else timed_singly_async(runner, call, _nothing)
    return Case(subject.name, batch, _nothing), ask


def _asgi(subject: Subject, app: ASGIApp, runner: asyncio.Runner, resources: ExitStack) -> tuple[Value, Ask]:
    try:
        resources.enter_context(Lifespan(runner, app))
    except Exception as error:  # it does not get along with what is installed here
        raise NotMeasured(f"does not start: {error}".splitlines()[0]) from error
    app = _with_a_client(app) if subject.listens else app
    return asgi_call(app, "GET", PATH), lambda: _body(runner.run(asgi_answer(app, "GET", PATH)))


def _wsgi(subject: Subject, app: WSGIApplication, *_: object) -> tuple[Value, Ask]:
    return wsgi_call(app, "GET", PATH), lambda: _body(wsgi_answer(app, "GET", PATH))


def _sync(subject: Subject, value: Value, *_: object) -> tuple[Value, Ask]:
    return value, lambda: json.dumps(value()).encode()


def _async(subject: Subject, value: Value, runner: asyncio.Runner, *_: object) -> tuple[Value, Ask]:
    return value, lambda: json.dumps(runner.run(_awaited(value))).encode()


async def _awaited(value: Value) -> Any:
    return await value()


_CALLS: dict[Face, Callable[..., tuple[Value, Ask]]] = {"asgi": _asgi, "wsgi": _wsgi, "sync": _sync, "async": _async}


def _with_a_client(app: ASGIApp) -> ASGIApp:
    """The app with a client that stays after it has asked; the plain one asks again for whoever listens."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        messages = iter([await receive()])

        async def staying() -> Message:
            for message in messages:
                return message
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        await app(scope, staying, send)

    return asked


def _body(answer: Answer) -> bytes:
    if answer.status != 200:
        raise NotMeasured(f"answers {answer.status}")
    return answer.body


def _nothing() -> None:
    pass
