"""The proxy does to connections what its rules say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from tests.faults.proxy import Proxy

LANES = (0,)


@pytest.fixture
async def target() -> AsyncIterator[int]:
    """Says back, in capitals, every line that it is told."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line.upper())
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.sleep(0)


@pytest.fixture
async def proxy(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target, 2)
    yield proxy
    for line in Line.made:
        line.writer.transport.abort()
    Line.made.clear()
    proxy.close()
    # The transports close their sockets in the next round of the loop.
    await asyncio.sleep(0)


class Line:
    """A client of one lane."""

    made: ClassVar[list[Line]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.made.append(self)

    @classmethod
    async def dial(cls, proxy: Proxy, lane: int = 0) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.ports[lane]))

    @classmethod
    async def to(cls, proxy: Proxy, lane: int = 0) -> Line:
        line = await cls.dial(proxy, lane)
        assert await line.ask(b"hello") == b"HELLO\n"
        return line

    def say(self, text: bytes) -> None:
        self.writer.write(text + b"\n")

    async def hear(self) -> bytes:
        """The next line, b"" at the end."""
        return await asyncio.wait_for(self.reader.readline(), 10)

    async def ask(self, text: bytes) -> bytes:
        self.say(text)
        return await self.hear()

    async def silent(self) -> bool:
        """Whether nothing comes for a while that is long for a local connection."""
        try:
            await asyncio.wait_for(self.reader.readline(), 0.1)
        except TimeoutError:
            return True
        return False


@pytest.mark.parametrize("way", ["up", "down", "both"])
async def test_what_is_held_is_delivered_in_order(proxy: Proxy, way: str) -> None:
    line, other = await Line.to(proxy), await Line.to(proxy, 1)
    proxy.rule(LANES, "hold", way=way)
    line.say(b"one")
    assert await line.silent()
    line.say(b"two")
    assert await other.ask(b"meanwhile") == b"MEANWHILE\n"
    proxy.heal(LANES)
    assert [await line.hear(), await line.hear()] == [b"ONE\n", b"TWO\n"]


@pytest.mark.parametrize("way", ["up", "down"])
async def test_or_its_connections_are_reset(proxy: Proxy, way: str) -> None:
    line, idle = await Line.to(proxy), await Line.to(proxy)
    proxy.rule(LANES, "hold", way=way)
    line.say(b"one")
    assert await line.silent()
    proxy.heal(LANES, deliver=False)
    with pytest.raises(ConnectionResetError):
        await line.hear()
    assert await idle.ask(b"still there") == b"STILL THERE\n"


async def test_a_connection_made_in_a_black_hole_leads_on_when_it_is_healed(proxy: Proxy) -> None:
    proxy.rule(LANES, "hold")
    line = await Line.dial(proxy)
    line.say(b"one")
    assert await line.silent()
    proxy.heal(LANES)
    assert await line.hear() == b"ONE\n"


async def test_an_end_is_held_too(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.rule(LANES, "hold", way="up")
    line.writer.write_eof()
    assert await line.silent()
    proxy.heal(LANES)
    assert await line.hear() == b""


async def test_what_is_late_stays_in_order_when_the_rule_ends(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.rule(LANES, "delay", 0.2, way="up")
    line.say(b"one")
    await asyncio.sleep(0.05)
    proxy.heal(LANES)
    line.say(b"two")
    assert [await line.hear(), await line.hear()] == [b"ONE\n", b"TWO\n"]


async def test_only_the_subscriber_loses(proxy: Proxy) -> None:
    bus, pool = await Line.to(proxy), await Line.to(proxy)
    assert await bus.ask(b"subscribe\r") == b"SUBSCRIBE\r\n"
    proxy.rule(LANES, "lose", way="down", only="bus")
    bus.say(b"lost")
    assert await pool.ask(b"heard") == b"HEARD\n"
    assert await bus.silent()
    proxy.heal(LANES)
    assert await bus.ask(b"next") == b"NEXT\n"
    proxy.cut(LANES, only="pool")
    with pytest.raises(ConnectionResetError):
        await pool.hear()
    assert await bus.ask(b"next") == b"NEXT\n"


async def test_a_reset_comes_in_the_middle_of_a_reply(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.rule(LANES, "reset", 3, way="down")
    line.say(b"123456")
    assert await line.reader.readexactly(3) == b"123"
    with pytest.raises(ConnectionResetError):
        await line.hear()


async def test_nobody_is_told_of_what_is_forgotten(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.forget(LANES)
    line.say(b"one")
    assert await line.silent()
    proxy.heal(LANES)
    line.say(b"two")
    assert await line.silent()
    assert await (await Line.to(proxy)).ask(b"new") == b"NEW\n"
