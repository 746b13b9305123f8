"""Tables of who stands where, and what tiercache has to keep beside the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.figures import Figure
from benchmarks.peers.standings import Standing, Standings
from benchmarks.peers.subjects import AT_ONCE
from benchmarks.tables import columns, markdown

OF_BARE = {"uvicorn": 0.9, "granian, ASGI": 0.9, "granian, WSGI": 0.85}
"""The least part of a bare app's requests a second that a hit has to reach, server -> part."""
IN_PROCESS = "ASGI, hit in memory"
TOGETHER = f"Async function, hit in Redis, {AT_ONCE} under way"
OF_PEER = {IN_PROCESS: 10, TOGETHER: 1.5}
"""How many times as long as ours the best Python peer's hit has to take, run -> times."""


def header(found: Standings) -> tuple[str, ...]:
    if found.unit == "µs":
        return (found.title, "version", "µs", "times bare", "times tiercache", "")
    return (found.title, "version", "requests/s", "of bare", "of tiercache", "CPU µs", "p50 ms", "p99 ms", "")


def rows(found: Standings) -> Iterator[tuple[str, ...]]:
    bare, ours = found.first("bare"), found.first("tiercache")
    for line in found.ordered():
        if not line.samples:
            yield (line.subject.name, line.version, *[""] * (len(header(found)) - 3), line.note)
            continue
        ratios = ["" if base is None else f"{line.ratio(base):.2f}" for base in (bare, ours)]
        waits = [] if found.unit == "µs" else _waits(line)
        yield (line.subject.name, line.version, f"{line.median:,.{found.digits}f}", *ratios, *waits, line.note)


def _waits(line: Standing) -> list[str]:
    cpu = "" if line.cpu is None else f"{line.cpu:.0f}"
    return [cpu, *("" if wait is None else f"{wait / 1000:.1f}" for wait in (line.p50, line.p99))]


def text(found: Standings) -> str:
    lines = list(rows(found))
    return columns(header(found), lines, range(2, len(header(found)) - 1)) + "\n"


def page(runs: Iterable[Standings]) -> str:
    return "\n\n".join(markdown(header(one), list(rows(one)), range(2, len(header(one)) - 1)) for one in runs)


def marks(runs: Sequence[Standings]) -> Iterator[Figure]:
    """What a hit has to keep beside the bare app and the best of the Python peers."""
    for found in runs:
        ours, bare, best = found.first("tiercache"), found.first("bare"), found.best_peer()
        if ours is None:
            continue
        if found.unit == "µs":
            yield from _in_process(found.title, ours, bare, best)
        else:
            yield from _under_wrk(found.title, ours, bare, found.first("alike"), best)


def _in_process(title: str, ours: Standing, bare: Standing | None, best: Standing | None) -> Iterator[Figure]:
    if bare is not None:
        most = 5 if title == IN_PROCESS else None
        yield Figure(title, "a hit, beside the bare app", ours.ratio(bare), "times", at_most=most)
    if best is not None:
        what = "the best Python peer's hit, beside ours"
        yield Figure(title, what, best.ratio(ours), "times", _named(best), at_least=OF_PEER.get(title))


def _under_wrk(
    title: str, ours: Standing, bare: Standing | None, alike: Standing | None, best: Standing | None
) -> Iterator[Figure]:
    for app, which in ((bare, "the bare app's"), (alike, "those of one that sends the fields of a hit")):
        if app is not None:
            yield Figure(title, f"requests a second, of {which}", ours.ratio(app), at_least=OF_BARE.get(title))
            yield from _by_cpu("by the processor's time for each", title, app, ours)
    if best is not None:
        what = "requests a second, of the best Python peer's"
        least = 1.5 if title in OF_BARE else None
        yield Figure(title, what, ours.ratio(best), "times", _named(best), at_least=least)
        yield from _by_cpu("by the processor's time for each", title, best, ours)


def _by_cpu(what: str, title: str, other: Standing, ours: Standing) -> Iterator[Figure]:
    """What the rates would be to each other on a machine that nobody else uses. For information."""
    if other.cpu and ours.cpu:
        yield Figure(title, what, other.cpu / ours.cpu, "", f"{ours.cpu:.0f} µs; {other.cpu:.0f} µs")


def _named(peer: Standing) -> str:
    return f"{peer.subject.name} {peer.version}".rstrip()
