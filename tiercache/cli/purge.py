"""`tiercache purge`: invalidate from a shell, a cron job or a deployment, in every process of the namespace."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Final

from tiercache.cache import TierCache
from tiercache.cli.exits import FINE, FOUND, Unreadable
from tiercache.cli.targets import any_cache
from tiercache.core.kinds import DURATION
from tiercache.engine.purging import PurgeReceipt
from tiercache.errors import ConfigError, PurgeUnconfirmed

NAME: Final = "purge"
HELP: Final = "invalidate in every process of the namespace, and wait until Redis has confirmed it"
_EXITS: Final = """\
exit codes:
  0  Redis has confirmed it
  1  Redis did not confirm it within --patience: purge again
  2  it cannot be purged: nothing is named, no such file, module, rule or event, or no Redis that others hear of it by
"""
_PAUSE: Final = 0.5
"""Seconds between two attempts."""
_NAMED: Final = (
    ("tags", "--tag", "TAG", "what carries this tag"),
    ("urls", "--url", "URL", "a path, with any query on every host; or a full URL, as it is"),
    ("route", "--route", "TEMPLATE", "what was stored under this rule, which CONFIG has to have"),
    ("prefix", "--prefix", "PATH", "what lies below paths that begin so"),
    ("glob", "--glob", "PATTERN", "paths by pattern: * within a segment, ** any run, ? one character"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.epilog = _EXITS
    parser.add_argument(
        "target",
        nargs="?",
        metavar="CONFIG",
        help="a TOML file, or module:attribute of a TierCache in code, which is imported; without it, TIERCACHE_URL, "
        "TIERCACHE_NAMESPACE and what TIERCACHE_CONFIG names",
    )
    for setting, option, metavar, meaning in _NAMED:
        parser.add_argument(
            option,
            action="append",
            default=[],
            dest=setting,
            metavar=metavar,
            help=f"{meaning}; may be given several times",
        )
    parser.add_argument("--everything", action="store_true", help="the whole namespace")
    parser.add_argument("--event", metavar="NAME", help="what `on` or [[events]] say of this event, alone")
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="arguments",
        type=_argument,
        metavar="NAME=VALUE",
        help="an argument of the event; may be given several times",
    )
    parser.add_argument("--soft", action="store_true", help="count it as stale in place of dead")
    parser.add_argument("--wait", action="store_true", help="end only when every process has applied it")
    parser.add_argument(
        "--patience", default="10s", metavar="TIME", help="how long to go on trying while Redis is away (default: 10s)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="where to import from (for code; default: .)")
    parser.add_argument("--factory", action="store_true", help="call the attribute first (for code)")


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def run(options: argparse.Namespace) -> int:
    """Purge, and tell by the exit code whether others have heard of it."""
    asked: dict[str, Any] = {setting: getattr(options, setting) for setting, *_ in _NAMED if getattr(options, setting)}
    asked |= {flag: True for flag in ("everything", "soft", "wait") if getattr(options, flag)}
    if options.event is not None and asked:
        raise Unreadable("--event NAME takes --with NAME=VALUE alone: what it purges is said by `on` and [[events]]")
    if options.event is None and not asked.keys() - {"soft", "wait"}:
        names = ", ".join(option for _, option, *_ in _NAMED)
        raise Unreadable(f"nothing is named: give {names}, --event or --everything")
    if options.arguments and options.event is None:
        raise Unreadable("--with is for --event NAME")
    cache: TierCache | None = None
    try:
        patience = DURATION.from_text("--patience", options.patience)
        cache = any_cache(options.target, options.app_dir, factory=options.factory)
        if cache.settings.url is None:
            raise Unreadable("no url is set, so that no other process would hear of it: give CONFIG, or TIERCACHE_URL")
        own = cache._engine.process_id
        receipt = _confirmed(cache, options, asked, time.monotonic() + patience)
    except PurgeUnconfirmed as error:
        print(f"tiercache purge: not confirmed: {error.__cause__ or error}", file=sys.stderr)
        return FOUND
    except (ConfigError, ValueError) as error:
        raise Unreadable(str(error)) from error
    finally:
        if cache is not None:
            cache.close()
    if not receipt.shared:
        raise Unreadable("it reaches no other process: Memcached without a ledger; give ledger, the URL of a Redis")
    _print(receipt, own, options)
    return FINE


def _confirmed(cache: TierCache, options: argparse.Namespace, asked: Any, until: float) -> PurgeReceipt:
    """The receipt of the first attempt that Redis confirms; several do no harm."""
    while True:
        try:
            if options.event is not None:
                return cache.emit(options.event, **dict(options.arguments))
            return cache.purge(**asked)
        except PurgeUnconfirmed:
            left = until - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(_PAUSE, left))


def _print(receipt: PurgeReceipt, own: str, options: argparse.Namespace) -> None:
    if options.format == "json":
        print(json.dumps(receipt._asdict(), indent=2))
        return
    print(f"purged {'everything' if receipt.everything else ' '.join(receipt.members) or 'nothing'}")
    if options.wait:
        others = {*receipt.acknowledged} - {own}
        print(f"applied in {len(others)} other {'process' if len(others) == 1 else 'processes'}", end="")
        print(f", not confirmed by {len(receipt.isolated)}" if receipt.isolated else "")
