"""The reference pages that are made from the tables in the code: `python -m tools.reference` writes them.

`--check` writes nothing, and ends with 1 if a page is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from tiercache.cli import COMMANDS
from tiercache.config import Settings
from tiercache.config.contradictions import CONTRADICTIONS
from tiercache.core.credentials import CREDENTIAL_HEADERS, IGNORED_COOKIES
from tiercache.core.decisions import REASONS
from tiercache.core.event_rules import EventRule
from tiercache.core.kinds import DURATION, SIZE
from tiercache.core.policy import Policy
from tiercache.core.stores import OWN, SETTINGS
from tiercache.core.validation import Setting
from tiercache.engine.events import STORE_COUNTERS
from tiercache.engine.troubles import LOGGERS, TROUBLES
from tiercache.write_behind import QUEUE

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
_MADE = "<!-- Made by `make reference` from the tables in the code. Change it there. -->"

_SETTINGS = """\
# Settings of a cache

The arguments of `TierCache`. Flask and Quart read each of them from `app.config` too, as `TIERCACHE_` and the name in
upper case, and Django from the dict `TIERCACHE` of its settings. A value that is not accepted raises `ConfigError` when
the app starts, with the name, the value and what is accepted.

`TIERCACHE_DISABLED=1` in the environment lets every request through to the app, unless `enabled` is given. `purge` and
`apurge` work on all the same: other processes may be caching what this one changes.
"""

_POLICY = """\
# Settings of a route

The arguments of `cache.route(template, ...)` and of `Policy(...)`, and, where the last column says so, of
`@cache.cached(...)` beside a view. A setting that picks the key cannot stand beside a view: a request is looked up
before the view is reached.

Where several speak, the strongest wins, setting by setting: what the view says while it runs (`tiercache.ttl`,
`tiercache.no_store`, response headers), then the rule, then the decorator. `tags` and `invalidates` are united.
"""

_STATUS = """\
# Cache-Status

Every HTTP response carries a `Cache-Status` field (RFC 9211), unless `cache_status=False`.

| value | meaning |
|---|---|
| `tiercache; hit; ttl=42; detail=l1` | from this process; fresh for another 42 s |
| `tiercache; hit; ttl=42; detail=l2` | from Redis, and now in this process too |
| `tiercache; fwd=miss; stored` | the app answered, and its response was stored |
| `tiercache; fwd=miss; collapsed; ttl=42` | another request had called the app already, and this one waited for it |
| `tiercache; fwd=miss` | the app answered without a length, and its last answer here was not stored; this one may be |
| `tiercache; fwd=miss; detail=<reason>` | the app answered, and the response was not stored, for the reason given |
| `tiercache; hit; ttl=-3; detail=l1` | it expired 3 s ago, and is served while a new one is made |
| `tiercache; fwd=stale; fwd-status=304; stored; ttl=600; detail=validated` | expired, and the app confirmed it |
| `tiercache; fwd=stale; fwd-status=500; ttl=-3; detail=stale-if-error` | expired, and served in place of an error |
| `tiercache; fwd=stale; stored` | expired, and the app made a new one |
| `tiercache; fwd=vary-miss; stored` | what is stored says nothing of origins, and the app was asked for this one |
| `tiercache; detail=only-if-cached` | 504: the client wanted an answer from the store only, and there is none |
| `tiercache; fwd=request; detail=<reason>` | it asks for a part or has a condition, and nothing stored can answer it |
| `tiercache; fwd=bypass; detail=<reason>` | the store took no part, for the reason given |
| `tiercache; fwd=method` | the method is neither GET nor HEAD |

`Age` beside a hit is the age of the stored response in whole seconds.

`stored` (RFC 9211 §2.5) leaves with the head, before the body is through. Where the response says how long it is, that
is known. Without `Content-Length` the body may still turn out larger than `max_body`, or the view may say `no_store()`
while it streams: then `stored` was said once too often, and for a minute the URL goes without it. A body of either kind
that breaks off is not stored, whatever its head said. The counters `stored` and `refused` of [`stats()`](metrics.md)
say what came of it.

## Reasons

What `detail` may say, and what the counters `bypassed` and `refused` of [`stats()`](metrics.md) count by.
"""

_LOGGING = """\
# Logging

The loggers of tiercache are those of the standard library. No handler is added to them and no level is set, so that
without any configuration Python writes their warnings to standard error, as it does for every library, and nothing
else. To have none of them: `logging.getLogger("tiercache").setLevel(logging.CRITICAL)`.

- A hit writes no line.
- Each kind of trouble is one `WARNING` a minute at most, in each process, however often it happens. The next line says
  how many were left out, and the counter `swallowed` of [`stats()`](metrics.md) has them all. When a trouble is over,
  an `INFO` line says so.
- Lines are one line each and at most 1,000 characters of what others said. The password of the URL, the
  `session_secret`, cookies, credential fields, tokens and what else looks like a secret are replaced by `***`.
"""

_CLI = """\
# Command line

