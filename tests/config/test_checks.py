"""Each finding: what it is found in, and the nearest thing that is fine."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tiercache import TierCache
from tiercache.cli.targets import from_file
from tiercache.config.checks import SESSION_COOKIES, check
from tiercache.config.contradictions import CONTRADICTIONS, SEVERITIES, Finding
from tiercache.config.effective import Configuration

URL = 'url = "redis://localhost:6379/0"\nnamespace = "shop"\n'
MEMCACHED = 'url = "memcached://localhost"\nnamespace = "shop"\n'
LEDGER = 'ledger = "redis://localhost/0"\n'
FINE = '[[routes]]\npath = "/fine"\nttl = "10m"\n'


def rule(text: str, path: str = "/p/{id}") -> str:
    return f'[[routes]]\npath = "{path}"\n{text}\n'


def findings(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[Finding]:
    file = folder / "shop.toml"
    file.write_text(text, encoding="utf-8")
    return check(from_file(str(file), environ or {}))


def codes(folder: Path, text: str, environ: dict[str, str] | None = None) -> set[str]:
    return {finding.code for finding in findings(folder, text, environ)}


# code: what has it, and what is as near to it as possible and has no finding at all.
CASES: dict[str, list[tuple[str, str]]] = {
    "not-accepted": [
        (rule('ttl = "5 m"'), rule('ttl = "5m"')),
        (rule("ttl = 60", "/p/<id>"), rule("ttl = 60", "/p/{id}")),
        ('url = "redis://a:b"\nnamespace = "shop"\n' + FINE, URL + FINE),
        ('url = "http://h"\nnamespace = "shop"\n' + FINE, URL + FINE),
        (FINE + "[policies]\npages = 3\n", FINE),
        ("routes = 3\n", FINE),
        (FINE + '[[events]]\nevent = "e"\nurls = "x"\n', FINE + '[[events]]\nevent = "e"\nurls = "/x"\n'),
        (FINE + '[[events]]\nevent = "e"\n', FINE),
    ],
    "unknown-setting": [
        (rule("tll = 60\nttl = 60"), rule("ttl = 60")),
        ("ttl = 60\n" + FINE, FINE),
        ('namspace = "x"\n' + FINE, 'namespace = "x"\n' + FINE),
    ],
    "unknown-policy": [
        ("[policies.pages]\nttl = 60\n" + rule('policy = "pagse"\nttl = 1') + rule('policy = "pages"', "/q"),
         "[policies.pages]\nttl = 60\n" + rule('policy = "pages"')),
    ],
    "rule-empty": [
        (rule("") + FINE, rule('ttl = "none"') + FINE),
        ("[policies.pages]\n" + FINE, FINE),
    ],
    "rule-shadowed": [
        (rule("ttl = 60", "/{rest:path}") + rule("ttl = 60"), rule("ttl = 60") + rule("ttl = 60", "/{rest:path}")),
        (rule("ttl = 60") + rule("ttl = 5"), rule("ttl = 60")),
    ],
    "tag-without-value": [
        (rule('ttl = 60\ntags = ["p:{sku}"]'), rule('ttl = 60\ntags = ["p:{id}"]')),
        (rule('ttl = 60\ntags = ["x"]\ninvalidates = ["{sku}"]'), rule('ttl = 60\ntags = ["x"]\ninvalidates = ["x"]')),
    ],
    "beside-cache-false": [
        (rule("cache = false\nttl = 60"), rule("cache = false")),
    ],
    "cdn-ttl-beside-cookies": [
        (rule('ttl = 60\ncookies = ["theme"]\ncdn_ttl = 30'), rule('ttl = 60\ncookies = "ignore"\ncdn_ttl = 30')),
    ],
    "coalesce-without-l2": [
        (URL + rule('ttl = 60\ntiers = ["l1"]\ncoalesce = "fleet"'), URL + rule('ttl = 60\ncoalesce = "fleet"')),
    ],
    "ttl-zero": [(rule("ttl = 0"), rule("ttl = 0\nstale_if_error = 60"))],
    "session-without-secret": [
        (URL + rule('ttl = 60\nconsistency = "session"'), URL + rule('ttl = 60\nconsistency = "strong"')),
    ],
    "consistency-without-ledger": [
        (MEMCACHED + rule('ttl = 60\nconsistency = "strong"'), MEMCACHED + LEDGER + rule("ttl = 60")),
        (MEMCACHED + rule('ttl = 60\nconsistency = "session"'),
         MEMCACHED + LEDGER + rule('ttl = 60\nconsistency = "strong"')),
    ],
    "tier-not-there": [(rule('ttl = 60\ntiers = ["l2"]'), URL + rule('ttl = 60\ntiers = ["l2"]'))],
    "needs-url": [
        ("staleness_bound = 2\n" + FINE, URL + "staleness_bound = 2\n" + FINE),
        ("pool_size = 2\n" + FINE, URL + "pool_size = 2\n" + FINE),
        (rule('ttl = 60\ntiers = ["l1", "l2"]'), rule('ttl = 60\ntiers = ["l1"]')),
        (rule('ttl = 60\ncoalesce = "fleet"'), rule('ttl = 60\ncoalesce = "process"')),
        (rule('ttl = 60\nconsistency = "strong"'), rule('ttl = 60\nconsistency = "bounded"')),
        (rule("ttl = 60\nisolated_ttl = 30"), rule("ttl = 60\nisolated_ttl = 0")),
    ],
    "purges-stay-in-process": [
        (MEMCACHED + FINE, MEMCACHED + LEDGER + FINE),
        (MEMCACHED + FINE, URL + FINE),
    ],
    "secret-in-file": [
        (MEMCACHED + 'ledger = "redis://me:hunter2@localhost/0"\n' + FINE, MEMCACHED + LEDGER + FINE),
        ('url = "redis://me:hunter2@localhost/0"\nnamespace = "shop"\n' + FINE, URL + FINE),
        ('url = "redis://localhost/0?password=hunter2"\nnamespace = "shop"\n' + FINE, URL + FINE),
    ],
    "body-larger-than-l1": [
        ('max_body = "2MiB"\nl1_size = "1MiB"\n' + FINE, 'max_body = "1MiB"\nl1_size = "1MiB"\n' + FINE),
        (rule('ttl = 60\nmax_body = "1GiB"'), rule('ttl = 60\nmax_body = "64MiB"')),
    ],
    "session-cookie-ignored": [
        ('ignore_cookies = ["sessionid"]\n' + FINE, 'ignore_cookies = ["theme"]\n' + FINE),
        ('ignore_cookies = ["PHPSESS*"]\n' + FINE, 'ignore_cookies = ["php_theme*"]\n' + FINE),
    ],
    "session-cookie-dropped": [
        (rule('ttl = 60\ndrop_cookies = ["csrftoken"]'), rule('ttl = 60\ndrop_cookies = ["theme"]')),
    ],
    "policy-unused": [
        ("[policies.pages]\nttl = 60\n" + FINE, "[policies.pages]\nttl = 60\n" + rule('policy = "pages"')),
    ],
    "browser-outlives-purge": [
        (rule('ttl = 60\ntags = ["x"]\nbrowser_ttl = 2'), rule('ttl = 60\ntags = ["x"]\nbrowser_ttl = 1')),
    ],
    "cdn-outlives-purge": [
        (rule('ttl = 60\ntags = ["x"]\ncdn_ttl = 2'), rule('ttl = 60\ntags = ["x"]\ncdn_ttl = "500ms"')),
    ],
    "browser-outlives-store": [(rule("ttl = 60\nbrowser_ttl = 61"), rule("ttl = 60\nbrowser_ttl = 60"))],
    "cdn-outlives-store": [
        (rule("ttl = 60\nstale_if_error = 9\ncdn_ttl = 70"), rule("ttl = 60\nstale_if_error = 10\ncdn_ttl = 70")),
    ],
    "cdn-ttl-personal": [
        (rule('ttl = 60\nheaders = ["authorization"]\ncdn_ttl = 30'),
         rule('ttl = 60\nheaders = ["x-tz"]\ncdn_ttl = 30')),
        ('credential_headers = ["x-tz"]\n' + rule('ttl = 60\nheaders = ["x-tz"]\ncdn_ttl = 30'),
         rule('ttl = 60\nheaders = ["x-tz"]\ncdn_ttl = 30')),
    ],
    "key-explodes": [(rule('ttl = 60\nheaders = ["User-Agent"]'), rule('ttl = 60\nheaders = ["x-device"]'))],
    "cookie-in-headers": [(rule('ttl = 60\nheaders = ["cookie"]'), rule('ttl = 60\ncookies = ["theme"]'))],
    "isolated-never": [
        (URL + rule('ttl = 60\nconsistency = "strong"\nisolated_ttl = 5'),
         URL + rule('ttl = 60\nconsistency = "strong"\nisolated_ttl = 0')),
        (URL + rule('ttl = 60\ntiers = ["l2"]\nisolated_ttl = 5'), URL + rule("ttl = 60\nisolated_ttl = 5")),
    ],
    "isolated-beyond-lifetime": [
        (URL + rule("ttl = 5\nisolated_ttl = 6"), URL + rule("ttl = 5\nisolated_ttl = 6\nstale_if_error = 1")),
    ],
    "slow-after-timeout": [
        (rule("ttl = 60\nstale_if_error = 60\nserve_stale_after = 2\nfill_timeout = 2"),
         rule("ttl = 60\nstale_if_error = 60\nserve_stale_after = 1\nfill_timeout = 2")),
    ],
    "stale-window-too-short": [
        (rule("ttl = 60\nstale_if_error = 2\nserve_stale_after = 2"),
         rule("ttl = 60\nstale_if_error = 3\nserve_stale_after = 2")),
    ],
    "heuristic-behind-ttl": [(rule("ttl = 60\nheuristic = 0.1"), rule('ttl = "none"\nheuristic = 0.1'))],
    "early-refresh-never": [
        (rule("ttl = 0\nstale_if_error = 60\nearly_refresh = 0.8"),
         rule("ttl = 1\nstale_if_error = 60\nearly_refresh = 0.8")),
    ],
    "lost-history-without-stale": [
        (URL + 'on_lost_history = "stale"\n' + FINE,
         URL + 'on_lost_history = "stale"\n' + rule("ttl = 60\nstale_while_revalidate = 5")),
    ],
    "disabled": [("enabled = false\n" + FINE, "enabled = true\n" + FINE)],
    "no-rules": [("", FINE)],
    "namespace-default": [('url = "redis://localhost"\n' + FINE, URL + FINE)],
    "slow-beyond-budget": [
        (URL + 'l2_slow = "50ms"\n' + FINE, URL + 'l2_slow = "49ms"\n' + FINE),
        (URL + 'l2_budget = "10ms"\n' + FINE, URL + 'l2_budget = "16ms"\n' + FINE),
    ],
    "rule-overlaps": [
        (rule("ttl = 60", "/{a}/x") + rule("ttl = 60", "/y/{b}"),
         rule("ttl = 60", "/{a}/x") + rule("ttl = 60", "/{a}/y")),
    ],
    "lifetime-left-to-app": [(rule('tags = ["x"]'), rule('tags = ["x"]\nttl = "none"'))],
    "stale-without-window": [
        (rule("ttl = 60\nserve_stale_after = 2"), rule("ttl = 60\nserve_stale_after = 2\nstale_if_error = 60")),
        (rule("ttl = 60\nretry_after_error = 2"), rule("ttl = 60\nretry_after_error = 2\nstale_while_revalidate = 9")),
    ],
    "jitter-without-lifetime": [
        (rule('ttl = "none"\njitter = 0.1'), rule("ttl = 60\njitter = 0.1")),
    ],
    "stale-under-strong": [
        (URL + rule('ttl = 60\nconsistency = "strong"\nstale_if_error = 5'),
         URL + rule("ttl = 60\nstale_if_error = 5")),
    ],
    "max-fills-refuses": [
        (rule("ttl = 60\nmax_fills = 5"), rule("ttl = 60\nmax_fills = 5\nstale_if_error = 60")),
    ],
    "event-without-rule": [
        (FINE + '[[events]]\nevent = "e"\nroute = "/fin"\n', FINE + '[[events]]\nevent = "e"\nroute = "/fine"\n'),
    ],
    "invalidates-unknown-tag": [
        (rule('ttl = 60\ntags = ["p:{id}"]') + '[[events]]\nevent = "e"\ntags = "p.{sku}"\n',
         rule('ttl = 60\ntags = ["p:{id}"]') + '[[events]]\nevent = "e"\ntags = "p:{sku}"\n'),
        (rule('ttl = 60\ntags = ["p:{id}"]') + rule('cache = false\ninvalidates = ["q:{x}"]', "/q/{x}"),
         rule('ttl = 60\ntags = ["p:{id}"]') + rule('cache = false\ninvalidates = ["p:{x}"]', "/q/{x}")),
    ],
}  # fmt: skip
IN_CODE_ALONE = {"rule-overruled", "secret-unused"}
"""Below: the one is about a rule in code, the other about a secret that belongs into the environment."""


@pytest.mark.parametrize(
    ("code", "text"),
    [(code, text) for code, pairs in CASES.items() for text, _ in pairs],
)
def test_it_is_found_alone_and_says_what_to_do(code: str, text: str, tmp_path: Path) -> None:
    found = findings(tmp_path, text)
    assert {finding.code for finding in found} == {code}
    for finding in found:
        assert finding.severity == CONTRADICTIONS[code].severity
        assert finding.where
        # What is wrong, and after it what to do.
        assert ";" in finding.message


@pytest.mark.parametrize("text", sorted({text for pairs in CASES.values() for _, text in pairs}))
def test_what_is_as_near_as_possible_to_it_is_fine(text: str, tmp_path: Path) -> None:
    assert findings(tmp_path, text) == []


def test_every_code_has_a_case() -> None:
    assert set(CASES) | IN_CODE_ALONE == set(CONTRADICTIONS)
    assert [code for code, one in CONTRADICTIONS.items() if one.severity not in SEVERITIES] == []


def test_all_that_is_wrong_is_found_at_once_and_the_worst_comes_first(tmp_path: Path) -> None:
    text = 'l1_size = "x"\nnamspace = 1\n' + rule('ttl = "x"\ntags = ["{y}"]\nquery = 3\nheaders = ["referer"]')
    found = findings(tmp_path, text + rule("ttl = 0", "/q") + rule("ttl = 9", "no-path"))
    assert [(finding.code, finding.setting) for finding in found] == [
        ("not-accepted", "l1_size"),
        ("unknown-setting", "namspace"),
        ("not-accepted", "ttl"),
        ("not-accepted", "query"),
        ("tag-without-value", "tags"),
        ("ttl-zero", "ttl"),
        ("not-accepted", "[[routes]] 3 'no-path'"),
        ("key-explodes", "headers"),
        ("lifetime-left-to-app", "ttl"),
    ]


def test_what_is_refused_is_left_out_and_the_rest_holds(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(rule('ttl = 60\nqery = ["a"]\nbrowser_ttl = 5'), encoding="utf-8")
    (route,) = from_file(str(file), {}).routes
    assert (route.policy.ttl, route.policy.browser_ttl) == (60, 5)


def test_variables_are_checked_with_the_file(tmp_path: Path) -> None:
    environ = {"TIERCACHE_L1_SIZE": "x", "TIERCACHE_NAMSPACE": "y", "TIERCACHE_DISABLED": "1"}
    found = findings(tmp_path, FINE, environ)
    assert [(finding.code, finding.where) for finding in found] == [
        ("not-accepted", "TIERCACHE_L1_SIZE"),
        ("unknown-setting", "TIERCACHE_NAMSPACE"),
        ("disabled", "cache"),
    ]
    # A secret that stands where it belongs.
    environ = {"TIERCACHE_URL": "redis://me:hunter2@localhost/0", "TIERCACHE_NAMESPACE": "shop"}
    assert findings(tmp_path, FINE, environ) == []
    environ["TIERCACHE_SESSION_SECRET"] = "correct horse battery"
    assert codes(tmp_path, FINE, environ) == {"secret-unused"}
    assert findings(tmp_path, rule('ttl = 60\nconsistency = "session"'), environ) == []


def test_a_rule_in_code_that_the_file_takes_over(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[[routes]]\npath = "/{rest:path}"\ncache = false\n', encoding="utf-8")
    cache = TierCache.from_toml(file, environ={})
    # Nothing that is wrong with it matters any more.
    cache.route("/p/{id}", ttl=60, headers=["user-agent"])
    found = check(Configuration(cache.settings, cache.sources, cache.policies, cache.routes, cache.events))
    assert [(finding.code, finding.where) for finding in found] == [("rule-overruled", "route '/p/{id}'")]


def test_what_has_no_effect_is_told_once_when_an_app_is_wrapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[policies.pages]\nttl = 5\n[[routes]]\npath = "/{rest:path}"\ncache = false\n', encoding="utf-8")
    caplog.set_level(logging.DEBUG, "tiercache")
    cache = TierCache.from_toml(file, environ={"TIERCACHE_DISABLED": "1"})
    cache.route("/p/{id}", ttl=60)
    assert caplog.records == []
    for _ in range(2):
        cache.wsgi(lambda environ, start_response: [])
    lines = [(record.name, record.levelno, record.getMessage().partition(":")[0]) for record in caplog.records]
    assert lines == [
        ("tiercache.config", logging.INFO, code) for code in ("disabled", "rule-overruled", "policy-unused")
    ]


def test_the_cookies_of_the_big_frameworks_are_known() -> None:
    assert {"sessionid", "session", "phpsessid", "jsessionid", "connect.sid", "csrftoken"} <= SESSION_COOKIES


def test_many_rules_are_compared_in_bounded_time() -> None:
    cache = TierCache()
    for number in range(300):
        cache.route(f"/{{x}}/{number}/{{y}}", ttl=60)
    assert check(Configuration(cache.settings, cache.sources, cache.policies, cache.routes, cache.events)) == []
