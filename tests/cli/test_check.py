"""`tiercache check`: what it prints, what it ends with, and what it can look at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiercache.cli import COMMANDS, main
from tiercache.config import Settings
from tiercache.core.policy import Policy

WHOLE = """
namespace = "shop"

[policies.pages]
ttl = "10m"
stale_if_error = "1h"
tags = ["all"]

[[routes]]
path = "/products/{id}"
policy = "pages"
ttl = "5m"
tags = ["product:{id}"]

[[routes]]
path = "/account/{rest:path}"
cache = false

[[events]]
event = "product.updated"
tags = "product:{id}"
"""
CODE = """
from tiercache import Policy, TierCache

cache = TierCache("redis://me:hunter2@localhost/0", namespace="shop")
cache.policy("lists", ttl="1m")
cache.route("/products", "lists", query=["page"])
cache.on("price.changed", tags=lambda id: f"p:{id}")
cache.route("/old", Policy(ttl="1s"), ttl="2s")

class Extension:
    def __init__(self):
        self.cache = cache

class App:
    extensions = {"tiercache": Extension()}

extension, app = Extension(), App()
other = 3

def make():
    return cache

def need(argument):
    return cache
"""


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("TIERCACHE_CONFIG", "TIERCACHE_URL", "TIERCACHE_DISABLED", "TIERCACHE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("shop_"):
            del sys.modules[name]


@pytest.fixture
def shop(tmp_path: Path) -> str:
    (tmp_path / "shop.toml").write_text(WHOLE, encoding="utf-8")
    return "shop.toml"


def module(text: str, name: str) -> None:
    Path(f"{name}.py").write_text(text, encoding="utf-8")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out + err


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code, text = printed(capsys, *arguments, "--format", "json")
    return code, json.loads(text)


def test_every_value_is_shown_with_where_it_was_written(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    code, text = printed(capsys, shop)
    assert code == 0
    assert [line.split() for line in text.splitlines()][:2] == [["cache"], ["namespace", "shop", "shop.toml"]]
    rule = text[text.index("rule /products/{id}") :].split("\n\n")[0].splitlines()
    assert [" ".join(line.split()) for line in rule] == [
        "rule /products/{id}",
        "ttl 5m shop.toml: [[routes]] 1",
        "tags product:{id}, all shop.toml: [[routes]] 1 and policy 'pages' in shop.toml",
        "stale_if_error 1h policy 'pages' in shop.toml",
        "27 others as by default",
    ]
    assert "A decorator beside a view is weaker" in text
    assert text.splitlines()[-1] == "0 errors, 0 warnings, 0 notes"


def test_all_shows_the_defaults_too(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    _, text = printed(capsys, shop, "--all")
    lines = [line.split() for line in text.splitlines()]
    assert ["l1_size", "64MiB", "default"] in lines
    assert ["consistency", "bounded", "default"] in lines
    assert "as by default" not in text


def test_json_has_every_setting_of_every_rule(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    code, found = read(capsys, shop)
    assert (code, found["format"], found["target"]) == (0, 1, shop)
    assert set(found["settings"]) == set(Settings.names())
    assert found["settings"]["namespace"] == {"value": "shop", "source": "shop.toml"}
    assert found["settings"]["l1_size"] == {"value": 64 * 2**20, "source": "default"}
    product, account = found["routes"]
    assert (product["template"], product["rule"]) == ("/products/{id}", "shop.toml: [[routes]] 1 '/products/{id}'")
    assert set(product["policy"]) == set(Policy.names())
    assert product["policy"]["ttl"] == {"value": 300.0, "source": "shop.toml: [[routes]] 1"}
    assert product["policy"]["jitter"] == {"value": None, "source": "default"}
    assert account["policy"]["cache"]["value"] is False
    assert found["policies"]["pages"]["ttl"]["value"] == 600.0
    (event,) = found["events"]
    assert (event["event"], event["purges"]["tags"]["value"]) == ("product.updated", ["product:{id}"])
    assert (found["findings"], found["counts"]) == ([], {"error": 0, "warning": 0, "note": 0})


def test_the_environment_is_stronger_and_named(
    capsys: pytest.CaptureFixture[str], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERCACHE_NAMESPACE", "eu")
    monkeypatch.setenv("TIERCACHE_DISABLED", "1")
    settings = read(capsys, shop)[1]["settings"]
    assert settings["namespace"] == {"value": "eu", "source": "TIERCACHE_NAMESPACE"}
    assert settings["enabled"] == {"value": False, "source": "TIERCACHE_DISABLED"}
    settings = read(capsys, shop, "--no-env")[1]["settings"]
    assert settings["namespace"]["source"] == "shop.toml"
    assert settings["enabled"] == {"value": True, "source": "default"}


def test_without_a_target_it_is_what_the_environment_names(
    capsys: pytest.CaptureFixture[str], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(capsys)[1]["routes"] == []
    monkeypatch.setenv("TIERCACHE_CONFIG", shop)
    assert len(read(capsys)[1]["routes"]) == 2


def test_a_file_that_lies_here_is_pointed_to(
    capsys: pytest.CaptureFixture[str], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().err == ""
    Path("tiercache.toml").write_text('namespace = "shop"\n', encoding="utf-8")
    assert main(["check"]) == 0
    assert "tiercache check tiercache.toml" in capsys.readouterr().err
    monkeypatch.setenv("TIERCACHE_CONFIG", shop)
    assert main(["check"]) == 0
    assert main(["check", "tiercache.toml"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "plain", "strict"),
    [
        ('[[routes]]\npath = "/p"\nttl = 60\n', 0, 0),
        ('[[routes]]\npath = "/p"\ntags = ["x"]\n', 0, 0),  # a note
        ('[[routes]]\npath = "/p"\nttl = 60\nbrowser_ttl = "1h"\n', 0, 1),  # a warning
        ('[[routes]]\npath = "/p"\nttl = "60"\n', 1, 1),  # an error
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], text: str, plain: int, strict: int) -> None:
    Path("x.toml").write_text(text, encoding="utf-8")
    assert printed(capsys, "x.toml")[0] == plain
    assert printed(capsys, "x.toml", "--strict")[0] == strict


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere.toml", "a file that can be read"),
        ("broken.toml", "TOML"),
        ("pyproject.toml", "a table [tool.tiercache]"),
        ("shop_nowhere:cache", "cannot be imported: ModuleNotFoundError"),
        ("shop_code:nothing", "there is no 'nothing' in shop_code; a TierCache is shop_code:cache"),
        ("shop_code:other", "is a int, not a TierCache; a TierCache is shop_code:cache"),
        ("shop_code:make", "with --factory it is called first"),
        ("shop_raises:cache", "cannot be imported: ZeroDivisionError"),
        ("shop_exits:cache", "cannot be imported: SystemExit"),
        (":cache", "neither a file nor module:attribute"),
        ("shop_code:", "neither a file nor module:attribute"),
    ],
)
def test_what_cannot_be_read_ends_with_2(capsys: pytest.CaptureFixture[str], target: str, says: str) -> None:
    Path("broken.toml").write_text("= 1", encoding="utf-8")
    Path("pyproject.toml").write_text("[project]\n", encoding="utf-8")
    module(CODE, "shop_code")
    module("1 / 0", "shop_raises")
    module("raise SystemExit(0)", "shop_exits")
    code, text = printed(capsys, target)
    assert code == 2
    assert says in text
    assert text.startswith("tiercache check: ")


@pytest.mark.parametrize("attribute", ["cache", "extension", "extension.cache", "app"])
def test_a_cache_in_code(capsys: pytest.CaptureFixture[str], attribute: str) -> None:
    module(CODE, "shop_code")
    code, found = read(capsys, f"shop_code:{attribute}")
    assert code == 0
    lists, old = found["routes"]
    assert lists["policy"]["ttl"] == {"value": 60.0, "source": "policy 'lists' in code"}
    assert lists["policy"]["query"] == {"value": ["page"], "source": "code"}
    assert old["policy"]["ttl"] == {"value": 2.0, "source": "code"}
    assert found["settings"]["namespace"] == {"value": "shop", "source": "code"}
    assert found["settings"]["url"]["value"] == "redis://***@localhost/0"


def test_what_a_module_prints_is_not_mixed_with_what_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    module("print('starting')\n" + CODE, "shop_prints")
    assert main(["check", "shop_prints:make", "--factory", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["target"] == "shop_prints:make"
    assert err == "starting\n"


def test_apps_of_frameworks(capsys: pytest.CaptureFixture[str]) -> None:
    module(
        CODE + """
