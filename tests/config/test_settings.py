from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from tiercache.config import DEBUG_VARIABLE, DISABLED_VARIABLE, CacheSettings, Settings
from tiercache.core.credentials import CREDENTIAL_HEADERS, IGNORED_COOKIES
from tiercache.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DISABLED_VARIABLE, raising=False)


def refused(**settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        Settings(**settings)
    error = raised.value
    assert str(error) == f"{error.setting}: {error.value!r} is not accepted; accepted: {error.accepted}"
    return error


def test_defaults() -> None:
    settings = Settings()
    assert settings.url is None
    assert settings.namespace == "default"
    assert (settings.app, settings.version) == ("", "")
    assert (settings.l1_size, settings.max_body) == (64 * 2**20, 2**20)
    assert (settings.l2_budget, settings.staleness_bound) == (0.05, 1.0)
    assert (settings.purge_timeout, settings.lease_wait) == (2.0, 2.0)
    assert (settings.pool_size, settings.max_variants) == (50, 50)
    assert settings.credential_headers == CREDENTIAL_HEADERS
    assert settings.ignore_cookies == IGNORED_COOKIES
    assert settings.trust_forwarded == ()
    assert settings.targets == ("tiercache-cache-control",)
    assert settings.cache_status is settings.age is settings.enabled is True
    assert settings.given == frozenset()


def test_every_setting_can_be_given() -> None:
    settings = Settings(
        url="memcached://localhost:11211",
        ledger="redis://localhost:6379/0",
        namespace="shop-1.eu_A",
        app="Flask shop",
        version="2024-05-01 ü",
        l1_size="1MiB",
        max_body=1000,
        l2_budget=0.1,
        staleness_bound="500ms",
        l2_slow="20ms",
            on_lost_history="stale",
            strong_wait="1s",
            session_secret="correct horse battery",
            purge_timeout="5s",
        lease_wait=0,
        drain_timeout="1s",
            pool_size=5,
        max_variants=3,
        credential_headers=["X-Mine", "authorization"],
        ignore_cookies=["theme", "ab_*"],
        trust_forwarded=["X-Forwarded-Proto", "x-forwarded-host"],
        targets=["CDN-Cache-Control"],
        cache_status=False,
        age=False,
        debug=True,
        enabled=True,
    )
    assert settings.l1_size == 2**20
    assert settings.staleness_bound == 0.5
    assert settings.lease_wait == 0.0
    assert settings.credential_headers == (*CREDENTIAL_HEADERS, "x-mine")
    assert settings.ignore_cookies == (*IGNORED_COOKIES, "theme", "ab_*")
    assert settings.trust_forwarded == ("x-forwarded-proto", "x-forwarded-host")
    assert settings.targets == ("cdn-cache-control",)
    assert settings.given == {row.name for row in Settings.settings()}


def test_the_table_documents_every_setting_and_the_types_list_the_same() -> None:
    rows = Settings.settings()
    assert all(row.doc.endswith(".") and row.kind.accepted for row in rows)
    assert {"url", *get_type_hints(CacheSettings)} == {row.name for row in rows}


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("url", "", "redis://localhost:6379/0"),
        ("namespace", "", "1 to 64 letters, digits and . _ -"),
        ("namespace", "a b", "1 to 64 letters, digits and . _ -"),
        ("namespace", "{a}", "1 to 64 letters, digits and . _ -"),
        ("namespace", "a:b", "1 to 64 letters, digits and . _ -"),
        ("namespace", "ü", "1 to 64 letters, digits and . _ -"),
        ("namespace", "a\n", "1 to 64 letters, digits and . _ -"),
        ("namespace", "a" * 65, "1 to 64 letters, digits and . _ -"),
        ("namespace", 7, "1 to 64 letters, digits and . _ -"),
        ("app", "a\x00b", "up to 64 printable characters"),
        ("app", "a" * 65, "up to 64 printable characters"),
        ("version", 2, "up to 64 printable characters"),
        ("l1_size", 0, "above 0"),
        ("l1_size", "64 MB", "'64MiB'"),
        ("max_body", True, "'64MiB'"),
        ("l2_budget", 0, "above 0"),
        ("l2_budget", "50", "'250ms'"),
        ("staleness_bound", 0, "above 0"),
        ("purge_timeout", -1, "'250ms'"),
        ("lease_wait", None, "'250ms'"),
        ("pool_size", 0, "a whole number from 1 to 10000"),
        ("pool_size", True, "a whole number from 1 to 10000"),
        ("pool_size", 2.5, "a whole number from 1 to 10000"),
        ("max_variants", "3", "a whole number from 1 to 10000"),
        ("credential_headers", "x-key", "a list of header field names"),
        ("ignore_cookies", "_ga", "a list of cookie names"),
        ("trust_forwarded", "forwarded", "x-forwarded-host, x-forwarded-proto"),
        ("targets", "cdn-cache-control", "a list of header field names"),
        ("cache_status", 1, "True or False"),
        ("age", "no", "True or False"),
        ("enabled", 0, "True or False; or None"),
    ],
)
def test_a_bad_value_names_the_setting_the_value_and_what_is_accepted(name: str, value: Any, accepted: str) -> None:
    error = refused(**{name: value})
    assert (error.setting, error.value) == (f"TierCache: {name}", value)
    assert accepted in error.accepted


