"""`tiercache queue`: how far the database is behind, and what to do with the writes that it did not take."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from tiercache.cli.exits import FINE, FOUND, Unreadable
from tiercache.cli.targets import cache_in
from tiercache.core.queued_values import key_from
from tiercache.core.write_queue import Letter, Place
from tiercache.errors import CodecError, ConfigError, TierError
from tiercache.write_behind import WriteBehind

NAME: Final = "queue"
HELP: Final = "print how far the database of write-behind stores is behind, and what it did not take"
_EXITS: Final = """\
exit codes:
  0  done
  1  there are writes that the database did not take, or some could not be replayed
  2  it cannot be looked at: no such module or store, or Redis does not answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.epilog = _EXITS
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", help="a TierCache in code, or an app with one; imported")
    parser.add_argument("store", nargs="?", metavar="STORE", help="its name; without, all stores")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--letters", action="store_true", help="list the writes that the database did not take")
    what.add_argument("--replay", metavar="ID", help="queue one of them once more, or `all`")
    what.add_argument("--drop", metavar="ID", help="throw one of them away, or `all`")
    what.add_argument(
        "--forget-partitions",
        action="store_true",
        help="let an empty queue be begun anew with another number of partitions",
    )
    parser.add_argument("--force", action="store_true", help="replay what is older than a later write of its key, too")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="where to import from (default: .)")
    parser.add_argument("--factory", action="store_true", help="call the attribute first")


def run(options: argparse.Namespace) -> int:
    """Look, or do what is asked, and tell by the exit code."""
    try:
        cache = cache_in(options.target, options.app_dir, factory=options.factory)
        names = [options.store] if options.store else cache.write_behind_stores()
        stores = [cache.write_behind_store(name) for name in names]
        if not stores:
            raise Unreadable(f"{options.target} has no write-behind store")
        if options.replay or options.drop:
            return _act(stores, options)
        if options.forget_partitions:
            return _forget(stores)
        return _print(stores, options)
    except (ConfigError, TierError) as error:
        raise Unreadable(str(error)) from error


def _print(stores: list[WriteBehind[Any, Any]], options: argparse.Namespace) -> int:
    letters = {store.name: store.letters() for store in stores}
    if options.format == "json":
        states = {
            store.name: {
                **store.state()._asdict(),
                "letters": [_as_dict(place, letter) for place, letter in letters[store.name]],
            }
            for store in stores
        }
        print(json.dumps(states, indent=2))
    else:
        for store in stores:
            state = store.state()
            behind = f", the oldest for {time.time() - state.oldest:.1f} s" if state.oldest is not None else ""
            print(
                f"{store.name}: {state.jobs} writes of {state.pending} keys wait{behind}; "
                f"{state.letters} were not taken"
            )
            if options.letters:
                for line in _lines(letters[store.name]):
                    print(line)
    return FOUND if any(letters.values()) else FINE


def _lines(letters: list[tuple[Place, Letter]]) -> Iterator[str]:
    for _, letter in letters:
        at = datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        old = "  (its key has been written since)" if letter.superseded else ""
        yield f"  {_id(letter)}  {at}  {_key(letter)!r}  {letter.attempts} attempts{old}"
        yield f"    {letter.error if letter.error.isprintable() else repr(letter.error)}"


def _as_dict(place: Place, letter: Letter) -> dict[str, Any]:
    return {
        "id": _id(letter),
        "partition": place.partition,
        "key": repr(_key(letter)),
        "at": letter.at,
        "attempts": letter.attempts,
        "superseded": letter.superseded,
        "error": letter.error,
    }


def _id(letter: Letter) -> str:
    return f"{letter.receipt.history}:{letter.receipt.number}"


def _key(letter: Letter) -> Any:
    try:
        return key_from(letter.name)
    except CodecError:
        return letter.name


def _act(stores: list[WriteBehind[Any, Any]], options: argparse.Namespace) -> int:
    wanted, found, failed = options.replay or options.drop, False, False
    for store in stores:
        for place, letter in store.letters():
            if wanted not in ("all", _id(letter)):
                continue
            found = True
            if options.drop:
                store.drop(place, letter)
                print(f"{_id(letter)}: dropped")
                continue
            said = store.replay(place, letter, force=options.force)
            failed = failed or said in ("superseded", "full")
            print(f"{_id(letter)}: {_MEANING[said]}")
    if not found and wanted != "all":
        raise Unreadable(f"there is no {wanted!r} among the writes that were not taken")
    return FOUND if failed else FINE


_MEANING: Final = {
    "done": "queued once more",
    "full": "the queue is full: try again later",
    "gone": "somebody else has taken care of it",
    "superseded": "its key has been written since, and --force is not given",
}


def _forget(stores: list[WriteBehind[Any, Any]]) -> int:
    for store in stores:
        if not store.forget_partitions():
            print(f"{store.name}: there are writes in the queue, or letters: let the workers empty it first")
            return FOUND
        print(f"{store.name}: the next to write says how many partitions there are")
    return FINE
