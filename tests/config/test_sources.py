"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiercache import TierCache
from tiercache.config import Settings
from tiercache.config.sources import from_environment
from tiercache.errors import ConfigError

TEXTS = {
    "TIERCACHE_URL": "memcached://localhost:1",
    "TIERCACHE_LEDGER": "redis://me:hunter2@localhost:1/0",
    "TIERCACHE_NAMESPACE": "shop",
    "TIERCACHE_APP": "storefront",
    "TIERCACHE_VERSION": "7",
    "TIERCACHE_L1_SIZE": "128MiB",
    "TIERCACHE_MAX_BODY": "1000",
    "TIERCACHE_L2_BUDGET": "0.1",
    "TIERCACHE_L2_SLOW": " 20ms ",
    "TIERCACHE_STALENESS_BOUND": "2",
    "TIERCACHE_ON_LOST_HISTORY": "stale",
    "TIERCACHE_STRONG_WAIT": "1s",
    "TIERCACHE_SESSION_SECRET": "correct horse battery",
    "TIERCACHE_PURGE_TIMEOUT": "3s",
    "TIERCACHE_LEASE_WAIT": "0",
    "TIERCACHE_DRAIN_TIMEOUT": "1m",
    "TIERCACHE_POOL_SIZE": "3",
    "TIERCACHE_MAX_VARIANTS": "4",
    "TIERCACHE_CREDENTIAL_HEADERS": "X-Mine, X-Yours",
    "TIERCACHE_IGNORE_COOKIES": "theme,ab_*,",
    "TIERCACHE_TRUST_FORWARDED": "X-Forwarded-Proto",
    "TIERCACHE_TARGETS": "CDN-Cache-Control",
    "TIERCACHE_CACHE_STATUS": "off",
    "TIERCACHE_AGE": "No",
    "TIERCACHE_ENABLED": "true",
    "TIERCACHE_DEBUG": "1",
}


def test_every_setting_has_a_variable() -> None:
    assert {name.removeprefix("TIERCACHE_").lower() for name in TEXTS} == set(Settings.names())
    assert TierCache.from_env(TEXTS).settings == Settings(
        url="memcached://localhost:1",
        ledger="redis://me:hunter2@localhost:1/0",
        namespace="shop",
        app="storefront",
        version="7",
        l1_size="128MiB",
        max_body=1000,
        l2_budget=0.1,
        l2_slow="20ms",
        staleness_bound=2,
        on_lost_history="stale",
        strong_wait="1s",
        session_secret="correct horse battery",
        purge_timeout="3s",
        lease_wait=0,
        drain_timeout="1m",
        pool_size=3,
        max_variants=4,
        credential_headers=["x-mine", "x-yours"],
        ignore_cookies=["theme", "ab_*"],
        trust_forwarded=["x-forwarded-proto"],
        targets=["cdn-cache-control"],
        cache_status=False,
        age=False,
        enabled=True,
        debug=True,
    )


def test_the_process_s_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCACHE_NAMESPACE", "from-here")
    assert TierCache.from_env().settings.namespace == "from-here"
    assert TierCache.from_env({}).settings.namespace == "default"
    assert TierCache().settings.namespace == "default"


def test_it_names_a_file_that_is_weaker_than_the_variables(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('namespace = "file"\napp = "file"\n[[routes]]\npath = "/p"\nttl = 60\n', encoding="utf-8")
    cache = TierCache.from_env({"TIERCACHE_CONFIG": str(file), "TIERCACHE_APP": "env"})
    assert (cache.settings.namespace, cache.settings.app) == ("file", "env")
    assert cache.routes.match("/p").policy.ttl == 60


def test_none_and_nothing() -> None:
    assert from_environment({"TIERCACHE_URL": "none", "TIERCACHE_DEBUG": "None"}) == {"url": None, "debug": None}
    assert from_environment({"TIERCACHE_URL": "", "TIERCACHE_L1_SIZE": " ", "HOME": "/root"}) == {}


def test_the_switch_is_stronger_than_the_setting() -> None:
    assert from_environment({"TIERCACHE_ENABLED": "1", "TIERCACHE_DISABLED": "1"})["enabled"] is False
    assert from_environment({"TIERCACHE_ENABLED": "1", "TIERCACHE_DISABLED": "0"})["enabled"] is True


def test_what_kubernetes_adds_is_left_alone() -> None:
    environ = {
        "TIERCACHE_SERVICE_HOST": "10.0.0.1",
        "TIERCACHE_SERVICE_PORT": "6379",
        "TIERCACHE_SERVICE_PORT_REDIS": "6379",
        "TIERCACHE_PORT": "tcp://10.0.0.1:6379",
        "TIERCACHE_PORT_6379_TCP": "tcp://10.0.0.1:6379",
        "TIERCACHE_PORT_6379_TCP_ADDR": "10.0.0.1",
        "TIERCACHE_REDIS_SERVICE_HOST": "10.0.0.1",
    }
    assert from_environment(environ) == {}


@pytest.mark.parametrize(
    ("variable", "text", "accepted"),
    [
        ("TIERCACHE_NAMESPCE", "x", "did you mean 'TIERCACHE_NAMESPACE'"),
        ("TIERCACHE_CONFG", "x.toml", "did you mean 'TIERCACHE_CONFIG'"),
        ("TIERCACHE_DISABLE", "1", "did you mean 'TIERCACHE_DISABLED'"),
        ("TIERCACHE_TTL", "5m", "in the file that TIERCACHE_CONFIG names"),
        ("TIERCACHE_AGE", "maybe", "1, true, yes, on; or 0, false, no, off"),
        ("TIERCACHE_DEBUG", "maybe", "1, true, yes, on; or 0, false, no, off; or none"),
        ("TIERCACHE_DISABLED", "maybe", "1, true, yes, on; or 0, false, no, off"),
        ("TIERCACHE_L2_BUDGET", "50 ms", "such as 250ms"),
        ("TIERCACHE_L2_BUDGET", "0", "above 0"),
        ("TIERCACHE_L2_BUDGET", "nan", "above 0"),
        ("TIERCACHE_L1_SIZE", "-1", "such as 512B"),
        ("TIERCACHE_POOL_SIZE", "3.5", "a whole number from 1 to 10000"),
        ("TIERCACHE_ON_LOST_HISTORY", "alive", "'dead', 'stale'"),
        ("TIERCACHE_NAMESPACE", "a b", "1 to 64 letters"),
    ],
)
def test_an_error_names_the_variable_its_text_and_what_is_accepted(variable: str, text: str, accepted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache.from_env({variable: text})
    assert (raised.value.setting, raised.value.value) == (variable, text)
    assert accepted in raised.value.accepted


def test_a_bad_item_of_a_list_is_shown_alone() -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache.from_env({"TIERCACHE_IGNORE_COOKIES": "theme, *"})
    assert (raised.value.setting, raised.value.value) == ("TIERCACHE_IGNORE_COOKIES", "*")


@pytest.mark.parametrize(
    "environ",
    [{"TIERCACHE_SESSION_SECRET": "hunter2"}, {"TIERCACHE_URI": "redis://me:hunter2@host"}],
)
def test_no_error_shows_a_password(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache.from_env(environ)
    assert "hunter2" not in str(raised.value)