`tiercache` comes with the package and needs nothing beside it; `python -m tiercache` is the same. How to use it in CI
and in an editor: [configure](../how-to/configure.md#check-it).

| exit code | of `check` |
|---|---|
| 0 | nothing is wrong; there may be warnings and notes |
| 1 | there are errors, or with `--strict` warnings; so too where the code raises `ConfigError` itself |
| 2 | it cannot be read: no such file or module, no TOML, no `TierCache` there, unknown arguments |

With `--format json` durations are seconds and sizes bytes. `format` is 1; it rises when something is taken away or
changes its meaning. `settings`, `policies`, `routes` and `events` have `value` and `source` of every
setting, `findings` have `code`, `severity`, `where`, `setting` (or null) and `message`, and `counts` the number of each
severity. Where the code raises `ConfigError`, there are `findings` and `counts` alone.

A `module:attribute` is imported, so that the code of the module runs. No connection to Redis is made.
"""

_CODES = """\
## Codes

An error keeps the app from starting, or a rule from storing anything. A warning is about what does nothing, or not
what it says. A note may well be meant.
"""

_DATA = """\
# Data

`cache.aside`, `cache.read_through`, `cache.write_through` and `cache.write_behind` make stores of values by key, and
`@cache.memoize` one around a function. [How to](../how-to/cache-data.md), and
[why it can be relied on](../explanation/data.md).

| method | of | |
|---|---|---|
| `get(key, default=None)` | aside | what the tiers have and is fresh, else `default` |
| `get_or_load(key, load)` | aside | what the tiers have, else what `load(key)` gives |
| `get_many(keys)` | aside | a dict of those that the tiers have |
| `set(key, value, *, ttl=None, tags=())` | aside | puts the value in place of what any process has |
| `get(key)` | read-through, write-through | what the tiers have, else what `load(key)` gives |
| `get_many(keys)` | read-through, write-through | a dict of all, in order; raises the first error of a key |
| `set(key, value, *, ttl=None, tags=())` | write-through | `write(key, value)`, then the ledger and the tiers |
| `get(key)`, `get_many(keys)` | write-behind | as read-through; what is queued is newer than the database |
| `set(key, value, *, ttl=None, tags=())` | write-behind | queues the write, then the ledger and the tiers |
| `set_many(values)` | write-behind | queues a mapping of values at once; if it raises, some may be queued |
| `add(key, number=1)` | write-behind | adds to a whole number, queues the sum and returns it |
| `state()`, `letters()`, `replay(...)`, `drop(...)` | write-behind | how far the database is, what it refused |
| `delete(key)` | all | invalidates the key; write-through calls `remove(key)` first, write-behind queues the removal |
| `invalidate(key)` | all | invalidates the key, and no more |
| `clear()` | all | invalidates every value of the store |

Each has an async form: `aget`, `aget_or_load`, `aget_many`, `aset`, `adelete`, `ainvalidate`,
`aclear`. A sync method calls sync
loaders, and an async one awaits async loaders; a store may be given both (`load=` and `aload=`), and then serves
threads and tasks. On a running event loop a sync method answers what L1 has, and raises `DataError` for all else.

`@cache.memoize(template)` gives the function back as it was, with `key(...)`, `invalidate(...)`, `ainvalidate(...)`,
`clear()` and `aclear()` beside it.

## Keys

A key is a `str`, `int`, `bytes`, `bool`, `UUID`, `None`, `Decimal`, `float`, date, time or member of an `Enum`, or a
tuple of these. What differs in kind is another key: `1`, `"1"` and `True` are three. Anything else raises
`ConfigError`. The whole key holds the `app` and `version` of the cache, the name and `version` of the store, and the
type of its values with their fields: a value of another type or version is a miss.

## Settings

Those of [a route](policy.md) that are not about HTTP, with the same meaning, and a few of their own. `ttl` is needed.
"""

_DATA_MORE = (
    ("type", "Any", "the type of the values: whatever msgspec reads; by default what the loader is annotated to "
     "return. Without a type, values are what JSON knows, and bytes"),
    ("tags", "()", "templates with `{key}` (of `memoize`: with the fields of its template), or a function of the "
     "key, or of key and value"),
    ("invalidates", "()", "templates of tags that are purged with each `set` and `delete`"),
    ("codec", "None", "an object with `name`, `encode(value)` and `decode(data)`, in place of msgspec"),
    ("version", '""', "part of every key: another one where the same type means something else"),
    ("uncertain", "()", "exceptions of `write` and `remove` after which the database may have changed all the same, "
     "beside `TimeoutError` and `ConnectionError`"),
)  # fmt: skip

_QUEUE = """\
## The queue of write-behind

What `cache.write_behind` takes beside these. [How to](../how-to/write-behind.md).
"""

_COUNTERS = """\
## Counters

`cache.stats()["data"]` holds these, by store.
"""

_CREDENTIALS = """\
## Fields that are credentials

A request that has one of them is personal. `credential_headers` adds to the list. Nothing takes from it, but a rule
whose `headers` names a field puts it into the key instead.
"""

_COOKIES = """\
## Cookies that are no credential

`*` at the end stands for any rest. `ignore_cookies` adds to the list.
"""

_EVENTS = """\
## Settings of an event

The arguments of `cache.on(event, ...)` beside its name, and what a table `[[events]]` of a configuration file may hold
beside `event`: [events](../how-to/invalidate.md#say-what-happened-not-what-to-purge).
"""

_UNITS = f"""\
## Durations and sizes

A duration is {DURATION.accepted}. A size is {SIZE.accepted}.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _accepted(setting: Setting) -> str:
    words = setting.kind.accepted
    return words.replace(DURATION.accepted, "a duration").replace(SIZE.accepted, "a size")


def _shown(default: object) -> str:
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{list(default)!r}`" if isinstance(default, tuple) else f"`{default!r}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(setting: Setting) -> list[str]:
    return [f"`{setting.name}`", _shown(setting.default), setting.doc, _accepted(setting)]


def settings_page() -> str:
    head = ("setting", "default", "meaning", "accepted")
    table, events = (_table(head, map(_row, rows)) for rows in (Settings.settings(), EventRule.settings()))
    return (
        f"{_MADE}\n\n{_SETTINGS}\n{table}\n{_UNITS}\n{_EVENTS}\n{events}\n"
        f"{_CREDENTIALS}\n{_names(CREDENTIAL_HEADERS)}\n{_COOKIES}\n{_names(IGNORED_COOKIES)}"
    )


def _names(names: Iterable[str]) -> str:
    lines, line = [], ""
    for word in (f"`{name}`" for name in names):
        if line and len(line) + len(word) > 110:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{word}"
    return "".join(f"{line}\n" for line in [*lines, line])


def policy_page() -> str:
    rows = [[*_row(setting), "" if setting.early else "yes"] for setting in Policy.settings()]
    table = _table(("setting", "default", "meaning", "accepted", "beside a view"), rows)
    return f"{_MADE}\n\n{_POLICY}\n{table}\n{_UNITS}"


def status_page() -> str:
    rows = ([f"`{reason}`", meaning] for reason, meaning in REASONS.items())
    return f"{_MADE}\n\n{_STATUS}\n{_table(('reason', 'meaning'), rows)}"


def logging_page() -> str:
    loggers = _table(("logger", "about"), ([f"`{name}`", about] for name, about in LOGGERS.items()))
    rows = ([f"`{kind}`", f"`{one.logger}`", one.meaning] for kind, one in TROUBLES.items())
    troubles = _table(("line begins with", "logger", "it means"), rows)
    return f"{_MADE}\n\n{_LOGGING}\n{loggers}\n## Kinds of trouble\n\n{troubles}"


def cli_page() -> str:
    parts = [f"{_MADE}\n\n{_CLI}"]
    for command in COMMANDS:
        parser = argparse.ArgumentParser(
            prog=f"tiercache {command.NAME}",
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            # The same on every terminal and in every version of Python.
            formatter_class=_Help,
        )
        command.add_arguments(parser)
        parser.usage = _usage(parser)
        parts.append(f"## tiercache {command.NAME}\n\n```text\n{parser.format_help()}```\n")
    rows = ([f"`{code}`", one.severity, one.meaning] for code, one in CONTRADICTIONS.items())
    parts.append(f"{_CODES}\n{_table(('code', 'severity', 'found'), rows)}")
    return "\n".join(parts)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=100)


def _usage(parser: argparse.ArgumentParser) -> str:
    return f"{parser.prog} [options]" + "".join(
        f" [{action.metavar}]" for action in parser._actions if not action.option_strings
    )
def data_page() -> str:
    rows = [row for row in Policy.settings() if row.name in SETTINGS and row.name not in ("tags", "invalidates")]
    table = _table(("setting", "default", "meaning", "accepted"), map(_row, [*rows, *OWN.values()]))
    queue = _table(("setting", "default", "meaning", "accepted"), map(_row, QUEUE.values()))
    counters = _table(("counter", "counts"), ([f"`{name}`", what] for name, what in STORE_COUNTERS.items()))
    extra = ([f"`{name}`", f"`{default}`", meaning] for name, default, meaning in _DATA_MORE)
    more = _table(("setting", "default", "meaning"), extra)
    return f"{_MADE}\n\n{_DATA}\n{table}\n{more}\n{_QUEUE}\n{queue}\n{_COUNTERS}\n{counters}\n{_UNITS}"


def pages() -> dict[str, str]:
    """The generated pages by the name of their file in `docs/reference/`."""
    return {
        "settings.md": settings_page(),
        "policy.md": policy_page(),
        "cache-status.md": status_page(),
        "logging.md": logging_page(),
        "cli.md": cli_page(),
        "data.md": data_page(),
    }


def stale(folder: Path) -> list[str]:
    """The names of the pages in `folder` that are missing, or not what they would be made now."""
    return [
        name
        for name, page in pages().items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != page
    ]


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write what is not up to date; with `--check`, only say so. Returns the exit code."""
    outdated = stale(folder)
    if "--check" in arguments:
        for name in outdated:
            print(f"docs/reference/{name} is not up to date: make reference")
        return 1 if outdated else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in outdated:
        (folder / name).write_text(pages()[name], encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
