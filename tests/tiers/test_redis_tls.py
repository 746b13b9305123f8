"""rediss:// in practice."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer
from tests.tiers.redis_help import shortly, soon
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier


class TestTls:
    """rediss://, through a TLS front end, since the servers at hand are built without TLS."""

    @pytest.fixture
    def front(self, redis_server: RedisServer, tmp_path: Path) -> Iterator[str]:
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        loop = asyncio.new_event_loop()
        tasks: set[asyncio.Task[None]] = set()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65_536):
                    writer.write(data)
            except OSError:
                pass
            finally:
                writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind, before = await asyncio.open_connection("127.0.0.1", redis_server.port)
            for pair in ((reader, before), (behind, writer)):
                task = loop.create_task(pump(*pair))
                tasks.add(task)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

        async def stop() -> None:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)

        server = loop.run_until_complete(start())
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0"
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def test_values_ledger_and_bus(self, front: str, tmp_path: Path, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(f"{front}?ssl_ca_certs={tmp_path}/ca.pem")

        def in_thread() -> None:
            tier.set("a", b"x" * 300_000, 60_000, soon())
            for _ in range(3):
                assert tier.get("a", soon()) == b"x" * 300_000
            assert len(tier._threads._all) == 1
            subscription = tier.listen(soon())
            sent = tier.purge(["h:a"], False, soon())
            assert [subscription.wait(20)] == [sent[0]._replace(previous=())]
            subscription.close()

        await asyncio.to_thread(in_thread)
        for _ in range(3):
            assert await tier.aget("a", soon()) == b"x" * 300_000
        (pool,) = tier._loops.values()
        assert len(pool._all) == 1
        await tier.aclose()

    async def test_a_certificate_that_nobody_vouches_for(self, front: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(front)
        with pytest.raises(TierUnavailable, match="certificate"):
            await asyncio.to_thread(tier.get, "a", soon())
        with pytest.raises(TierUnavailable, match="certificate"):
            await tier.aget("a", soon())

    async def test_a_greeting_that_never_comes(self, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(silent.replace("redis:", "rediss:"))
        with pytest.raises(TierUnavailable, match="in time"):
            tier.get("a", shortly())
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())
