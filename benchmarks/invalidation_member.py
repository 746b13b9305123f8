"""One process of the fleet that is measured: `python -m benchmarks.invalidation_member KIND URL NAMESPACE BOUND`.

`cache` listens as every process does that has a cache, `plain` with redis-py alone, and `server` answers requests
besides. Each line of its input is a command, and gets a line of JSON. Times are CLOCK_MONOTONIC, which all processes of
a machine share.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import msgspec
import redis

from benchmarks.apps import constant_wsgi
from benchmarks.cases import SMALL
from benchmarks.drive import wsgi_call
from benchmarks.figures import quantile
from tiercache import TierCache
from tiercache.core.records import Message, SyncPage, SyncRequest

PATIENCE = 60.0
"""Seconds after which a member gives up."""


class Heard:
    """What has been applied, and when."""

    def __init__(self) -> None:
        self.times: list[tuple[int, int]] = []

    def report(self) -> dict[str, Any]:
        """What was heard since the last report, and the processor's time until now."""
        times, self.times = self.times, []
        return {"heard": times, "cpu": time.process_time()}


def listening(url: str, namespace: str, bound: float) -> tuple[TierCache, Heard]:
    """A cache that follows the ledger, and notes when each message has been applied."""
    cache = TierCache(url, namespace=namespace, staleness_bound=bound)
    cache.route("/{page}", ttl="1h")
    heard = Heard()
    ledger = cache._engine.ledger
    apply = ledger.heard

    def noting(message: Message, now: float) -> bool:
        found = apply(message, now)
        heard.times.append((message.number, time.monotonic_ns()))
        return found

    ledger.heard = noting  # type: ignore[method-assign]
    return cache, heard


def until_trusted(cache: TierCache) -> None:
    deadline = time.monotonic() + PATIENCE
    while not cache._engine.trusted():
        if time.monotonic() > deadline:
            raise RuntimeError("the shared tier gives no trust")
        time.sleep(0.002)


class Plain(Heard):
    """A listener of redis-py's own, in a thread: what a message takes that is not looked at."""

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        super().__init__()
        self._taken: deque[tuple[bytes, int]] = deque()
        self._stopping = threading.Event()
        # Both are kept: a client that is collected closes its connections.
        client: Any = redis.Redis.from_url(url)
        self._client, self._pubsub = client, client.pubsub()
        self._pubsub.subscribe(*channels)
        for _ in channels:
            while self._pubsub.get_message(timeout=1.0) is None:
                pass
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=0.5)
            if message is not None:
                self._taken.append((message["data"], time.monotonic_ns()))

    def report(self) -> dict[str, Any]:
        while self._taken:
            data, at = self._taken.popleft()
            self.times.append((msgspec.msgpack.decode(data)[1], at))
        return super().report()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()


class Server:
    """A process that answers one page without a pause, and attaches to another ledger meanwhile."""

    def __init__(self, cache: TierCache) -> None:
        self._cache = cache
        self._calls = 0
        self._call = wsgi_call(cache.wsgi(self._counted(constant_wsgi(SMALL))), "GET", "/200")
        self._call()
        self._began = self._ended = 0
        ledger = cache._engine.ledger
        apply, synced = ledger.heard, ledger.synced

        def hearing(message: Message, now: float) -> bool:
            if not self._began and message.epoch != ledger.stamp().epoch:
                self._began = time.monotonic_ns()
            return apply(message, now)

        def syncing(request: SyncRequest, page: SyncPage) -> bool:
            done = synced(request, page)
            if done and self._began and not self._ended:
                self._ended = time.monotonic_ns()
            return done

        ledger.heard, ledger.synced = hearing, syncing  # type: ignore[method-assign]

    def _counted(self, app: WSGIApplication) -> WSGIApplication:
        def counted(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            self._calls += 1
            return app(environ, start_response)

        return counted

    def serve(self, seconds: float, pause: float) -> dict[str, Any]:
        """Answer for so long; with `seconds` 0 until it has attached to another ledger."""
        call, clock = self._call, time.monotonic_ns
        taken: list[tuple[int, int]] = []
        calls = self._calls
        self._began = self._ended = 0
        end = clock() + int((seconds or PATIENCE) * 1e9)
        begun = now = clock()
        ended = 0
        # Once more than until it has attached, which can happen between two answers.
        while now < end and not ended:
            if pause:
                time.sleep(pause)
                now = clock()
            ended = self._ended
            call()
            then, now = now, clock()
            taken.append((then, now - then))
        if not seconds:
            begun, now = self._began, self._ended
        latencies = [spent / 1e3 for at, spent in taken if at + spent >= begun]
        return {
            "seconds": (now - begun) / 1e9,
            "hits": len(latencies),
            "app": self._calls - calls,
            "members": len(self._cache._engine.ledger._view.members),
            "p50": quantile(latencies, 0.50),
            "p99": quantile(latencies, 0.99),
            "most": max(latencies),
        }


def main(kind: str, url: str, namespace: str, bound: str) -> None:
    began = time.monotonic()
    cache: TierCache | None = None
    if kind == "plain":
        heard: Heard = Plain(url, namespace.split(","))
    else:
        cache, heard = listening(url, namespace, float(bound))
        began = time.monotonic()
        cache.start()
        until_trusted(cache)
    _say(ready=time.monotonic() - began)
    server = Server(cache) if cache is not None and kind == "server" else None
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "serve" and server is not None:
            _say(**server.serve(float(numbers[0]), float(numbers[1])))
        elif command == "report":
            _say(**heard.report())
        else:
            raise SystemExit(f"not a command here: {line!r}")


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
