"""Any interleaving of fills, purges, lost, repeated and reordered messages, lost history and crashes keeps what is
promised; and each rule, taken out, is caught by the same search.

`TIERCACHE_SEEDS` sets how many random histories are tried (default 1,000).
"""

from __future__ import annotations

import inspect
import os
import types
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.core.ledger_histories import settle, simulate
from tests.core.ledger_model import KEYS, TAGS, Violation, World
from tiercache.core import history as true_history
from tiercache.core import ledger as true_ledger

SEEDS = int(os.environ.get("TIERCACHE_SEEDS", "1000"))
WITHIN = 800
"""Seeds in which a rule taken out has to be noticed; most are within the first hundred."""

EVENTS = (
    *("l1", "l2", "isolated", "dead in l1", "dead in l2"),
    *("sync", "more pages", "sync needed", "reply not taken", "new epoch"),
    *("purge", "unconfirmed", "replayed"),
    *("crash", "cut off", "restart", "flush", "ledger evicted", "rolled back"),
)


@pytest.mark.timeout(0)
def test_random_histories_keep_the_promise() -> None:
    seen: Counter[str] = Counter()
    for seed in range(max(SEEDS, WITHIN)):
        try:
            seen += simulate(seed).seen
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    # A model in which nothing happens keeps every promise.
    for event in EVENTS:
        assert seen[event] > SEEDS / 50, f"{event}: {seen}"


def without(line: str, instead: str) -> dict[str, Any]:
    """The ledger with one line of its source, or of its history's, replaced."""
    sources = {module: inspect.getsource(module) for module in (true_history, true_ledger)}
    assert sum(source.count(line) for source in sources.values()) == 1, f"{line!r} is not there exactly once"
    made = {}
    for module, source in sources.items():
        mutant = made[module] = types.ModuleType("mutant")
        exec(compile(source.replace(line, instead), "mutant", "exec"), mutant.__dict__)
    made[true_ledger].__dict__["History"] = made[true_history].__dict__["History"]
    return {"ledger_type": made[true_ledger].__dict__["Ledger"]}


MUTANTS = {
    "the stamp is taken at the end": {"stamp_at_end": True},
    "epochs are not compared": without("if entry.epoch != view.epoch:", "if False:"),
    "the floor is not looked at": without("return number < self.floor", "return False"),
    "the floor of a page is not taken": without(
        "target.merge(page.records, page.floor, request.sent)", "target.merge(page.records, 0, request.sent)"
    ),
    "a gap goes unnoticed": without("if message.prev == view.seq:", "if True:"),
    "trust runs from the receipt": {"trust_from_receipt": True},
    "a page ends inside a number": {"cut_numbers": True},
    "members do not merge by maximum": without("and number > members.get(member, 0):", "and True:"),
    "a partial page gives trust": without("if not page.complete:", "if False:"),
    "a purge of the own process in another epoch is not held": without(
        "self._bar(message.members, message.floor >= message.number, now)", "pass"
    ),
    "bars are lifted by a reply of another epoch": without("if current:", "if True:"),
    "what is barred is served from L2": without("self._bars[member] = mark", "pass"),
}


@pytest.mark.parametrize("rule", MUTANTS)
def test_a_rule_taken_out_is_caught(rule: str) -> None:
    for seed in range(WITHIN):
        try:
            simulate(seed, **MUTANTS[rule])
        except Violation:
            return
        except AssertionError:
            continue  # the mirror differs in the end, but nothing wrong was served: not enough
    raise AssertionError(f"{WITHIN} random histories, and nobody noticed that {rule}")


class Fleet(RuleBasedStateMachine):
    """The same world, driven by hypothesis, which looks for the shortest history that breaks a promise."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(page=1, keep=4)
        for process in self.world.processes:
            self.world.sync(process.index)
        self.world.drain()

    which = st.integers(0, 2)
    some = st.integers(0, 1_000)

    def packet(self, some: int) -> int:
        return some % len(self.world.packets)

    @rule(ms=st.sampled_from((1, 50, 334, 999, 1_001, 4_000)))
    def advance(self, ms: int) -> None:
        self.world.advance(ms)

    @precondition(lambda self: self.world.packets)
    @rule(some=some)
    def deliver(self, some: int) -> None:
        self.world.deliver(self.packet(some))

    @precondition(lambda self: self.world.packets)
    @rule(some=some)
    def repeat(self, some: int) -> None:
        self.world.repeat(self.packet(some))

    @precondition(lambda self: self.world.packets)
    @rule(some=some)
    def lose(self, some: int) -> None:
        self.world.lose(self.packet(some))

    @rule()
    def deliver_all(self) -> None:
        self.world.drain()

    @rule(index=which)
    def sync(self, index: int) -> None:
        self.world.sync(index)

    @rule(index=which, key=st.sampled_from(sorted(KEYS)))
    def begin(self, index: int, key: str) -> None:
        self.world.begin(index, key)

    @rule(index=which, some=some)
    def end(self, index: int, some: int) -> None:
        self.world.end(index, some)

    @rule(index=which, key=st.sampled_from(sorted(KEYS)))
    def read(self, index: int, key: str) -> None:
        self.world.read(index, key)

    @rule(index=which, tags=st.sets(st.sampled_from(TAGS), min_size=1), everything=st.booleans())
    def purge(self, index: int, tags: set[str], everything: bool) -> None:
        self.world.purge(index, sorted(tags), everything)

    @rule(index=which)
    def give_up(self, index: int) -> None:
        self.world.give_up(index)

    @rule(index=which)
    def replay(self, index: int) -> None:
        self.world.replay(index)

    @rule(index=which)
    def cut_or_mend(self, index: int) -> None:
        self.world.disconnect(index)

    @rule(index=which)
    def crash(self, index: int) -> None:
        self.world.crash(index)

    @rule()
    def redis_fails_or_returns(self) -> None:
        self.world.fail()

    @rule()
    def snapshot(self) -> None:
        self.world.snapshot()

    @rule(lost=st.sampled_from(("ledger", "everything", "recent", "nothing", "recent, same server")))
    def lose_history(self, lost: str) -> None:
        if lost == "ledger":
            self.world.evict_ledger()
        elif lost == "everything":
            self.world.flush()
        elif lost == "recent, same server":
            self.world.roll_back()
        else:
            self.world.restart(None if lost == "nothing" else -1)

    def teardown(self) -> None:
        settle(self.world)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=max(60, SEEDS // 25),
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
