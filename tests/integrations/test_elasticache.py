"""Tokens for ElastiCache. AWS itself is out of reach: a TLS Redis with an ACL user stands in for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest

from tests.servers import RedisServer
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.integrations.elasticache import KEPT, LIFETIME, ElastiCacheIAM
from tiercache.tiers.redis import RedisTier


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> botocore.session.Session:
    """A session of a process with credentials of a role, and nothing else from the machine."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI", "a-session-token")
    return session


def provider(session: botocore.session.Session, **options: Any) -> ElastiCacheIAM:
    return ElastiCacheIAM(**{"user": "app", "cache_name": "Shop", "region": "eu-west-1", "session": session} | options)


class TestToken:
    def test_it_is_a_presigned_request(self, session: botocore.session.Session) -> None:
        user, token = provider(session).get_credentials()
        assert user == "app"
        # Without a scheme, and the name of the cache in lower case: else ElastiCache finds the signature wrong.
        assert token.startswith("shop/?")
        query = {name: values[0] for name, values in parse_qs(urlsplit(f"//{token}").query).items()}
        assert query["Action"] == "connect"
        assert query["User"] == "app"
        assert "ResourceType" not in query
        assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
        assert query["X-Amz-Expires"] == str(LIFETIME) == "900"
        assert query["X-Amz-Credential"].startswith("AKIDEXAMPLE/")
        assert query["X-Amz-Credential"].endswith("/eu-west-1/elasticache/aws4_request")
        assert query["X-Amz-Security-Token"] == "a-session-token"
        assert len(query["X-Amz-Signature"]) == 64

    def test_a_serverless_cache_says_so(self, session: botocore.session.Session) -> None:
        _, token = provider(session, serverless=True).get_credentials()
        assert "&ResourceType=ServerlessCache&" in token

    def test_the_region_of_the_session(
        self, session: botocore.session.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError, match="region"):
            provider(session, region=None)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
        fresh = botocore.session.Session()
        fresh.set_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI")
        assert "eu-north-1" in provider(fresh, region=None).get_credentials()[1]

    def test_it_is_kept_and_renewed_before_it_ends(self, session: botocore.session.Session) -> None:
        now = 100.0
        signed = 0
        real = session.get_credentials

        def counted() -> Any:
            nonlocal signed
            signed += 1
            return real()

        session.get_credentials = counted  # type: ignore[method-assign,assignment]
        tokens = provider(session, clock=lambda: now)
        first = tokens.get_credentials()
        now += KEPT - 1
        assert tokens.get_credentials() == first
        assert signed == 1
        now += 1
        tokens.get_credentials()
        assert signed == 2
        assert KEPT < LIFETIME

    @pytest.mark.parametrize("names", [{"user": ""}, {"user": "a b"}, {"cache_name": "shop.abc.cache.amazonaws.com"}])
    def test_names_that_cannot_be(self, session: botocore.session.Session, names: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match=next(iter(names))):
            provider(session, **names)


class TestConnecting:
    async def test_a_token_opens_a_tls_redis(
        self,
        session: botocore.session.Session,
        redis_server: RedisServer,
        tls_front: str,
        tmp_path: Path,
    ) -> None:
        tokens = provider(session)
        _, token = tokens.get_credentials()
        redis_server.expect("ACL", "SETUSER", "app", "on", f">{token}", "~tc:*", "+@all")
        tier = RedisTier(f"{tls_front}?ssl_ca_certs={tmp_path}/ca.pem", "shop", credentials=tokens)
        try:
            await asyncio.to_thread(tier.set, "a", b"x", 60_000, time.monotonic() + 20)
            assert await tier.aget("a", time.monotonic() + 20) == b"x"
        finally:
            await tier.aclose()
            redis_server.ask("ACL", "DELUSER", "app")

    def test_a_process_without_credentials(
        self, session: botocore.session.Session, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "get_credentials", lambda: None)
        tier = RedisTier(redis_server.url, "shop", credentials=provider(session))
        with pytest.raises(TierUnavailable, match="botocore finds no AWS credentials"):
            tier.get("a", time.monotonic() + 20)
        tier.close()
