"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

APP = """
    from tiercache import TierCache

    cache = TierCache("redis://localhost:1/0")
    cache.route("/p", ttl="10m")

    def get():
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"page"]

        heads = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/p", "wsgi.url_scheme": "http", "HTTP_HOST": "shop.example"}
        b"".join(cache.wsgi(app)(environ, lambda status, headers, exc_info=None: heads.append(headers)))
        return heads[0]
"""


Done = subprocess.CompletedProcess[str]


def unindented(text: str) -> str:
    return re.sub(r"^    ", "", text, flags=re.MULTILINE)


def run(folder: Path, tests: str, *, ini: str = "", **environment: str) -> Done:
    """The plugin alone, found by its entry point: what others are installed here is of no interest."""
    (folder / "pytest.ini").write_text(f"[pytest]\nxfail_strict = true\n{ini}\n")
    (folder / "test_it.py").write_text(unindented(tests))
    (folder / "app.py").write_text(unindented(APP))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TIERCACHE"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-W", "error", "-p", "tiercache"],
        cwd=folder,
        env={**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def passed(done: Done) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.findall(r"(\d+) passed", done.stdout)[0])


def test_it_comes_with_the_installation() -> None:
    (point,) = entry_points(group="pytest11", name="tiercache")
    assert point.value == "_tiercache_pytest"


def test_unused_it_imports_nothing_of_the_package(tmp_path: Path) -> None:
    tests = """
    import sys

    def test_nothing_is_imported(request):
        assert request.config.pluginmanager.has_plugin("tiercache")
        assert not [name for name in sys.modules if name.split(".")[0] == "tiercache"]
    """
    assert passed(run(tmp_path, tests)) == 1


def test_fixtures_marks_and_unittest(tmp_path: Path) -> None:
    tests = """
    import unittest

    import pytest

    from app import cache, get
    from tiercache.testing import assert_hit, assert_miss, outcome_of

    def test_isolated(tiercache_isolated, tiercache_clock):
        assert_miss(get())
        assert_hit(get())
        assert tiercache_clock is tiercache_isolated.clock
        tiercache_clock.advance("11m")
        assert_miss(get())
        cache.purge(tags="a")
        tiercache_isolated.assert_purged(tags="a")

    def test_the_next_begins_empty(tiercache_isolated):
        tiercache_isolated.assert_not_purged()
        assert_miss(get())

    @pytest.mark.tiercache(enabled=False)
    def test_disabled():
        assert outcome_of(get()) is None

    @pytest.mark.tiercache(enabled=False)
    class TestOfAClass:
        def test_disabled(self):
            assert outcome_of(get()) is None

        @pytest.mark.tiercache(enabled=True)
        def test_the_closest_mark_wins(self, tiercache_isolated):
            assert_miss(get())

    @pytest.mark.tiercache
    class TestOfUnittest(unittest.TestCase):
        def test_one(self):
            assert_miss(get())
            assert_hit(get())

        def test_other(self):
            assert_miss(get())
            assert_hit(get())

    @pytest.mark.xfail(raises=AssertionError)
    def test_a_failure(tiercache_isolated):
        assert_hit(get())
    """
    done = run(tmp_path, tests)
    assert passed(done) == 7
    assert "1 xfailed" in done.stdout


@pytest.mark.parametrize("mark", ["enable=False", "False", 'url="redis+cluster://a"', "enabled=3"])
def test_a_mark_that_says_nothing(tmp_path: Path, mark: str) -> None:
    done = run(tmp_path, f"import pytest\n@pytest.mark.tiercache({mark})\ndef test_it(): pass")
    assert done.returncode == 1
    assert "1 error" in done.stdout
    assert "accepted" in done.stdout


def test_options(tmp_path: Path) -> None:
    tests = """
    import pytest

    from app import get
    from tiercache.testing import assert_hit, assert_miss, outcome_of

    @pytest.mark.parametrize("number", range(2))
    def test_isolated_without_asking(number):
        assert_miss(get())
        assert_hit(get())
    """
    assert passed(run(tmp_path, tests, ini="tiercache_isolate = true")) == 2
    tests = """
    # The app is imported by the conftest here, before any hook of a test.
    import pytest

    from app import get
    from tiercache.testing import assert_miss, outcome_of

    def test_disabled():
        assert outcome_of(get()) is None

    def test_disabled_although_isolated(tiercache_isolated):
        assert outcome_of(get()) is None

    @pytest.mark.tiercache(enabled=True)
    def test_enabled():
        assert_miss(get())
    """
    (tmp_path / "conftest.py").write_text("import app\n")
    assert passed(run(tmp_path, tests, ini="tiercache_disabled = true")) == 3
    assert passed(run(tmp_path, tests, TIERCACHE_DISABLED="1")) == 3


def test_a_failure_shows_the_line_of_the_test(tmp_path: Path) -> None:
    tests = """
    from app import cache, get
    from tiercache.testing import assert_hit

    def test_response(tiercache_isolated):
        assert_hit(get())

    def test_purge(tiercache_isolated):
        held = cache
        tiercache_isolated.assert_purged(tags="a")
    """
    done = run(tmp_path, tests)
    assert done.returncode == 1
    assert re.findall(r"^(\S+\.py):\d+: AssertionError", done.stdout, re.MULTILINE) == ["test_it.py"] * 2, done.stdout


def test_the_helpers_need_no_pytest(tmp_path: Path) -> None:
    code = """
    import sys
    from app import get
    from tiercache.testing import assert_hit, assert_miss, isolated
    with isolated() as caches:
        assert_miss(get())
        assert_hit(get())
    unneeded = {"pytest", "_pytest", "django", "_tiercache_pytest"}
    assert not unneeded & {name.split(".")[0] for name in sys.modules}
    """
    (tmp_path / "app.py").write_text(unindented(APP))
    done = subprocess.run(
        [sys.executable, "-c", unindented(code)], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
