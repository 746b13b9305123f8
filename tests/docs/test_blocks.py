"""The runner for code blocks itself: it must see what is broken, and let nothing be skipped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, PageError, parse
from tests.docs.test_code_blocks import LOCAL_REDIS, commands, complaints, run_page

PAGE = """\
Words.

```python
x = 1
```

1. In a list:

   ```python
   if x:
       x += 1
   ```

<!-- test: setup
y = 5
-->
<!-- test: skip because it serves -->
```console
$ make serve
shop on port 1
```
"""


def run(folder: Path, page: str) -> tuple[int, str]:
    done = run_page("page.md", parse(page, "page.md"), folder, "redis://127.0.0.1:1")
    return done.returncode, done.stderr


def test_blocks_come_in_order_with_their_lines() -> None:
    assert parse(PAGE, "page.md") == [
        Block("python", "x = 1\n", 4),
        Block("python", "if x:\n    x += 1\n", 10),
        Block("python", "y = 5\n", 15),
        Block("console", "$ make serve\nshop on port 1\n", 19, "skip", "because it serves"),
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<!-- test: skip because it is slow -->\n```python\nx = 1\n```\n",
        "<!-- test: skip -->\n```bash\nmake serve\n```\n",
        "<!-- test: skip because -->\n```bash\nmake serve\n```\n",
        "<!-- test: ignore it -->\n```python\nx = 1\n```\n",
        "<!-- test: file a.toml -->\nWords between.\n```toml\nx = 1\n```\n",
        "```py\nx = 1\n```\n",
        "```\nx = 1\n```\n",
        "```python\nx = 1\n",
    ],
)
def test_a_page_that_would_hide_a_block_is_refused(page: str) -> None:
    with pytest.raises(PageError, match=r"page\.md"):
        parse(page, "page.md")


def test_the_blocks_of_a_page_share_one_namespace(tmp_path: Path) -> None:
    assert run(tmp_path, "```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n") == (0, "")


def test_a_block_that_fails_is_named_by_its_line(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "Words.\n\n```python\nx = 1\nassert x == 2\n```\n")
    assert code != 0
    assert 'File "page.md", line 5' in errors
    assert "assert x == 2" in errors


def test_only_statements_with_await_run_on_a_loop(tmp_path: Path) -> None:
    page = """\
```python
import asyncio
try:
    asyncio.get_running_loop()
except RuntimeError:
    outside = True
first = await asyncio.sleep(0, asyncio.get_running_loop())
second = await asyncio.sleep(0, asyncio.get_running_loop())
assert outside
assert first is second
```
"""
    assert run(tmp_path, page) == (0, "")


def test_an_expected_error_has_to_come(tmp_path: Path) -> None:
    page = "<!-- test: raises ValueError -->\n```python\n{}\n```\n"
    assert run(tmp_path, page.format("int('x')"))[0] == 0
    assert run(tmp_path, page.format("int('1')"))[0] != 0
    assert run(tmp_path, page.format("[][0]"))[0] != 0


def test_a_file_block_is_written_where_the_page_runs(tmp_path: Path) -> None:
    page = "<!-- test: file shop.py -->\n```python\nprice = 3\n```\n"
    page += "\n```python\nimport shop\nassert shop.price == 3\n```\n"
    assert run(tmp_path, page) == (0, "")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('"redis://localhost:6379/0"', '"redis://127.0.0.1:1/0"'),
        ('"redis://localhost"', '"redis://127.0.0.1:1"'),
        ('"redis://localhost:6380/0"', '"redis://localhost:6380/0"'),
        ('"redis://nowhere.invalid:6379"', '"redis://nowhere.invalid:6379"'),
    ],
)
def test_only_the_local_redis_is_exchanged(text: str, want: str) -> None:
    assert LOCAL_REDIS.sub("redis://127.0.0.1:1", text) == want


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("make demo", []),
        ("make ARGS=-x test", []),
        ("make dmo", ["no target dmo"]),
        ("pip install 'tiercache[flask]'", []),
        ("python -m pip install 'tiercache[flask,nonesuch]'", ["no extra nonesuch"]),
        ("pip install -e '.[dev, servers]'", []),
        ("python -m nonesuch.app", ["no module nonesuch.app"]),
    ],
)
def test_a_command_is_checked_by_what_it_names(line: str, wrong: list[str]) -> None:
    assert [complaints(words) for words in commands(Block("bash", line, 1))] == [wrong]


def test_output_in_a_console_block_is_no_command() -> None:
    assert commands(Block("console", "$ make demo  # ends by itself\nmake nonsense\n", 1)) == [["make", "demo"]]
