"""Configuration files: what they say, what it is put over, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiercache import Policy, TierCache
from tiercache.errors import ConfigError

NOWHERE: dict[str, str] = {}


def written(folder: Path, text: str, name: str = "shop.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def cache_from(folder: Path, text: str, **settings: Any) -> TierCache:
    return TierCache.from_toml(written(folder, text), environ=NOWHERE, **settings)


def policies(cache: TierCache) -> dict[str, Policy]:
    return {route.template: route.policy for route in cache.routes}


WHOLE = """
namespace = "shop"
l1_size = "1MiB"
age = false
ignore_cookies = ["theme"]

[policies.pages]
ttl = "10m"
tags = ["all"]

[[routes]]
path = "/products/{id}"
policy = "pages"
cdn_ttl = 86_400
tags = ["product:{id}"]
[routes.ttl_by_status]
404 = "10s"

[[routes]]
path = "/account/{rest:path}"
cache = false
"""


def test_a_file_says_what_code_can_say(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, WHOLE)
    settings = cache.settings
    assert (settings.namespace, settings.l1_size, settings.age) == ("shop", 2**20, False)
    assert settings.ignore_cookies[-1] == "theme"
    assert list(policies(cache)) == ["/products/{id}", "/account/{rest:path}"]
    product = policies(cache)["/products/{id}"]
    expected = Policy(ttl="10m", cdn_ttl="1d", tags=["product:{id}", "all"], ttl_by_status={404: "10s"})
    assert product == expected
    assert policies(cache)["/account/{rest:path}"] == Policy(cache=False)


def test_a_pyproject_has_it_in_a_table_of_its_own(tmp_path: Path) -> None:
    file = written(tmp_path, '[project]\nname = "shop"\n[tool.tiercache]\nnamespace = "eu"\n', "pyproject.toml")
    assert TierCache.from_toml(str(file), environ=NOWHERE).settings.namespace == "eu"
    file = written(tmp_path, '[project]\nname = "shop"\n', "pyproject.toml")
    with pytest.raises(ConfigError, match=r"a pyproject\.toml with a table \[tool\.tiercache\]"):
        TierCache.from_toml(file, environ=NOWHERE)


def test_the_environment_is_stronger_than_the_file_and_arguments_stronger_still(tmp_path: Path) -> None:
    file = written(tmp_path, 'namespace = "file"\napp = "file"\nversion = "file"\nenabled = true\n')
    environ = {"TIERCACHE_APP": "env", "TIERCACHE_VERSION": "env"}
    settings = TierCache.from_toml(file, environ=environ, version="code").settings
    assert (settings.namespace, settings.app, settings.version) == ("file", "env", "code")
    off = TierCache.from_toml(file, environ={"TIERCACHE_DISABLED": "1"})
    assert off.settings.enabled is False
    assert TierCache.from_toml(file, environ={"TIERCACHE_DISABLED": "1"}, enabled=True).settings.enabled is True


def test_the_file_is_put_over_the_rule_of_the_same_template_which_keeps_its_place(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[[routes]]\npath = "/products/{id}"\nttl = "1h"\ntags = ["file"]\n')
    cache.route("/products/new", cache=False)
    held = cache.route("/products/{id}", ttl="1m", cdn_ttl="1d", tags=["code"])
    assert held.policy == Policy(ttl="1h", cdn_ttl="1d", tags=["file", "code"])
    # Had the file's rule gone first, it would decide for /products/new too.
    assert cache.routes.match("/products/new").policy.cache is False
    assert cache.routes.match("/products/7") is held
    assert held.source("ttl").endswith("shop.toml: [[routes]] 1")
    assert held.source("cdn_ttl") == "code"
    assert held.source("tags") == f"{held.source('ttl')} and code"


def test_rules_of_the_file_alone_come_first(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[[routes]]\npath = "/products/{rest:path}"\ncache = false\n')
    assert cache.route("/products/new", ttl="1m").policy.ttl == 60
    assert cache.route("/products/{id}", ttl="1m").policy.ttl == 60
    assert cache.route("/other", ttl="1m").policy.ttl == 60
    for path in ("/products/7", "/products/new"):
        assert cache.routes.match(path).policy.cache is False
    assert cache.routes.match("/other").policy.cache is True
    assert [(a.template, b.template) for a, b in cache.routes.shadowed().items()] == [
        ("/products/new", "/products/{rest:path}"),
        ("/products/{id}", "/products/{rest:path}"),
    ]


def test_the_file_can_switch_off_what_the_code_caches(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[[routes]]\npath = "/p"\ncache = false\n')
    route = cache.route("/p", ttl="1m", cdn_ttl="1d")
    assert (route.policy.cache, route.policy.l1, route.policy.l2) == (False, False, False)


def test_what_contradicts_only_together_is_refused(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[[routes]]\npath = "/p"\ncdn_ttl = "1d"\n')
    with pytest.raises(ConfigError, match=r"shop\.toml: \[\[routes\]\] 1 '/p': cdn_ttl"):
        cache.route("/p", ttl="1m", cookies=["shop"])


def test_a_named_policy_from_code(tmp_path: Path) -> None:
    cache = TierCache()
    assert cache.policy("pages", ttl="10m", tags=["all"]) == Policy(ttl="10m", tags=["all"])
    route = cache.route("/p/{id}", "pages", tags=["p:{id}"], ttl="1m")
    assert route.policy == Policy(ttl="1m", tags=["p:{id}", "all"])
    assert cache.route("/q", "pages").policy == Policy(ttl="10m", tags=["all"])
    with pytest.raises(ConfigError, match=r"route '/r': policy: 'page' .*\(did you mean 'pages'\?\)"):
        cache.route("/r", "page")
    with pytest.raises(ConfigError, match="a name that no policy has yet"):
        cache.policy("pages", ttl="1m")
    with pytest.raises(ConfigError, match="policy 'empty'"):
        cache.policy("empty")
    with pytest.raises(ConfigError, match=r"policy 'x': tll.*did you mean 'ttl'"):
        cache.policy("x", tll=1)  # type: ignore[call-arg]


def test_the_file_is_put_over_a_named_policy_of_the_code(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[policies.pages]\nttl = "1h"\n')
    assert cache.policy("pages", ttl="10m", jitter=0.1) == Policy(ttl="1h", jitter=0.1)
    assert cache.route("/a", "pages").policy == Policy(ttl="1h", jitter=0.1)
    # A rule's own word refines its policy, whoever gave that.
    assert cache.route("/b", "pages", ttl="5m").policy == Policy(ttl="5m", jitter=0.1)
    with pytest.raises(ConfigError, match="a name that no policy has yet"):
        cache.policy("pages", ttl="1m")


def test_code_refers_to_policies_of_the_file(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, '[policies.pages]\nttl = "1h"\n')
    assert cache.policies.unused() == ("pages",)
    assert cache.route("/a", "pages").policy == Policy(ttl="1h")
    assert cache.policies.unused() == ()


def test_session_consistency_needs_its_secret_from_a_file_too(tmp_path: Path) -> None:
    text = 'url = "redis://localhost:1/0"\n[[routes]]\npath = "/p"\nttl = 60\nconsistency = "session"\n'
    with pytest.raises(ConfigError, match=r"\[\[routes\]\] 1 '/p': consistency"):
        cache_from(tmp_path, text)
    assert cache_from(tmp_path, text, session_secret="correct horse battery")._engine.sessions is True


@pytest.mark.parametrize(
    ("text", "setting", "accepted"),
    [
        ("namspace = 'x'", "namspace", "did you mean 'namespace'"),
        ("ttl = 60", "ttl", "this setting in a rule, [[routes]], or in a policy"),
        ("l1_size = '64 MB'", "l1_size", "'64MiB'"),
        ("session_secret = 'hunter2'", "session_secret", "at least 16 characters"),
        ("url = 7", "url", "a URL such as"),
        ("[route]\nx = 1", "route", "did you mean 'routes'"),
        ("routes = 1", "routes", "tables, one for each rule"),
        ("[routes.'/p']\nttl = 1", "routes", "tables, one for each rule"),
        ("policies = 1", "policies", "tables, one for each name"),
        ("[policies]\npages = '10m'", "policies", "tables, one for each name"),
        ("[policies.pages]", "[policies.pages]", "at least one setting"),
        ("[policies.pages]\ntl = 60", "[policies.pages]: tl", "did you mean 'ttl'"),
        ("[policies.pages]\nttl = '10 m'", "[policies.pages]: ttl", "'10m'"),
        ("[policies.pages]\npolicy = 'x'", "[policies.pages]: policy", "only settings that exist"),
        ("[[routes]]\nttl = 60", "[[routes]] 1: path", "a path that starts with '/'"),
        ("[[routes]]\npath = 'p'\nttl = 60", "[[routes]] 1 'p'", "it does not start with '/'"),
        ("[[routes]]\npath = '/p'", "[[routes]] 1 '/p'", "at least one setting or a policy"),
        ("[[routes]]\npath = '/p'\npolcy = 'x'", "[[routes]] 1 '/p': polcy", "did you mean 'policy'"),
        ("[[routes]]\npath = '/p'\npolicy = 'x'", "[[routes]] 1 '/p': policy", "there is none yet"),
        ("[[routes]]\npath = '/p'\npolicy = ['x']", "[[routes]] 1 '/p': policy", "there is none yet"),
        ("[[routes]]\npath = '/p'\nttl = 10:00:00", "[[routes]] 1 '/p': ttl", "'10m'"),
        ("[[routes]]\npath = '/p'\ntags = ['p:{id}']", "[[routes]] 1 '/p': tags", "it has none"),
        (
            "[policies.a]\ntags = ['p:{id}']\n[[routes]]\npath = '/p'\npolicy = 'a'",
            "[[routes]] 1 '/p': tags",
            "it has none",
        ),
        (
            "[[routes]]\npath = '/{x}'\nttl = 1\n[[routes]]\npath = '/p'\nttl = 2",
            "[[routes]] 2 '/p'",
            "'/{x}' comes first",
        ),
    ],
)
def test_an_error_names_file_table_setting_and_what_is_accepted(
    tmp_path: Path, text: str, setting: str, accepted: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        cache_from(tmp_path, text)
    assert raised.value.setting == f"{tmp_path / 'shop.toml'}: {setting}"
    assert accepted in raised.value.accepted
    assert "hunter2" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named_with_the_reason_and_nothing_it_holds(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"missing\.toml' is not accepted; .*No such file"):
        TierCache.from_toml(missing, environ=NOWHERE)
    with pytest.raises(ConfigError, match=r"TOML \(.*at line 2, column") as raised:
        cache_from(tmp_path, 'app = "shop"\nurl = redis://:hunter2@host\n')
    assert "hunter2" not in str(raised.value)
    (tmp_path / "latin.toml").write_bytes(b'app = "caf\xe9"')
    with pytest.raises(ConfigError, match="TOML"):
        TierCache.from_toml(tmp_path / "latin.toml", environ=NOWHERE)


def test_none_is_a_word(tmp_path: Path) -> None:
    cache = cache_from(tmp_path, 'url = "none"\n[[routes]]\npath = "/p"\nttl = "none"\nquery = "none"\n')
    cache.route("/p", ttl="1m", query=["page"])
    assert cache.settings.url is None
    assert (policies(cache)["/p"].ttl, policies(cache)["/p"].query) == (None, None)