from flask import Flask
from starlette.applications import Starlette
from tiercache.integrations.flask import FlaskTierCache
from tiercache.integrations.starlette import TierCacheMiddleware

starlette_app = Starlette()
starlette_app.add_middleware(TierCacheMiddleware, cache=cache)
flask_app = Flask("shop")
FlaskTierCache(flask_app, cache)
bare = Starlette()
""",
        "shop_apps",
    )
    for attribute in ("starlette_app", "flask_app"):
        code, found = read(capsys, f"shop_apps:{attribute}")
        assert (code, len(found["routes"])) == (0, 2)
    assert printed(capsys, "shop_apps:bare")[0] == 2


def test_a_factory_and_another_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("src").mkdir()
    module(CODE, "src/shop_far")
    assert printed(capsys, "shop_far:make", "--factory", "--app-dir", "src")[0] == 0
    assert printed(capsys, "shop_far:need", "--factory")[0] == 2
    assert printed(capsys, "shop_far:other", "--factory")[0] == 2


def test_code_that_refuses_to_start_is_an_error_and_not_unreadable(capsys: pytest.CaptureFixture[str]) -> None:
    text = 'from tiercache import TierCache\ncache = TierCache()\ncache.route("/p/{id}", ttl=1, tags=["{x}"])\n'
    module(text, "shop_bad")
    code, found = read(capsys, "shop_bad:cache")
    assert (code, [one["code"] for one in found["findings"]]) == (1, ["tag-without-value"])
    assert "routes" not in found


def test_rules_of_the_file_and_of_the_code_together(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    module(
        "from tiercache import TierCache\n"
        f"cache = TierCache.from_toml({shop!r}, environ={{}})\n"
        'cache.route("/products/{id}", ttl="1m", jitter=0.1)\n',
        "shop_both",
    )
    _, found = read(capsys, "shop_both:cache")
    account, product = found["routes"]
    assert (account["in_file_alone"], product["in_file_alone"]) == (True, False)
    assert product["policy"]["ttl"] == {"value": 300.0, "source": "shop.toml: [[routes]] 1"}
    assert product["policy"]["jitter"] == {"value": 0.1, "source": "code"}


def test_ignored_codes_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.toml").write_text('[[routes]]\npath = "/p"\nttl = 60\nbrowser_ttl = "1h"\n', encoding="utf-8")
    assert printed(capsys, "x.toml", "--strict", "--ignore", "browser-outlives-store")[0] == 0
    for code, says in (("nonsense", "there is no code"), ("ttl-zero", "is an error")):
        with pytest.raises(SystemExit) as ended:
            main(["check", "x.toml", "--ignore", code])
        assert ended.value.code == 2
        assert says in capsys.readouterr().err


def test_quiet_prints_what_is_wrong_alone(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    assert printed(capsys, shop, "-q") == (0, "0 errors, 0 warnings, 0 notes\n")
    Path("x.toml").write_text('[[routes]]\npath = "/p"\nttl = "60"\n', encoding="utf-8")
    _, text = printed(capsys, "x.toml", "--quiet")
    assert text.splitlines()[0] == "error: not-accepted: x.toml: [[routes]] 1 '/p'"
    assert text.splitlines()[-1] == "1 error, 0 warnings, 0 notes"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_printed(
    capsys: pytest.CaptureFixture[str], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERCACHE_SESSION_SECRET", "hunter2 hunter2 hunter2")
    Path("x.toml").write_text(
        'url = "redis://me:hunter2@h/0?password=hunter2"\nsession_secret = "hunter2"\nnamspace = "rediss://:hunter2@h"\n',
        encoding="utf-8",
    )
    code, text = printed(capsys, "x.toml", "--all", "--format", form)
    assert code == 1
    assert "session_secret" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "tiercache"], [str(Path(sys.executable).with_name("tiercache"))]]
)
def test_it_is_a_program_of_its_own(command: list[str], shop: str) -> None:
    done = subprocess.run([*command, "check", shop], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rule /products/{id}" in done.stdout
    done = subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    for command_ in COMMANDS:
        assert command_.NAME in done.stderr or command_.NAME in done.stdout or "COMMAND" in done.stderr


def test_a_reader_that_closes_early_is_no_error() -> None:
    command = [sys.executable, "-m", "tiercache", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["routes"]["items"]["properties"]["ttl"]["default"] == "none"
