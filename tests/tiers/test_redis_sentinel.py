"""Finding the primary, by hand and with real sentinels."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from tests.servers import RedisServer
from tests.tiers.redis_help import NOTHING, soon, until_answered
from tiercache.core.records import SyncRequest
from tiercache.errors import TierError, TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_sentinel import CONFIRMED_FOR, SentinelTopology
from tiercache.tiers.redis_topology import Ask
from tiercache.tiers.redis_urls import parse_url
from tools.redis_topologies import SentinelSetup

GET = ("GET", "tc:shop:a")


def caused(error: TierError, cause: BaseException) -> TierError:
    error.__cause__ = cause
    return error


CUT = caused(TierUnavailable("cut off"), RedisConnectionError())
DEMOTED = caused(TierRejected("replica"), ReadOnlyError("READONLY"))
CUT_OFF_PRIMARY = caused(TierUnavailable("not ready"), ResponseError("NOREPLICAS Not enough good replicas to write."))


class Play:
    """Sentinels `s1` to `s3` that say what a test has them say; `asked` is where questions went."""

    def __init__(self) -> None:
        self.now = 0.0
        target = parse_url("redis+sentinel://s1:1,s2:2,s3:3/shop")
        self.topology = SentinelTopology(target.seeds, target.address, target.service, clock=lambda: self.now)
        self.named: dict[str, Any] = dict.fromkeys(("s1:1", "s2:2", "s3:3"), "p:1")
        self.servers: dict[str, Any] = {}
        self.asked: list[str] = []

    def run(self, *, careful: bool = False) -> Any:
        flow = self.topology.route("k", GET, careful=careful)
        self.asked = []
        try:
            ask = next(flow)
            while True:
                assert isinstance(ask, Ask)
                where = ask.address.where
                self.asked.append(where)
                if where in self.named:
                    assert ask.command == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop")
                    told = self.named[where]
                    answer = [part.encode() for part in told.split(":")] if isinstance(told, str) else told
                else:
                    assert ask.command is GET
                    assert ask.address.primary
                    answer = self.servers.get(where, where)
                ask = flow.throw(answer) if isinstance(answer, TierError) else flow.send(answer)
        except StopIteration as end:
            return end.value


@pytest.fixture
def play() -> Play:
    return Play()


class TestFinding:
    def test_the_sentinels_are_asked_once(self, play: Play) -> None:
        assert play.topology.home("k") is None
        assert play.run() == "p:1"
        assert play.asked == ["s1:1", "p:1"]
        assert play.run() == "p:1"
        assert play.asked == ["p:1"]
        assert play.topology.home("k") == "p:1"

    def test_one_that_does_not_answer_is_passed_over_and_asked_last_after_that(self, play: Play) -> None:
        play.named["s1:1"] = CUT
        play.named["s2:2"] = None
        assert play.run() == "p:1"
        assert play.asked == ["s1:1", "s2:2", "s3:3", "p:1"]
        play.servers["p:1"] = CUT
        play.named["s3:3"] = "q:1"
        assert play.run() == "q:1"
        assert play.asked == ["p:1", "s3:3", "q:1"]

    def test_none_answers(self, play: Play) -> None:
        play.named = dict.fromkeys(play.named, CUT) | {"s2:2": None}
        with pytest.raises(
            TierUnavailable, match=r"no sentinel tells the primary of 'shop': cut off; .*no such service"
        ):
            play.run()

    @pytest.mark.parametrize("error", [CUT, DEMOTED, CUT_OFF_PRIMARY])
    def test_a_failover(self, play: Play, error: TierError) -> None:
        play.run()
        before = play.topology.version
        assert play.topology.keeps("p:1")
        play.servers["p:1"] = error
        play.named = dict.fromkeys(play.named, "q:2")
        assert play.run() == "q:2"
        assert play.asked == ["p:1", "s1:1", "q:2"]
        assert play.topology.home("k") == "q:2"
        assert not play.topology.keeps("p:1")
        assert play.topology.version > before

    @pytest.mark.parametrize("error", [CUT, DEMOTED])
    def test_the_sentinels_have_not_noticed_yet(self, play: Play, error: TierError) -> None:
        play.run()
        play.servers["p:1"] = error
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                play.run()
            assert caught.value is error
            assert play.asked == ["p:1", "s1:1"]

    def test_nobody_can_say_more(self, play: Play) -> None:
        play.run()
        play.servers["p:1"] = CUT
        play.named = dict.fromkeys(play.named, CUT)
        with pytest.raises(TierUnavailable) as caught:
            play.run()
        assert caught.value is CUT
        assert play.topology.home("k") is None

    @pytest.mark.parametrize("error", [TierUnavailable("busy"), caused(TierRejected("full"), ResponseError("OOM"))])
    def test_what_says_nothing_about_the_primary(self, play: Play, error: TierError) -> None:
        play.run()
        play.servers["p:1"] = error
        with pytest.raises(type(error)) as caught:
            play.run()
        assert caught.value is error
        assert play.asked == ["p:1"]
        assert play.topology.home("k") == "p:1"

    def test_a_primary_that_answers_is_confirmed_now_and_then(self, play: Play) -> None:
        play.run()
        play.named = dict.fromkeys(play.named, "q:2")
        play.now = CONFIRMED_FOR / 2
        assert play.run(careful=True) == "p:1"
        play.now = CONFIRMED_FOR
        assert play.run() == "p:1"
        assert play.run(careful=True) == "q:2"
        assert play.topology.home("k") == "q:2"

    def test_a_primary_does_not_end_with_its_sentinels(self, play: Play) -> None:
        play.run()
        play.named = dict.fromkeys(play.named, CUT)
        play.now = CONFIRMED_FOR
        assert play.run(careful=True) == "p:1"
        assert play.run(careful=True) == "p:1"
        assert play.asked == ["p:1"]

    def test_a_primary_that_changes_without_end(self, play: Play) -> None:
        play.run()
        play.servers["p:1"] = CUT
        play.servers["q:2"] = DEMOTED

        class Turning(dict[str, Any]):
            turns = 0

            def __getitem__(self, key: str) -> Any:
                self.turns += 1
                return "q:2" if self.turns % 2 else "p:1"

        play.named = Turning(play.named)
        with pytest.raises(TierUnavailable, match="changes too fast"):
            play.run()


@pytest.fixture
def false_sentinel(redis_server: RedisServer) -> Iterator[Callable[[int], str]]:
    """The URL of a sentinel that names whichever server it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        named = 0

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(peer,), daemon=True).start()

        def talk(peer: socket.socket) -> None:
            with peer:
                while data := peer.recv(1000):
                    port = str(named)
                    told = f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n"
                    peer.sendall(b"+PONG\r\n" if b"PING" in data else told.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def name(port: int) -> str:
            nonlocal named
            named = port
            return f"redis+sentinel://127.0.0.1:{listener.getsockname()[1]}/shop"

        yield name
        listener.shutdown(socket.SHUT_RDWR)


class TestRole:
    async def test_a_replica_is_not_taken_for_a_primary(
        self,
        new_redis: Callable[..., RedisServer],
        false_sentinel: Callable[[int], str],
        open_tier: Callable[..., RedisTier],
    ) -> None:
        primary = new_redis()
        replica = new_redis(replicaof=("127.0.0.1", primary.port))
        tier = open_tier(false_sentinel(replica.port))
        # It would answer these: only its role speaks against it.
        with pytest.raises(TierRejected, match="replica"):
            tier.get("a", soon())
        with pytest.raises(TierRejected, match="replica"):
            await tier.aget("a", soon())
        with pytest.raises(TierRejected, match="replica"):
            tier.listen(soon())
        false_sentinel(primary.port)
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None
        tier.listen(soon())

    def test_a_demoted_primary_is_not_synced_with(
        self,
        new_redis: Callable[..., RedisServer],
        false_sentinel: Callable[[int], str],
        open_tier: Callable[..., RedisTier],
    ) -> None:
        first, second = new_redis(), new_redis()
        tier = open_tier(false_sentinel(first.port))
        epoch = tier.sync(NOTHING, "p", soon()).epoch
        subscription = tier.listen(soon())
        first.expect("REPLICAOF", "127.0.0.1", str(second.port))
        with pytest.raises(TierRejected, match="replica"):
            tier.sync(NOTHING, "p", soon())
        false_sentinel(second.port)
        page = tier.sync(SyncRequest(epoch, 0, 0.0), "p", soon())
        assert page.epoch != epoch
        # The old one still holds it, and would say nothing for ever.
        with pytest.raises(TierUnavailable):
            subscription.wait(20)


class TestRealSentinels:
    async def test_a_crash_of_the_primary(self, sentinels: SentinelSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(sentinels.url)
        tier.set("a", b"x", 60_000, soon())
        assert await tier.aget("a", soon()) == b"x"
        (message,) = tier.purge(["h:a"], False, soon())
        subscription = tier.listen(soon())
        home = tier._wire.topology.home("")
        primary = sentinels.primary
        sentinels.notice_after(500)
        primary.kill()
        with pytest.raises(TierUnavailable):
            subscription.wait(20)
        subscription.close()

        # What the engine does: it tries again, each time with a deadline.
        page = until_answered(lambda deadline: tier.sync(SyncRequest(message.epoch, 1, 0.0), "p", deadline))
        # Redis may have lost the end of the history, and says so.
        assert page.epoch != message.epoch
        assert tier._wire.topology.home("") != home
        assert sentinels.primary.url.endswith(f"{tier._wire.topology.home('')}/0")
        await tier.aset("b", b"y", 60_000, soon())
        assert tier.get("b", soon()) == b"y"
        again = tier.listen(soon())
        (sent,) = await tier.apurge(["h:b"], False, soon())
        heard = again.wait(20)
        assert heard is not None
        assert (heard.epoch, heard.number) == (page.epoch, sent.number)

        sentinels.notice_after(30_000)
        # The old one comes back believing that it is a primary; nobody asks it.
        sentinels.restart_crashed()
        assert tier.sync(SyncRequest(page.epoch, sent.number, 0.0), "p", soon()).epoch == page.epoch
        assert tier.get("b", soon()) == b"y"

    def test_users_of_their_own(self, sentinels: SentinelSetup, open_tier: Callable[..., RedisTier]) -> None:
        for sentinel in sentinels.sentinels:
            sentinel.expect(
                "ACL",
                "SETUSER",
                "watch",
                "on",
                ">w:/@",
                "resetkeys",
                "-@all",
                "+ping",
                "+sentinel|get-master-addr-by-name",
            )
        for server in sentinels.nodes:
            if server.running:
                server.expect("ACL", "SETUSER", "app", "on", ">p:/@", "resetchannels", "~tc:*", "&tc:*", "+@all")
        url = sentinels.url.replace("://", "://app:p%3A%2F%40@")
        tier = open_tier(f"{url}?sentinel_username=watch&sentinel_password=w%3A%2F%40")
        tier.set("a", b"x", 60_000, soon())
        assert tier.get("a", soon()) == b"x"
        for wrong in (url.replace("p%3A", "q%3A"), f"{url}?sentinel_username=watch&sentinel_password=no"):
            with pytest.raises(TierError, match="refused the user or password"):
                open_tier(wrong).get("a", soon())

    def test_a_service_that_they_do_not_know(
        self, sentinels: SentinelSetup, open_tier: Callable[..., RedisTier]
    ) -> None:
        with pytest.raises(TierUnavailable, match="no such service"):
            open_tier(sentinels.url.replace("/shop", "/shoe")).get("a", soon())
