"""`tiercache purge`: from a file, from code and from the environment, as seen by a process that serves the pages."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from werkzeug.test import Client

from tests.servers import RedisServer, free_port
from tests.test_wsgi import app_with
from tiercache import TierCache
from tiercache.cli import main

TOML = """
namespace = "shell"

[[routes]]
path = "/p/{id}"
ttl = "10m"
tags = ["product:{id}"]

[[events]]
event = "product.updated"
tags = ["product:{id}"]
"""
CODE = """
import os
from tiercache import TierCache

cache = TierCache(os.environ["SHOP_REDIS"], namespace="shell", purge_timeout="10s")
cache.route("/p/{id}", ttl="10m", tags=["product:{id}"])
alone = TierCache()
"""


class Site:
    """The pages of another process of the namespace. Its rule is strong, so that it need not be waited for."""

    def __init__(self, url: str) -> None:
        self.cache = TierCache(url, namespace="shell", l2_budget="10s", strong_wait="10s", purge_timeout="10s")
        self.cache.route("/p/{id}", ttl="10m", tags=["product:{id}"], consistency="strong")
        self._client = Client(self.cache.wsgi(app_with(lambda: [b"page"])))

    def hit(self, path: str) -> bool:
        return "hit" in self._client.get(path, buffered=True).headers["Cache-Status"]


@pytest.fixture
def site(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    for name in ("TIERCACHE_NAMESPACE", "TIERCACHE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIERCACHE_URL", redis_url)
    monkeypatch.setenv("TIERCACHE_PURGE_TIMEOUT", "10s")
    monkeypatch.setenv("SHOP_REDIS", redis_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.toml").write_text(TOML)
    (tmp_path / "purge_shop.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    site = Site(redis_url)
    for path in ("/p/1", "/p/2"):
        site.hit(path)
        assert site.hit(path)
    yield site
    site.cache.close()
    sys.modules.pop("purge_shop", None)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--tag", "product:1"], ["/p/2"]),
        (["--tag", "product:1", "--tag", "product:2"], []),
        (["--url", "/p/1"], ["/p/2"]),
        (["--url", "http://localhost/p/2"], ["/p/1"]),
        (["--prefix", "/p/1"], ["/p/2"]),
        (["--glob", "/*/2"], ["/p/1"]),
        (["--route", "/p/{id}"], []),
        (["--everything"], []),
        (["--event", "product.updated", "--with", "id=1"], ["/p/2"]),
        (["--soft", "--tag", "product:1"], ["/p/2"]),
    ],
)
def test_what_is_named_goes_in_every_process(
    site: Site, words: list[str], left: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["purge", "shop.toml", *words]) == 0
    assert [path for path in ("/p/1", "/p/2") if site.hit(path)] == left
    assert capsys.readouterr().out.startswith("purged ")


def test_from_code_and_from_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["purge", "purge_shop:cache", "--route", "/p/{id}"]) == 0
    assert not site.hit("/p/1")
    monkeypatch.setenv("TIERCACHE_NAMESPACE", "shell")
    assert main(["purge", "--tag", "product:1"]) == 0
    assert not site.hit("/p/1")


def test_it_tells_what_it_has_done(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", "shop.toml", "--tag", "product:1", "--wait", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["members"], told["everything"], told["shared"]) == (["t:product:1"], False, True)
    assert len(told["acknowledged"]) + len(told["isolated"]) >= 1
    assert main(["purge", "shop.toml", "--everything", "--wait"]) == 0
    assert capsys.readouterr().out == "purged everything\napplied in 1 other process\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["shop.toml", "--soft"], "nothing is named: give --tag, --url"),
        (["shop.toml", "--url", "p/1"], "a path such as '/products/1'"),
        (["shop.toml", "--route", "/q"], "/p/{id}"),
        (["shop.toml", "--event", "product.moved"], "product.updated"),
        (["shop.toml", "--event", "product.updated"], "id"),
        (["shop.toml", "--event", "product.updated", "--tag", "a"], "--with NAME=VALUE alone"),
        (["shop.toml", "--tag", "a", "--with", "id=1"], "--with is for --event"),
        (["shop.toml", "--tag", "a", "--patience", "soon"], "--patience"),
        (["nowhere.toml", "--tag", "a"], "nowhere.toml"),
        (["purge_shop:cash", "--tag", "a"], "purge_shop:cache"),
        (["purge_shop:alone", "--tag", "a"], "no url is set"),
    ],
)
def test_what_cannot_be_purged(site: Site, words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("tiercache purge: ")
    assert hint in said.err
    assert said.out == ""
    assert site.hit("/p/1")


def test_a_redis_that_is_away_and_one_that_comes_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("TIERCACHE_URL", f"redis://127.0.0.1:{port}/0")
    assert main(["purge", "shop.toml", "--tag", "a", "--patience", "0"]) == 1
    assert "not confirmed" in capsys.readouterr().err
    with RedisServer(port=port) as server:
        # It is there by the second attempt.
        server.kill()
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: server.start())
        monkeypatch.setattr("tiercache.cli.purge.time", clock)
        assert main(["purge", "shop.toml", "--tag", "a", "--patience", "30s"]) == 0
