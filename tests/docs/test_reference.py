"""The reference says what the code does: generated pages are up to date, written ones complete, and links lead on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiercache
from tests.docs.test_code_blocks import PAGES, ROOT, name_of
from tiercache import PurgeReceipt, TierCache, TierCacheError
from tiercache.config import Settings
from tiercache.core.credentials import CREDENTIAL_HEADERS, IGNORED_COOKIES
from tiercache.core.decisions import REASONS
from tiercache.core.policy import Policy
from tiercache.engine.purging import PurgeSettings
from tiercache.engine.troubles import LOGGERS, TROUBLES
from tiercache.tiers import redis_errors
from tools import reference

DOCS = ROOT / "docs"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SWALLOWED = re.compile(r"\.(?:swallow|settle)\(\s*\"([^\"]+)\"")


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def quoted(page: str) -> set[str]:
    return set(CODE.findall(text(page)))


def section(page: str, heading: str) -> str:
    """The part of a page under the first heading that names `heading`, up to the next of the same rank or higher."""
    found = re.search(rf"^(#+) [^\n]*{re.escape(heading)}\b[^\n]*\n", text(page), re.MULTILINE)
    assert found is not None, f"{page} has no heading for {heading}"
    rest = text(page)[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def subclasses(of: type) -> Iterator[type]:
    for one in of.__subclasses__():
        yield one
        yield from subclasses(one)


@pytest.mark.parametrize("name", reference.pages())
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert name not in reference.stale(reference.FOLDER), "run: make reference"


def test_a_page_that_is_not_up_to_date_is_noticed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reference"
    assert reference.main(["--check"], folder) == 1
    assert reference.main([], folder) == 0
    assert reference.main(["--check"], folder) == 0
    (folder / "policy.md").write_text("something else", encoding="utf-8")
    capsys.readouterr()
    assert reference.main(["--check"], folder) == 1
    assert capsys.readouterr().out == "docs/reference/policy.md is not up to date: make reference\n"
    assert reference.main([], folder) == 0
    assert reference.stale(folder) == []


def test_the_generated_pages_have_a_row_for_everything() -> None:
    for page, names in (
        ("reference/settings.md", [row.name for row in Settings.settings()]),
        ("reference/policy.md", [row.name for row in Policy.settings()]),
        ("reference/cache-status.md", REASONS),
    ):
        rows = re.findall(r"^\| `([^`]+)` \|", text(page), re.MULTILINE)
        assert set(names) <= set(rows), page
    assert set(CREDENTIAL_HEADERS) | set(IGNORED_COOKIES) <= quoted("reference/settings.md")


def test_a_row_has_as_many_cells_as_its_table() -> None:
    for name, page in reference.pages().items():
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, f"{name}: {table[:80]}"


def test_every_public_name_is_in_the_api() -> None:
    said = text("reference/api.md")
    assert [name for name in tiercache.__all__ if not re.search(rf"`?\b{name}\b", said)] == []


@pytest.mark.parametrize(
    "name", [name for name, _ in inspect.getmembers(TierCache, inspect.isfunction) if not name.startswith("_")]
)
def test_every_method_is_in_the_api_with_its_parameters(name: str) -> None:
    said = section("reference/api.md", f"TierCache.{name}")
    signature = inspect.signature(getattr(TierCache, name))
    # What stands by position where nothing may, is there to be refused.
    taken = [one for one in signature.parameters.values() if one.kind != one.VAR_POSITIONAL]
    parameters = [one.name for one in taken if one.name != "self"]
    assert f"{name}(" in said
    assert [one for one in parameters if not re.search(rf"\b{one}\b", said)] == []


def test_every_argument_of_a_purge_has_a_row() -> None:
    said = section("reference/api.md", "TierCache.purge")
    assert [one for one in PurgeSettings.__annotations__ if f"| `{one}` |" not in said] == []


def test_every_field_of_a_receipt_is_in_the_api() -> None:
    said = section("reference/api.md", "PurgeReceipt")
    assert [field for field in PurgeReceipt._fields if f"| `{field}` |" not in said] == []


def test_every_error_is_in_its_page() -> None:
    said = quoted("reference/errors.md")
    tree = text("reference/errors.md").partition("```text")[2].partition("```")[0]
    errors = {TierCacheError, *subclasses(TierCacheError)}
    assert [one.__name__ for one in errors if one.__name__ not in tree] == []
    assert [one.__name__ for one in errors - {TierCacheError, tiercache.TierError} if one.__name__ not in said] == []


def test_every_counter_is_in_its_page_and_no_other() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", text("reference/metrics.md"), re.MULTILINE)
    assert rows == list(TierCache().stats())


def test_every_kind_of_log_line_is_explained_and_no_other() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tiercache").rglob("*.py")]
    kinds = {kind for source in sources for kind in SWALLOWED.findall(source)}
    assert kinds == set(TROUBLES)


def test_every_logger_is_one_of_those_in_the_reference() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tiercache").rglob("*.py")]
    named = {name for source in sources for name in re.findall(r'getLogger\("([^"]+)"\)', source)}
    assert named <= set(LOGGERS)
    assert {trouble.logger for trouble in TROUBLES.values()} <= set(LOGGERS)


def test_the_permissions_are_those_that_the_error_names() -> None:
    rules = re.findall(r"^ACL SETUSER tiercache reset resetchannels on >PASSWORD (.*)$", text("how-to/redis.md"), re.M)
    assert rules == list(redis_errors.PERMISSIONS.values())


def test_the_pages_name_only_details_that_there_are() -> None:
    named = {detail for page in PAGES for detail in re.findall(r"detail=([a-z0-9-]+)", page.read_text("utf-8"))}
    engine = "".join(path.read_text("utf-8") for path in (ROOT / "tiercache" / "engine").glob("*.py"))
    others = named - set(REASONS)
    assert others > {"l1", "l2", "validated"}
    assert [detail for detail in others if not re.search(rf"[\"=]{detail}\"", engine)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            if anchor not in slugs:
                broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    pending = list(reached)
    while pending:
        page = pending.pop()
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                pending.append(target)
    assert [name_of(page) for page in PAGES if page not in reached] == []
