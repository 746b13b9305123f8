"""rediss+sentinel:// and rediss+cluster://, where a server is at hand that speaks TLS itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Binary, RedisServer, free_port
from tests.tiers.redis_help import NOTHING, soon
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier

pytestmark = pytest.mark.every_server


@pytest.fixture
def tls(redis_binary: Binary, new_redis: Callable[..., RedisServer], tmp_path: Path) -> dict[str, Any]:
    """Settings of a server that speaks TLS on `tls_port`."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    options = {
        "tls_port": free_port(),
        "tls_cert_file": tmp_path / "cert.pem",
        "tls_key_file": tmp_path / "key.pem",
        "tls_ca_cert_file": tmp_path / "ca.pem",
        "tls_auth_clients": "no",
        "tls_replication": "yes",
    }
    try:
        new_redis(**options).close()
    except RuntimeError:
        pytest.skip(f"{redis_binary.origin} is built without TLS")
    return options


async def use(tier: RedisTier) -> None:
    for i in range(10):
        tier.set(str(i), b"x", 60_000, soon())
        assert await tier.aget(str(i), soon()) == b"x"
    subscription = tier.listen(soon())
    sent = tier.purge(["h:a"], False, soon())
    assert [subscription.wait(20)] == [message._replace(previous=()) for message in sent]
    assert tier.sync(NOTHING, "p", soon()).head == 1


class TestNativeTls:
    async def test_a_cluster(
        self,
        tls: dict[str, Any],
        new_redis: Callable[..., RedisServer],
        open_tier: Callable[..., RedisTier],
        tmp_path: Path,
    ) -> None:
        node = new_redis(cluster_enabled="yes", tls_cluster="yes", cluster_port=free_port(), **tls)
        node.expect("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while node.cluster_info()["cluster_state"] != "ok":
            pass
        url = f"rediss+cluster://127.0.0.1:{tls['tls_port']}"
        await use(open_tier(f"{url}?ssl_ca_certs={tmp_path}/ca.pem"))
        with pytest.raises(TierUnavailable, match="certificate"):
            open_tier(url).get("a", soon())

    async def test_sentinels(
        self,
        tls: dict[str, Any],
        new_redis: Callable[..., RedisServer],
        open_tier: Callable[..., RedisTier],
        tmp_path: Path,
    ) -> None:
        new_redis(**tls)
        port = free_port()
        lines = [f"sentinel monitor shop 127.0.0.1 {tls['tls_port']} 1", f"tls-port {port}"]
        lines += [f"{name.replace('_', '-')} {value}" for name, value in tls.items() if name != "tls_port"]
        new_redis(sentinel="\n".join(lines) + "\n")
        url = f"rediss+sentinel://127.0.0.1:{port}/shop"
        await use(open_tier(f"{url}?ssl_ca_certs={tmp_path}/ca.pem"))
        with pytest.raises(TierUnavailable, match="certificate"):
            open_tier(url).get("a", soon())
