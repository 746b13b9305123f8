"""What the demonstration does with the shops, and what it expects."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException

from examples.demo.counting import Counting
from examples.demo.processes import TAKEN_OVER, Processes, Worker
from examples.demo.updates import Staleness, cents_of, measure, pages_of
from examples.demo.visitor import HOST, Reply, Visitor
from tools.redis_server import RedisServer

ISOLATED = 5.0
"""Seconds: `isolated_ttl` of the product pages, in the `caching.py` of both shops."""
SLACK = 2.0
"""Seconds that a busy machine may add before a promise counts as broken."""
BEHIND = 0.2
"""Seconds: pages are written to Redis behind the answer."""


class Story:
    """Each step prints what was asked and what came back, and notes what was not as it should be."""

    def __init__(
        self,
        processes: Processes,
        workers: list[Worker],
        server: RedisServer | None,
        counting: Counting,
        updates: int,
    ) -> None:
        self._processes = processes
        self._server = server
        self._counting = counting
        self._updates = updates
        self._visitors = [Visitor(worker.name, worker.port) for worker in workers]
        self._starlette, self._flask = self._visitors[:2], self._visitors[2:]
        # Of their own: a connection carries one request at a time, and the visitors ask without a pause.
        self._editors = [Visitor(worker.name, worker.port) for worker in workers[2:]]
        self._failures: list[str] = []
        self._began = time.monotonic()

    def tell(self) -> int:
        """The exit code: 0 if everything held."""
        print(
            f"  every request below carries the same Host, {HOST}, and goes to the worker that is named\n\n"
            "A line is a request: worker, path, status, time, what Cache-Status says (RFC 9211), and that in words."
        )
        steps: list[Callable[[], None]] = [self._tiers, self._not_shared, self._update]
        steps += [self._views] if self._counting.writers else []
        steps += [self._sessions]
        if self._server is not None:
            steps += [self._outage, self._update_in_outage, self._return]
        for number, step in enumerate(steps, 1):
            print(f"\n{number}. {step.__doc__}")
            try:
                step()
            except (OSError, HTTPException, ValueError) as error:
                self._expect(False, f"step {number} broke off: {type(error).__name__}: {error}")
                break
        if self._server is None:
            print("\nThe steps without Redis were left out: the one that REDIS_URL names is not ours to stop.")
        for visitor in (*self._visitors, *self._editors):
            visitor.close()
        seconds = time.monotonic() - self._began
        if self._failures:
            print(f"\nNOT as promised ({seconds:.0f} s):")
            for failure in self._failures:
                print(f"  {failure}")
            return 1
        print(f"\nEverything held ({seconds:.0f} s).")
        return 0

    # -- steps: each docstring is the heading that a reader sees ---------------------------------------------------

    def _tiers(self) -> None:
        """The same page, from the app, from Redis and from memory"""
        for first, second in (self._starlette, self._flask):
            self._show(first, "/products/1", "the app makes it", "fwd=miss; stored")
            time.sleep(BEHIND)
            self._show(second, "/products/1", "Redis has it from the other process", "detail=l2")
            self._show(second, "/products/1", "now in its own memory", "detail=l1")
        print("  (Both shops use one namespace but two names: the Flask shop never gets a page of the Starlette shop.)")

    def _not_shared(self) -> None:
        """Market data stays in each process for 250 ms, and the account page is never stored"""
        self._show(self._starlette[0], "/market-data", "the app", "fwd=miss; stored")
        time.sleep(BEHIND)
        self._show(self._starlette[1], "/market-data", "the app again: Redis is not asked", "fwd=miss; stored")
        for _ in range(2):
            self._show(self._flask[0], "/account", "the app, every time", "fwd=bypass")

    def _update(self) -> None:
        """Prices change through Flask; how long is the old one seen?"""
        result = self._change_prices(self._updates, 2)
        print(
            f"  {len(result.milliseconds)} updates, alternately through flask-1 and flask-2: commit, purge, answer.\n"
            "  Meanwhile all four workers were asked without a pause for the product's page and the front page, which\n"
            f"  lists it: {result.answers} answers.\n"
            "  Time from the return of an update to the last old price, in answers of any of the four to requests\n"
            "  sent after that return (0.0 where there was none):\n"
            f"    {result}\n"
            f"  After {result.none_seen} of {len(result.milliseconds)} updates nobody saw the old price at all."
        )
        self._expect_prompt(result)

    def _views(self) -> None:
        """Page views are counted behind the answer, and a process that writes them is killed"""
        views = self._updates * 10
        print(f"  {views} views of all products through all four workers; at half of them writer-1 gets a SIGKILL")
        counted = self._counting.run(views)
        total = counted.acknowledged.total()
        print(
            f"  {total} were acknowledged. What writer-1 had left lay for {TAKEN_OVER:g} s, the database was up to"
            f" {counted.behind} behind; then writer-2 took over"
        )
        if counted.complete is not None:
            print(f"  {counted.complete:.1f} s after the last one the database had all; writer-2 was then told to end")
        for what in counted.refused[:5]:
            self._expect(False, what)
        self._expect(counted.complete is not None, "the database never had all page views")
        self._expect(counted.code == 0, f"writer-2 ended with code {counted.code}")
        self._expect(not counted.off, f"the database is off by {counted.off}")
        if not counted.off:
            print(f"  page views in the database, by product: {_list(counted.acknowledged)}. None is lost, none twice")

    def _sessions(self) -> None:
        """Ada logs in, in both shops, and is logged out everywhere by one of them"""
        cookies = {}
        for first, second in (self._starlette, self._flask):
            reply = first.post("/account", user="Ada")
            cookies[first.name] = cookies[second.name] = reply.cookie
            print(f"  {first.name:11}  logs her in; her cookie: {reply.cookie[:40]}...")
        for visitor in self._visitors:
            known = "You are Ada" in visitor.get("/account", cookies[visitor.name]).text
            print(f"  {visitor.name:11}  {'knows her' if known else 'does not know her'}")
            self._expect(known, f"{visitor.name} did not know who had logged in")
        last = self._flask[1]
        self._expect(last.post("/account/leave", cookies[last.name]).status == 303, f"{last.name} did not log her out")
        print(f"  {last.name:11}  ends all her sessions")
        for visitor in self._visitors:
            known = "You are Ada" in visitor.get("/account", cookies[visitor.name]).text
            print(f"  {visitor.name:11}  {'still knows her' if known else 'knows her no more'}")
            self._expect(not known, f"{visitor.name} still knew who had been logged out")

    def _outage(self) -> None:
        """Redis is killed; the pages are still answered"""
        for visitor in self._visitors:
            visitor.get("/products/1")
        self._processes.kill_redis(self._server_here)
        print("  Redis: killed")
        for visitor in self._visitors:
            self._show(visitor, "/products/1", "at once", "")
        time.sleep(1.5)
        print("  1.5 s later no process can know any more what others have purged. Each trusts only pages that it made")
        print(f"  itself, and those for {ISOLATED:g} s (isolated_ttl); what came from Redis is made anew by the app:")
        for visitor in self._visitors:
            self._show(visitor, "/products/1", "", "")
        for visitor in self._visitors:
            self._show(visitor, "/products/1", "and again, from memory alone", "detail=isolated")

    def _update_in_outage(self) -> None:
        """A price changes while Redis is away"""
        new = max(self._prices(3)) + 100
        reply = self._post(self._editors[0], 3, new)
        returned = time.perf_counter()
        print(f"  flask-1 takes the update: {reply.status}, purge {reply.purge} ({reply.milliseconds:.0f} ms)")
        self._expect(reply.purge == "queued", f"the purge was said to be {reply.purge or 'nothing'}, not queued")
        self._until_all_show(3, new, returned, ISOLATED + SLACK)
        print("  The others could not hear of it.", end=" ")
        print(f"How long that may last is a setting: isolated_ttl, here {ISOLATED:g} s.")

    def _return(self) -> None:
        """Redis comes back"""
        new = max(self._prices(4)) + 100
        reply = self._post(self._editors[0], 4, new)
        self._expect(reply.purge == "queued", f"the purge was said to be {reply.purge or 'nothing'}, not queued")
        self._processes.start_redis(self._server_here)
        back = time.perf_counter()
        print("  One more price changed just before, its purge is queued too. Redis: running again, from its log; what")
        print("  that says of purges may be old, so no page of before is used any more")
        self._until_all_show(4, new, back, ISOLATED + SLACK)
        for first, second in (self._starlette, self._flask):
            waited = self._until_shared(first, second, back)
            if waited is not None:
                print(f"  {second.name} gets pages of {first.name} from Redis again, {waited:.1f} s after the return")
        result = self._change_prices(20, 2)
        print(
            f"  20 more updates, every purge confirmed; old prices seen, as before:\n    {result}"
        )
        self._expect_prompt(result)

    # -- what the steps are made of ----------------------------------------------------------------------------------

    @property
    def _server_here(self) -> RedisServer:
        assert self._server is not None
        return self._server

    def _expect(self, held: bool, otherwise: str) -> None:
        if not held:
            self._failures.append(otherwise)
            print(f"  NOT AS PROMISED: {otherwise}")

    def _show(self, visitor: Visitor, path: str, meaning: str, expected: str) -> Reply:
        reply = visitor.get(path)
        print(
            f"  {visitor.name:11}  {path:12}  {reply.status}  {reply.milliseconds:5.1f} ms"
            f"  {reply.cache_status:27}  {meaning}".rstrip()
        )
        self._expect(reply.status == 200, f"{visitor.name} answered {path} with {reply.status}")
        self._expect(
            expected in reply.cache_status, f"{visitor.name} said of {path}: {reply.cache_status}, not {expected}"
        )
        return reply

    def _post(self, visitor: Visitor, product: int, cents: int) -> Reply:
        reply = visitor.post(f"/products/{product}/price", price=f"{cents // 100}.{cents % 100:02}")
        self._expect(reply.status == 303, f"{visitor.name} answered an update of product {product} with {reply.status}")
        return reply

    def _prices(self, product: int) -> list[int]:
        return [cents_of(visitor.get(path), product) for visitor in self._visitors for path in pages_of(product)]

    def _change_prices(self, updates: int, product: int) -> Staleness:
        lowest = max(self._prices(product)) + 1
        unconfirmed: list[str] = []

        def change(cents: int) -> None:
            reply = self._post(self._editors[cents % 2], product, cents)
            if reply.purge != "confirmed":
                unconfirmed.append(reply.purge)

        result = measure(self._visitors, product, change, range(lowest, lowest + updates))
        for what in result.strange[:5]:
            self._expect(False, what)
        self._expect(not unconfirmed, f"{len(unconfirmed)} purges were not confirmed")
        return result

    def _expect_prompt(self, result: Staleness) -> None:
        # The bound that holds even with messages lost: `staleness_bound`, 1 s by default.
        top, half = max(result.milliseconds), result.quantile(0.5)
        self._expect(top < 1000, f"an old price was seen {top:.0f} ms after its update")
        self._expect(half < 100, f"half of the old prices were seen for {half:.0f} ms: messages do not arrive")

    def _until_all_show(self, product: int, cents: int, since: float, limit: float) -> None:
        """Print when each worker first showed the new price, and make sure that it stays."""
        first: dict[str, float] = {}
        while len(first) < len(self._visitors) and time.perf_counter() - since < limit:
            for visitor in self._visitors:
                shown = cents_of(visitor.get(f"/products/{product}"), product)
                if shown == cents and visitor.name not in first:
                    first[visitor.name] = time.perf_counter() - since
                self._expect(shown == cents or visitor.name not in first, f"{visitor.name} went back to an old price")
            time.sleep(0.02)
        for visitor in self._visitors:
            when = first.get(visitor.name)
            self._expect(when is not None, f"{visitor.name} still showed the old price after {limit:g} s")
            if when is not None:
                print(f"  {visitor.name:11}  shows the new price after {when:4.1f} s")

    def _until_shared(self, first: Visitor, second: Visitor, since: float) -> float | None:
        """Seconds from `since` until a page that `first` made was found in Redis by `second`."""
        for attempt in range(100):
            path = f"/products/5?attempt={attempt}"
            first.get(path)
            time.sleep(0.1)
            if re.search("detail=l2", second.get(path).cache_status):
                return time.perf_counter() - since
        self._expect(False, f"{second.name} still found nothing in Redis after 10 s")
        return None


def _list(counted: Counter[int]) -> str:
    return ", ".join(f"{product}: {number}" for product, number in sorted(counted.items()))
