"""A Sentinel set-up and a Cluster of real servers on free ports, for the tests and for trying things out.

with SentinelSetup() as sentinel:     # 1 primary, 2 replicas, 3 sentinels
    cache = TierCache(sentinel.url)
with ClusterSetup() as cluster:       # 3 masters, 3 replicas
    cache = TierCache(cluster.url)
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tools.redis_server import Binary, RedisServer

SLOTS = 16_384
_PATIENCE = 30.0
"""Seconds that a set-up may take to agree with itself before it counts as broken."""
_BUS = 10_000
"""Nodes of a Cluster talk to each other on the port so much above their own; only Redis 7 can choose another."""


def eventually(question: Callable[[], bool], what: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            if question():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise RuntimeError(f"not within {_PATIENCE:.0f} s: {what}")
        time.sleep(0.02)


class _Servers:
    servers: list[RedisServer]

    def start(self) -> Self:
        raise NotImplementedError

    def close(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SentinelSetup(_Servers):
    """One primary with its replicas and three sentinels, which find each other through it.

    `down_after_ms` is the silence after which a sentinel takes the primary for dead.
    """

    service = "shop"

    def __init__(
        self, binary: Binary | None = None, *, replicas: int = 2, down_after_ms: int = 800, **options: Any
    ) -> None:
        self._binary = binary
        self._options = options
        self._replicas = replicas
        self._down_after_ms = down_after_ms
        self.servers: list[RedisServer] = []
        self.nodes: list[RedisServer] = []
        """The primary first, as it was at the start."""
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def start(self) -> Self:
        """Start all and wait until the sentinels know each other and the replicas follow."""
        options = {"repl_diskless_sync_delay": 0, **self._options}
        primary = self._add(self.nodes, RedisServer(self._binary, **options))
        for _ in range(self._replicas):
            self._add(self.nodes, RedisServer(self._binary, replicaof=("127.0.0.1", primary.port), **options))
        eventually(
            lambda: all(s.info("replication")["master_link_status"] == "up" for s in self.nodes[1:]),
            "the replicas follow",
        )
        for _ in range(3):
            self._add(self.sentinels, self._sentinel(primary.port))
        eventually(lambda: all(self._complete(sentinel) for sentinel in self.sentinels), "the sentinels are complete")
        return self

    def notice_after(self, milliseconds: int) -> None:
        """From now on, how long the primary may be silent. Short times end in needless failovers on a busy machine."""
        for sentinel in self.sentinels:
            sentinel.expect("SENTINEL", "SET", self.service, "down-after-milliseconds", str(milliseconds))

    def _add(self, to: list[RedisServer], server: RedisServer) -> RedisServer:
        self.servers.append(server)
        to.append(server.start())
        return server

    def _sentinel(self, port: int) -> RedisServer:
        lines = [
            f"sentinel monitor {self.service} 127.0.0.1 {port} 2",
            f"sentinel down-after-milliseconds {self.service} {self._down_after_ms}",
            # The time after which another attempt is made, and how long the losers of a vote hold still.
            f"sentinel failover-timeout {self.service} 3000",
            f"sentinel parallel-syncs {self.service} 2",
        ]
        return RedisServer(self._binary, sentinel="\n".join(lines) + "\n")

    def _complete(self, sentinel: RedisServer) -> bool:
        told = sentinel.info("sentinel").get("master0", "")
        return f"slaves={self._replicas}," in told and "sentinels=3" in told and "status=ok" in told

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinels name."""
        port = self.named()
        return next(server for server in self.nodes if server.port == port)

    def _leads(self, server: RedisServer) -> bool:
        return server.running and server.info("replication")["role"] == "master"

    def named(self) -> int:
        """The port that the first sentinel tells at the moment."""
        return int(self.sentinels[0].ask_all("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[-1])

    def fail_over(self) -> tuple[RedisServer, RedisServer]:
        """Crash the primary and wait for the next one: both are returned, the crashed one first."""
        before = self.primary
        before.kill()
        eventually(lambda: self.named() != before.port, "another primary is named")
        eventually(lambda: any(self._leads(server) for server in self.nodes), "it acts as one")
        return before, self.primary

    def restart_crashed(self) -> None:
        """Start what is down. It takes itself for a primary until the sentinels have told it otherwise."""
        for server in self.nodes:
            if not server.running:
                server.start()

    def follow(self) -> None:
        """Start what is down, and have all follow the primary that the sentinels name."""
        self.restart_crashed()
        primary = self.primary
        for server in self.nodes:
            if server is not primary:
                # The sentinels would see to it too, after many seconds.
                server.expect("REPLICAOF", "127.0.0.1", str(primary.port))
        eventually(
            lambda: sum(s.info("replication").get("master_link_status") == "up" for s in self.nodes) == self._replicas,
            "the replicas follow",
        )

    def settle(self) -> None:
        """Start what is down, and wait until all follow one primary and all sentinels know (which takes them long)."""
        self.follow()
        eventually(lambda: all(self._complete(sentinel) for sentinel in self.sentinels), "the sentinels are complete")


class ClusterSetup(_Servers):
    """Masters with a replica each, which know each other from the start.

    `node_timeout_ms` is the silence after which a node counts as dead.
    """

    def __init__(
        self, binary: Binary | None = None, *, masters: int = 3, node_timeout_ms: int = 1_500, **options: Any
    ) -> None:
        self._binary = binary
        self._masters = masters
        self._timeout = node_timeout_ms
        self._options = options
        self.ids = [secrets.token_hex(20) for _ in range(2 * masters)]
        self.servers: list[RedisServer] = []
        """The masters as they were at the start, then the replica of each."""

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def start(self) -> Self:
        """Start all with their part of the slots written down, which is faster than having them meet."""
        ports = _ports_with_bus(2 * self._masters)
        lines = []
        for at, (name, port) in enumerate(zip(self.ids, ports, strict=True)):
            master = at % self._masters
            first, last = SLOTS * master // self._masters, SLOTS * (master + 1) // self._masters - 1
            role = f"slave {self.ids[master]}" if at >= self._masters else "master -"
            slots = "" if at >= self._masters else f" {first}-{last}"
            lines.append((f"{name} 127.0.0.1:{port}@{port + _BUS} ", f"{role} 0 0 {master + 1} connected{slots}\n"))
        for at, port in enumerate(ports):
            known = [start + ("myself," if at == i else "") + end for i, (start, end) in enumerate(lines)]
            text = "".join(known) + f"vars currentEpoch {self._masters} lastVoteEpoch 0\n"
            options: dict[str, Any] = {
                "cluster_enabled": "yes",
                "cluster_node_timeout": self._timeout,
                "cluster_replica_validity_factor": 0,
                "repl_diskless_sync_delay": 0,
                **self._options,
            }
            self.servers.append(RedisServer(self._binary, port=port, files={"nodes.conf": text}, **options))
        for server in self.servers:
            server.spawn()
        for server in self.servers:
            server.wait()
        self.settle()
        return self

    def settle(self) -> None:
        """Start what is down, and wait until every node agrees and every replica follows."""
        for server in self.servers:
            if not server.running:
                server.start()
        eventually(self._agrees, "the Cluster agrees with itself")

    def notice_after(self, milliseconds: int) -> None:
        """From now on, how long a node may be silent. Short times end in needless failovers on a busy machine."""
        for server in self.servers:
            server.expect("CONFIG", "SET", "cluster-node-timeout", str(milliseconds))

    @property
    def masters(self) -> list[RedisServer]:
        """Those that are masters now and run."""
        return [server for server in self.servers if server.running and server.info("replication")["role"] == "master"]

    def empty(self) -> None:
        """Remove all that is stored, on every master."""
        for server in self.masters:
            server.expect("FLUSHALL")

    def _agrees(self) -> bool:
        links = [server.info("replication").get("master_link_status") for server in self.servers]
        maps = {tuple(sorted(self._owners(server).items())) for server in self.servers}
        return (
            all(server.cluster_info()["cluster_state"] == "ok" for server in self.servers)
            and links.count("up") == self._masters
            and len(maps) == 1
        )

    def _owners(self, server: RedisServer) -> dict[str, str]:
        rows = [line.split() for line in server.ask_all("CLUSTER", "NODES")[0].splitlines()]
        return {row[1].split("@")[0]: " ".join(row[8:]) for row in rows if "master" in row[2] and "fail" not in row[2]}

    def master_of(self, slot: int) -> RedisServer:
        """The server that has the slot, as the nodes that run see it."""
        for server in self.servers:
            if server.running:
                for address, slots in self._owners(server).items():
                    for part in slots.split():
                        first, _, last = part.partition("-")
                        if not part.startswith("[") and int(first) <= slot <= int(last or first):
                            return next(s for s in self.servers if address.endswith(f":{s.port}"))
        raise LookupError(slot)

    def fail_over(self, slot: int) -> tuple[RedisServer, RedisServer]:
        """Crash the master of a slot and wait until its replica has taken over: both, the crashed one first."""
        before = self.master_of(slot)
        before.kill()

        def taken_over() -> bool:
            try:
                return self.master_of(slot) is not before
            except LookupError:
                return False

        eventually(taken_over, "a replica takes over")
        return before, self.master_of(slot)

    def id_of(self, server: RedisServer) -> str:
        return self.ids[self.servers.index(server)]

    def begin_move(self, slot: int, target: RedisServer) -> RedisServer:
        """Open a slot for its move; returns where it is. From here on `ASK` and `TRYAGAIN` are to be expected."""
        source = self.master_of(slot)
        target.expect("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id_of(source))
        source.expect("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id_of(target))
        return source

    def move_keys(self, slot: int, source: RedisServer, target: RedisServer, count: int = 1_000) -> int:
        """Carry some of its keys over; how many there were."""
        keys = source.ask_all("CLUSTER", "GETKEYSINSLOT", str(slot), str(count))
        if keys:
            source.ask("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "REPLACE", "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """The slot belongs to `target`, and both know."""
        for server in (target, source):
            server.expect("CLUSTER", "SETSLOT", str(slot), "NODE", self.id_of(target))

    def move(self, slot: int, target: RedisServer) -> None:
        """Move a slot with its keys, as resharding does."""
        source = self.begin_move(slot, target)
        while self.move_keys(slot, source, target):
            pass
        self.end_move(slot, source, target)


def _ports_with_bus(count: int) -> list[int]:
    found: list[int] = []
    for _ in range(1_000):
        port = random.randrange(20_000, 30_000)
        if port not in found and _is_free(port) and _is_free(port + _BUS):
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"no {count} free ports for a Cluster (the one {_BUS:,} above must be free too)")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


