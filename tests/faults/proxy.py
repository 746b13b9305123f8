"""A TCP proxy that does to connections what networks do, as a process of its own: `Proxy` starts and steers it.

It listens on one port for each app (a lane), so that one app can be cut off while the others go on. For each lane and
direction (`up` to the server, `down` from it) one rule says what happens to the bytes, of all connections or only of
those that subscribe (`bus`) or that do not (`pool`):

    pass            at once
    delay SECONDS   later, in order
    hold            not before the lane is healed: what a network does that loses every packet for a while, since TCP
                    sends them again. Ends of connections are held likewise, and new ones are accepted but led nowhere
    lose            never: a server that drops what a slow subscriber has not taken
    reset BYTES     this many more in each connection, then a reset

`heal` takes the rules away; what was held is delivered (late replies to questions long given up), or its connections
are reset. `forget` is what a firewall does that has lost its table: bytes of the connections that are open now go
nowhere, for ever, and neither end is told.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DIRECTIONS = ("up", "down")


class Rule(NamedTuple):
    kind: str = "pass"
    value: float = 0.0
    only: str = ""


PASS = Rule()


class End(asyncio.Protocol):
    """One socket of a link; `toward` is the direction of what arrives here."""

    transport: asyncio.Transport

    def __init__(self, link: Link, toward: str) -> None:
        self.link, self.toward = link, toward

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.link.feed(self.toward, data)

    def eof_received(self) -> bool:
        self.link.feed(self.toward, None)
        # Else the transport would close at once, which the other end could see.
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.link.feed(self.toward, None)


class Client(End):
    """The side of the app: it makes the link."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(Link(lane, self), "up")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.link.begin()


class Link:
    """One connection of an app, and the one to the server that belongs to it. None in a queue is the end."""

    def __init__(self, lane: Lane, client: Client) -> None:
        self.lane = lane
        self.ends: dict[str, End | None] = {"down": client, "up": None}
        """Where the bytes of each direction go."""
        self.held: dict[str, list[bytes | None]] = {"up": [], "down": []}
        self.due = {"up": 0.0, "down": 0.0}
        self.left = {"up": 0.0, "down": 0.0}
        self.is_bus = False
        self.forgotten = False
        self.over = False
        self.dialling = False

    def begin(self) -> None:
        self.lane.links.add(self)
        if self.rule("up").kind != "hold":
            self.dial()

    def dial(self) -> None:
        self.dialling = True
        self.lane.spawn(self._dial())

    async def _dial(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, end = await loop.create_connection(lambda: End(self, "down"), "127.0.0.1", self.lane.target)
        except OSError:
            self.reset()
            return
        if self.over:
            end.transport.abort()
            return
        self.ends["up"] = end
        if self.rule("up").kind != "hold":
            self.release("up")

    def rule(self, direction: str) -> Rule:
        rule = self.lane.rules[direction]
        return rule if not rule.only or (rule.only == "bus") == self.is_bus else PASS

    def feed(self, direction: str, data: bytes | None) -> None:
        if self.over or self.forgotten:
            return
        if direction == "up" and data is not None and b"SUBSCRIBE\r\n" in data.upper():
            self.is_bus = True
        rule = self.rule(direction)
        if rule.kind == "lose" and data is not None:
            return
        if rule.kind == "hold" or self.ends[direction] is None or self.held[direction]:
            self.held[direction].append(data)
            return
        loop = asyncio.get_running_loop()
        if rule.kind == "delay" or self.due[direction] > loop.time():
            # Never before what is still on its way, whatever the rule has become.
            self.due[direction] = max(self.due[direction], loop.time() + (rule.value if rule.kind == "delay" else 0.0))
            loop.call_at(self.due[direction], self.send, direction, data)
            return
        if rule.kind == "reset" and data is not None:
            self.left[direction] = (self.left[direction] or rule.value) - len(data)
            if self.left[direction] <= 0:
                self.send(direction, data[: int(self.left[direction]) or len(data)])
                # The part that passed must leave before the reset overtakes it.
                loop.call_later(0.002, self.reset)
                return
        self.send(direction, data)

    def send(self, direction: str, data: bytes | None) -> None:
        end = self.ends[direction]
        if self.over or self.forgotten or end is None:
            return
        if data is None:
            self.over = True
            self.lane.links.discard(self)
            for each in self.ends.values():
                if each is not None:
                    each.transport.close()
        else:
            end.transport.write(data)

    def release(self, direction: str) -> None:
        held, self.held[direction] = self.held[direction], []
        for data in held:
            self.send(direction, data)

    def reset(self) -> None:
        self.over = True
        self.lane.links.discard(self)
        for end in self.ends.values():
            if end is not None:
                # With no time to linger, closing sends a reset in place of an orderly end.
                sock = end.transport.get_extra_info("socket")
                if sock is not None and sock.fileno() >= 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()

    def healed(self, deliver: bool) -> None:
        if not deliver and (any(self.held.values()) or not self.dialling):
            self.reset()
            return
        self.left = {"up": 0.0, "down": 0.0}
        if not self.dialling:
            self.dial()
            return
        for direction in DIRECTIONS:
            if self.ends[direction] is not None:
                self.release(direction)


class Lane:
    """One listening port."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.rules: dict[str, Rule] = {"up": PASS, "down": PASS}
        self.links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, run: Any) -> None:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def do(self, order: dict[str, Any]) -> None:
        what = order["do"]
        if what == "rule":
            for direction in order["directions"]:
                self.rules[direction] = Rule(*order["rule"])
        elif what == "heal":
            self.rules = {"up": PASS, "down": PASS}
            for link in list(self.links):
                link.healed(order["deliver"])
        else:
            only = order["only"]
            for link in list(self.links):
                if only and (only == "bus") != link.is_bus:
                    continue
                if what == "cut":
                    link.reset()
                else:
                    link.forgotten = True


async def serve(target: int, lanes: int) -> None:
    """Say on which ports it listens, then obey one order a line until there are no more."""
    loop = asyncio.get_running_loop()
    made = [Lane(target) for _ in range(lanes)]
    ports = []
    for lane in made:
        server = await loop.create_server(lambda lane=lane: Client(lane), "127.0.0.1", 0)  # type: ignore[misc]
        ports.append(server.sockets[0].getsockname()[1])
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    while line := await orders.readline():
        order = json.loads(line)
        for number in order["lanes"]:
            made[number].do(order)
        sys.stdout.write("done\n")
        sys.stdout.flush()


class Proxy:
    """The process, and the orders that it takes. Lanes are numbered as the apps are."""

    def __init__(self, target: int, lanes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy", str(target), str(lanes)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self._lock = threading.Lock()
        self.all = tuple(range(lanes))
        self.ports: list[int] = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the proxy has ended"
        return line

    def _order(self, lanes: Iterable[int], **order: Any) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"lanes": list(lanes), **order}) + "\n")
            self._process.stdin.flush()
            self._line()

    def rule(self, lanes: Iterable[int], kind: str, value: float = 0.0, *, way: str = "both", only: str = "") -> None:
        directions = DIRECTIONS if way == "both" else (way,)
        self._order(lanes, do="rule", directions=directions, rule=(kind, value, only))

    def heal(self, lanes: Iterable[int], *, deliver: bool = True) -> None:
        self._order(lanes, do="heal", deliver=deliver)

    def cut(self, lanes: Iterable[int], only: str = "") -> None:
        self._order(lanes, do="cut", only=only)

    def forget(self, lanes: Iterable[int], only: str = "") -> None:
        self._order(lanes, do="forget", only=only)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
