"""Hits of the peers in process: those in memory in one interleaved run, those in Redis in another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from benchmarks import measure
from benchmarks.apps import ASGIApp, Lifespan, Message, Receive, Scope, Send
from benchmarks.drive import Answer, asgi_answer, asgi_call, wsgi_answer, wsgi_call
from benchmarks.measure import Case, timed, timed_async, timed_singly, timed_singly_async
from benchmarks.peers.standings import Standing, Standings
from benchmarks.peers.subjects import ASGI, MEMORY, PATH, WSGI, NotMeasured, Place, Subject, judge_answers, settle

Ask = Callable[[], bytes]


def standings(url: str | None, *, rounds: int, batch_ms: float) -> Iterator[Standings]:
    """Who takes how long for a hit: in memory, and in the Redis at `url` where there is one."""
    for face, subjects in (("ASGI", ASGI), ("WSGI", WSGI)):
        yield _run(f"{face}, hit in memory", subjects, MEMORY, rounds, batch_ms)
    if url is not None:
        for face, subjects in (("ASGI", ASGI), ("WSGI", WSGI)):
            yield _run(f"{face}, hit in Redis", [one for one in subjects if one.caches], url, rounds, batch_ms)


def _run(title: str, subjects: Iterable[Subject], store: str, rounds: int, batch_ms: float) -> Standings:
    found = Standings(title, "µs")
    cases: dict[Subject, Case] = {}
    asks: dict[Subject, Ask] = {}
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        for subject in subjects:
            try:
                cases[subject], asks[subject] = _case(subject, store, runner, resources)
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


def _case(subject: Subject, store: str, runner: asyncio.Runner, resources: ExitStack) -> tuple[Case, Ask]:
    app = subject.app(Place(store, resources))
    if subject.face == "wsgi":
        call = wsgi_call(app, "GET", PATH)

        def ask() -> bytes:
            return _body(wsgi_answer(app, "GET", PATH))

        batch = timed(call) if store == MEMORY else timed_singly(call, _nothing)
    else:
        try:
            resources.enter_context(Lifespan(runner, app))
        except Exception as error:  # it does not get along with what is installed here
            raise NotMeasured(f"does not start: {error}".splitlines()[0]) from error
        app = _with_a_client(app) if subject.listens else app
        acall = asgi_call(app, "GET", PATH)

        def ask() -> bytes:
            return _body(runner.run(asgi_answer(app, "GET", PATH)))

        batch = timed_async(runner, acall) if store == MEMORY else timed_singly_async(runner, acall, _nothing)
    settle(subject, ask)
    return Case(subject.name, batch, _nothing), ask


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
