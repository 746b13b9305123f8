"""Where the time of one request goes, line by line.

The functions are found by watching one request: whatever ran in tiercache is profiled, so that no list has to be kept.
A line's timer costs about as much as a cheap line: read the shares, not the sums.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal, get_args

from benchmarks.apps import constant_asgi, constant_wsgi
from benchmarks.cases import MIDDLE, cached, named
from benchmarks.drive import AUTHORIZATION, asgi_call, wsgi_call
from benchmarks.shared import l2_hits, redis_url

Subject = Literal["asgi", "wsgi", "uncached", "credentials", "post", "l2", "l2-wsgi"]
"""A hit in L1 through one of the faces, one of the ways past the store (ASGI), or a hit in L2."""
SUBJECTS = get_args(Subject)
CALLS = 20_000


def profile(subject: Subject) -> None:
    """Print the profile of one kind of request, the functions in which most time goes last."""
    try:
        from line_profiler import LineProfiler
    except ImportError:
        raise SystemExit("--profile needs line_profiler, which is among the development dependencies") from None
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        batch = _shared(subject, runner, resources) if subject.startswith("l2") else _batch(subject, runner)
        calls = CALLS // 10 if subject.startswith("l2") else CALLS
        batch(100)
        profiler: Any = LineProfiler()
        for function in _functions(lambda: batch(1)):
            profiler.add_function(function)
        profiler.enable()
        batch(calls)
        profiler.disable()
    print(f"{subject}: {calls} calls, {MIDDLE} B")
    profiler.print_stats(sys.stdout, output_unit=1e-6, stripzeros=True, sort=True, summarize=True)


def _batch(subject: Subject, runner: asyncio.Runner) -> Callable[[int], object]:
    if subject == "wsgi":
        call = wsgi_call(cached(ttl="1h").wsgi(constant_wsgi(MIDDLE)))

        def run(n: int) -> None:
            for _ in range(n):
                call()

        return run

    rule = {"cache": False} if subject == "uncached" else {"ttl": "1h"}
    fields = [AUTHORIZATION] if subject == "credentials" else []
    method = "POST" if subject == "post" else "GET"
    request = asgi_call(cached(**rule).asgi(constant_asgi(MIDDLE)), method, "/item", *fields)

    async def arun(n: int) -> None:
        for _ in range(n):
            await request()

    return lambda n: runner.run(arun(n))


def _shared(subject: Subject, runner: asyncio.Runner, resources: ExitStack) -> Callable[[int], object]:
    url = resources.enter_context(redis_url())
    face = "WSGI" if subject == "l2-wsgi" else "ASGI"
    found = [c for c in l2_hits(runner, url, resources) if c.section.startswith(face) and named(MIDDLE) in c.case.name]
    return found[0].case.batch


def _functions(call: Callable[[], object]) -> list[types.FunctionType]:
    """The functions of tiercache that run within `call`."""
    ran: dict[types.CodeType, None] = {}

    def watch(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").startswith("tiercache."):
            ran[frame.f_code] = None

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [
        function
        for code in ran
        for function in gc.get_referrers(code)
        if isinstance(function, types.FunctionType) and function.__code__ is code
    ]