@pytest.mark.parametrize(
    ("name", "value", "item"),
    [
        ("credential_headers", ["fine", "x key"], "x key"),
        ("credential_headers", ["x-ms-*"], "x-ms-*"),
        ("ignore_cookies", ["*"], "*"),
        ("ignore_cookies", ["a*b"], "a*b"),
        ("ignore_cookies", ["a;b"], "a;b"),
        ("trust_forwarded", ["x-forwarded-for"], "x-forwarded-for"),
    ],
)
def test_a_bad_item_of_a_list_is_shown_alone(name: str, value: list[str], item: str) -> None:
    error = refused(**{name: value})
    assert (error.setting, error.value) == (f"TierCache: {name}", item)


def test_an_unknown_setting_is_refused_with_the_closest() -> None:
    error = refused(namspace="x")
    assert error.setting == "TierCache: namspace"
    assert error.accepted.startswith("only settings that exist (did you mean 'namespace'?): url, ")

    # Named as if it were one for all.
    error = refused(ttl="5m")
    assert error.setting == "TierCache: ttl"
    assert error.accepted.startswith("this setting in a rule, cache.route(template, ttl=…)")


@pytest.mark.parametrize("url", [b"redis://:hunter2@host", ["redis://:hunter2@host"], 7])
def test_a_url_of_another_type_is_refused_without_showing_it(url: Any) -> None:
    error = refused(url=url)
    assert (error.setting, error.value) == ("TierCache: url", type(url))
    assert "hunter2" not in str(error)


def test_the_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Settings(url="redis://me:hunter2@host/0"))


@pytest.mark.parametrize(
    ("word", "enabled"),
    [("1", False), ("true", False), (" YES ", False), ("on", False), ("0", True), ("", True), ("off", True)],
)
def test_the_environment_switches_caching_off(monkeypatch: pytest.MonkeyPatch, word: str, enabled: bool) -> None:
    monkeypatch.setenv(DISABLED_VARIABLE, word)
    assert Settings().enabled is enabled
    assert Settings(enabled=None).enabled is enabled
    assert Settings(enabled=True).enabled is True
    assert Settings(enabled=False).enabled is False


def test_an_unclear_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED_VARIABLE, "maybe")
    error = refused()
    assert (error.setting, error.value) == (DISABLED_VARIABLE, "maybe")
    assert "1, true, yes, on" in error.accepted


def test_the_environment_switches_the_explanations_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    assert Settings().debug is False
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert Settings().debug is Settings(debug=None).debug is True
    assert Settings(debug=False).debug is False
    monkeypatch.setenv(DEBUG_VARIABLE, "verbose")
    assert refused().setting == DEBUG_VARIABLE


def test_a_secret_that_is_too_short_is_not_shown() -> None:
    error = refused(session_secret="hunter2")
    assert error.setting == "TierCache: session_secret"
    assert "hunter2" not in str(error)
