"""What L1 takes of a process, beside its limit: as it accounts for it, as Python allocates it, as the system sees it.

    python -m benchmarks.footprint

A real app behind the middleware, four threads under WSGI or one loop under ASGI, pages of 200 B to 900 kB with 3 to 30
fields, every fifth in several languages (`Vary`). Three requests in ten are for a hot set, the others for ever new
pages, each of them twice, so that what L1 makes for the first hit is there as well. A row is one process of its own.
What the system sees depends on the C library's `malloc`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from benchmarks.drive import asgi_call, wsgi_call
from tiercache import TierCache
from tiercache.tiers.memory import MemoryTier

Face = Literal["wsgi", "asgi"]
Pages = Literal["mixed", "small"]
LANGUAGES: Final = (b"de", b"en", b"fr", b"nl")
SETTINGS: Final[dict[str, dict[str, str]]] = {
    "as it comes": {},
    "with the two settings": {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "65536"},
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes, at a moment when no request is under way."""

    accounted: int
    allocated: int
    resident: int


def page(path: str, pages: Pages) -> tuple[list[tuple[str, str]], bytes]:
    """The fields and the body of a page, a function of its path."""
    rng = random.Random(path)
    size = 200 if pages == "small" else int(200 * 4500 ** rng.random())
    fields = [(f"x-field-{n}", f"value {n} of {path}") for n in range(rng.choice((1, 6, 28)))]
    fields += [("content-type", "text/html; charset=utf-8"), ("content-length", str(size))]
    if rng.random() < 0.2:
        fields.append(("vary", "accept-language"))
    return fields, b"x" * size


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def watch(face: Face, pages: Pages, limit: int, requests: int, *, rounds: int = 4, traced: bool = True) -> list[Sample]:
    """Drive the app for several rounds, and weigh the process after each beside what it was without the cache."""
    _asker(face, pages, TierCache(namespace="first"))([("/p/first", b"en")])  # Imports, and what is made only once.
    gc.collect()
    before = resident()
    if traced:
        tracemalloc.start()
    try:
        cache = TierCache(namespace="footprint", l1_size=limit)
        ask = _asker(face, pages, cache)
        samples = []
        for turn in range(rounds):
            ask(traffic(turn, requests // rounds))
            gc.collect()
            allocated = tracemalloc.get_traced_memory()[0]
            samples.append(Sample(cast("MemoryTier", cache._engine.memory).currsize, allocated, resident() - before))
    finally:
        tracemalloc.stop()
    return samples


def traffic(turn: int, requests: int) -> list[tuple[str, bytes]]:
    """Paths and languages."""
    rng = random.Random(turn)
    unique = (f"/p/{turn}-{number // 2}" for number in range(requests))
    hot = [f"/p/hot-{number}" for number in range(20)]
    return [(rng.choice(hot) if rng.random() < 0.3 else next(unique), rng.choice(LANGUAGES)) for _ in range(requests)]


def _asker(face: Face, pages: Pages, cache: TierCache) -> Callable[[list[tuple[str, bytes]]], None]:
    cache.route("/p/{id}", ttl="1h")
    return _threads(cache, pages) if face == "wsgi" else _loop(cache, pages)


def _threads(cache: TierCache, pages: Pages) -> Callable[[list[tuple[str, bytes]]], None]:
    def bare(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        fields, body = page(environ["PATH_INFO"], pages)
        start_response("200 OK", fields)
        return [body]

    app = cache.wsgi(bare)

    def work(requests: list[tuple[str, bytes]]) -> None:
        for path, language in requests:
            wsgi_call(app, "GET", path, (b"accept-language", language))()

    def ask(requests: list[tuple[str, bytes]]) -> None:
        threads = [threading.Thread(target=work, args=(requests[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return ask


def _loop(cache: TierCache, pages: Pages) -> Callable[[list[tuple[str, bytes]]], None]:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        fields, body = page(scope["path"], pages)
        headers = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    app = cache.asgi(bare)

    async def work(requests: list[tuple[str, bytes]]) -> None:
        for path, language in requests:
            await asgi_call(app, "GET", path, (b"accept-language", language))()

    return lambda requests: asyncio.run(work(requests))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=64, help="of L1, in MiB; a quarter for small pages (%(default)s)")
    parser.add_argument("--requests", type=int, default=4000, help="for mixed pages; five times as many small ones")
    parser.add_argument("--row", nargs=3, metavar=("FACE", "PAGES", "TRACED"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.row:
        face, pages, traced = options.row
        limit, count = options.limit << 20, options.requests
        if pages == "small":
            limit, count = limit // 4, count * 4
        samples = watch(face, pages, limit, count, traced=traced == "traced")
        worst = [max(getattr(sample, name) for sample in samples) for name in ("accounted", "allocated", "resident")]
        print(*(f"{value / limit * 100:.0f}" for value in worst))
        return 0
    print("| pages | face | accounted | allocated |", " | ".join(f"resident, {name}" for name in SETTINGS), "|")
    print("| --- " * (4 + len(SETTINGS)) + "|")
    for pages in ("mixed", "small"):
        for face in ("wsgi", "asgi"):
            accounted, allocated, _ = _row(options, face, pages, "traced", {})
            seen = [_row(options, face, pages, "bare", extra)[2] for extra in SETTINGS.values()]
            print(f"| {pages} | {face} | {accounted} | {allocated} |", " | ".join(seen), "|", flush=True)
    return 0


def _row(options: argparse.Namespace, face: str, pages: str, traced: str, extra: dict[str, str]) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.footprint", "--row", face, pages, traced]
    command += ["--limit", str(options.limit), "--requests", str(options.requests)]
    found = subprocess.run(command, env=os.environ | extra, check=True, capture_output=True, text=True)
    return found.stdout.split()


if __name__ == "__main__":
    sys.exit(main())
