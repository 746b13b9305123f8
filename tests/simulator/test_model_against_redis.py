"""The model of Redis and real servers: the same random scripts give the same answers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest
import redis

from tests.servers import RedisServer
from tests.simulator.redis_model import ModelRedis
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest
from tiercache.tiers.redis import RedisTier

pytestmark = pytest.mark.every_server

LEDGER, ROWS = "tc:{shop}:ledger", "tc:{shop}:members"
TAGS = ("h:t:a", "h:t:b", "s:t:a", "s:t:b", "s:*", "b:p:/shop/", "b:g:/*/x", "h:p:/é", "h:u:1", "h:v:a", "h:v:a:b\n")
KEYS = tuple([f"h:v:{store}:{number:032x}" for store in ("a", "a:b\n") for number in (1, 2, 3, 10)])
SCRIPTS = 25
LENGTH = 60


class Pair:
    """A real ledger and its model, asked the same. Epochs have random names: each is compared by when it was begun."""

    def __init__(self, server: RedisServer, limit: int, page: int, keys: int = 50) -> None:
        self.client = redis.Redis.from_url(server.url)
        self.tier = RedisTier(server.url, "shop", ledger_limit=limit, ledger_keys=keys, page=page)
        self._names: Iterator[str] = iter(())
        self._count = 0
        self.model = ModelRedis(time.time, self.name, limit=limit, keys=keys, page=page)
        self.real_epochs: list[str] = []
        self.model_epochs: list[str] = []
        self.heard: list[Message] = []
        self.model.publish = self.heard.append
        self.bus = self.tier.listen()

    def name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def close(self) -> None:
        self.tier.close()
        self.client.close()

    def soon(self) -> float:
        return time.monotonic() + 20

    def same_epoch(self, real: str, model: str) -> None:
        if real not in self.real_epochs and model not in self.model_epochs:
            self.real_epochs.append(real)
            self.model_epochs.append(model)
        assert self.real_epochs.index(real) == self.model_epochs.index(model)

    def epochs(self, index: int) -> tuple[str, str]:
        """The same epoch in both, or a strange one."""
        if index >= len(self.real_epochs):
            return "strange", "strange"
        return self.real_epochs[index], self.model_epochs[index]

    def same(self, real: Any, model: Any, *others: str) -> None:
        self.same_epoch(real.epoch, model.epoch)
        left, right = real._asdict(), model._asdict()
        for name in ("epoch", *others):
            del left[name], right[name]
        assert left == right

    def purge(self, members: list[str], everything: bool, epoch: int, number: int, ack: bool) -> list[Message]:
        real_epoch, model_epoch = self.epochs(epoch)
        real = self.tier.purge(members, everything, self.soon(), Stamp(real_epoch, number), ack=ack)
        self.heard.clear()
        model = self.model.purge(members, everything, Stamp(model_epoch, number), ack=ack)
        assert len(real) == len(model) == len(self.heard)
        for left, right, published in zip(real, model, self.heard, strict=True):
            self.same(left, right)
            told = self.bus.wait(5)
            assert told is not None
            self.same(told, published)
            assert not told.previous
        return real

    def sync(self, epoch: int, seen: int, process: str, fleet: bool) -> SyncPage:
        real_epoch, model_epoch = self.epochs(epoch)
        asked = SyncRequest(real_epoch, seen, 0.0, max(0, seen - 1))
        real = self.tier.sync(asked, process, self.soon(), 1.5, fleet=fleet)
        model = self.model.sync(asked._replace(epoch=model_epoch), process, 1.5, fleet=fleet)
        self.same(
            real._replace(records=tuple(sorted(real.records))),
            model._replace(records=tuple(sorted(model.records))),
            *("time", "since", "rows"),
        )
        assert abs(real.time - model.time) < 60
        assert abs(real.since - model.since) < 60
        assert (real.rows is None) == (model.rows is None)
        if real.rows is not None and model.rows is not None:
            rows = {row.process_id: row for row in model.rows}
            assert {row.process_id for row in real.rows} == set(rows)
            for row in real.rows:
                known = rows[row.process_id]
                assert (row.number, row.bound) == (known.number, known.bound)
                assert abs(row.time - known.time) < 60
                if row.epoch not in ("-", "strange"):
                    self.same_epoch(row.epoch, known.epoch)
        return real

    def leave(self, process: str) -> None:
        self.tier.leave(process, self.soon())
        self.model.leave(process)

    def lose(self, what: str) -> None:
        """What befalls a server: everything, the ledger or the rows are gone, or another process answers."""
        if what == "everything":
            self.client.flushall()
            self.model.flush()
        elif what == "ledger":
            self.client.delete(LEDGER)
            self.model.ledger = None
        elif what == "rows":
            self.client.delete(ROWS)
            self.model.rows = None
        else:
            # As a replica that has taken over finds it: written by another server process.
            (owner,) = [m for m, score in self.client.zrange(LEDGER, 0, -1, withscores=True) if score == -2] or [b""]
            self.client.zrem(LEDGER, owner)
            if owner:
                self.client.zadd(LEDGER, {"i:another": -2})
            self.model.run_id = self.name("run")


def play(pair: Pair, rng: random.Random, trims: list[int]) -> None:
    head = 0
    for _ in range(LENGTH):
        luck = rng.random()
        epoch = max(0, len(pair.real_epochs) - 1 - rng.choice((0, 0, 0, 0, 1, -5)))
        number = max(0, head + rng.choice((0, 0, 0, -1, -2, -5, 1)))
        if luck < 0.45:
            members = rng.sample(rng.choice((TAGS, KEYS, TAGS + KEYS)), rng.choice((1, 1, 2, 4)))
            messages = pair.purge(members, rng.random() < 0.08, epoch, number, rng.random() < 0.3)
            head = messages[-1].number
            trims[0] += bool(messages[-1].floor)
        elif luck < 0.92:
            page = pair.sync(epoch, rng.choice((0, number)), rng.choice("pqr"), rng.random() < 0.5)
            head = page.head
            while not page.complete:
                trims[1] += 1
                page = pair.sync(pair.real_epochs.index(page.epoch), page.last, "pages", True)
        elif luck < 0.95:
            pair.leave(rng.choice("pqr"))
        else:
            pair.lose(rng.choice(("everything", "ledger", "rows", "server")))


@pytest.mark.timeout(120)
def test_the_same_scripts_give_the_same_answers(redis_server: RedisServer) -> None:
    trims = [0, 0]
    epochs = folded = 0
    for seed in range(SCRIPTS):
        rng = random.Random(seed)
        redis_server.ask("FLUSHALL")
        pair = Pair(
            redis_server, limit=rng.choice((2, 4, 50)), page=rng.choice((1, 2, 3, 50)), keys=rng.choice((1, 3, 50))
        )
        try:
            play(pair, rng, trims)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        finally:
            pair.close()
        epochs += len(pair.real_epochs)
        folded += pair.model.folded
    # Otherwise it would show nothing of trims, pages, keys and lost history.
    assert folded > SCRIPTS
    assert min(trims) > SCRIPTS
    assert epochs > 3 * SCRIPTS


def test_more_members_than_a_number_carries(redis_server: RedisServer) -> None:
    pair = Pair(redis_server, limit=1_500, page=700)
    try:
        members = [f"h:t:{number}" for number in range(2_300)]
        messages = pair.purge(members, False, 0, 0, True)
        assert [message.ack for message in messages] == [False, False, True]
        page = pair.sync(0, 0, "p", False)
        while not page.complete:
            page = pair.sync(0, page.last, "p", False)
        assert pair.purge(members[-5:], False, 0, messages[-1].number, False)[0].previous == (3,) * 5
        assert page.since < inf
    finally:
        pair.close()
