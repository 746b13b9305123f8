"""The subjects behind real servers, under wrk: each with one worker on one core, and wrk on the other.

All subjects of one server run at once and are asked in turns of a second or so, back and forth, so that each ratio is
taken within a round.
"""

from __future__ import annotations

import functools
import http.client
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks.drive import FIELDS
from benchmarks.peers.fronts import FRONTS, Front
from benchmarks.peers.served import VARIABLE
from benchmarks.peers.servers import SERVERS, Cores, Server, pinned
from benchmarks.peers.standings import Standing, Standings
from benchmarks.peers.subjects import ASGI, PATH, WSGI, NotMeasured, Subject, judge_answers, settle
from benchmarks.peers.wrk import Turn, Wrk
from examples.demo.processes import Processes, Worker

STARTUP = 60.0
"""Seconds that a server may take to answer; several start at once, on one core."""
SERVED = [one for one in (*ASGI, *WSGI) if one.kind != "plain" or one.make in ("starlette", "flask")]
"""One plain route of each kind is enough here: in process there are all."""
BEHIND = "starlette"
"""The app that the caches in front have behind them."""


@dataclass(slots=True)
class Running:
    """A subject that answers on a port."""

    subject: Subject
    worker: Worker
    version: str = ""
    turns: list[Turn] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds of the processor for each answer, by turns."""
    failed: str = ""
    """Why it is asked no longer."""

    def turn(self, wrk: Wrk, seconds: int, core: int | None) -> None:
        if self.failed:
            return
        try:
            before = self._spent()
            turn = wrk.turn(self.worker.port, PATH, seconds, core)
            after = self._spent()
        except (ValueError, psutil.Error, subprocess.SubprocessError):
            self.failed = f"ended under load: {self.worker.said().splitlines()[-1]}"
            return
        if not turn.answers:
            self.failed = f"answered nothing in a turn; wrk: {turn.errors}"
            return
        self.turns.append(turn)
        self.cpu.append((after - before) * 1e6 / turn.answers)

    def judge(self) -> None:
        """See that it still does what it is there for."""
        try:
            judge_answers(self.subject, functools.partial(_ask, self.worker))
        except (NotMeasured, OSError) as error:
            self.failed = self.failed or str(error)

    def _spent(self) -> float:
        """Seconds of the processor that the server has taken, all of its processes together."""
        server = psutil.Process(self.worker.process.pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))

    def standing(self) -> Standing:
        version = self.version or self.subject.version
        if self.failed:
            return Standing(self.subject, note=self.failed, version=version)
        errors = "; ".join(dict.fromkeys(turn.errors for turn in self.turns if turn.errors))
        return Standing(
            self.subject,
            [turn.rate for turn in self.turns],
            f"wrk: {errors}" if errors else self.subject.remark,
            version,
            statistics.median(self.cpu),
            statistics.median(turn.p50 for turn in self.turns),
            statistics.median(turn.p99 for turn in self.turns),
        )


def standings(
    *, rounds: int, seconds: int, servers: Sequence[Server] = SERVERS, subjects: Sequence[Subject] = SERVED
) -> Iterator[Standings]:
    """How many requests a second each subject answers behind each server.

    Raises:
        FileNotFoundError: there is no wrk.
    """
    wrk = Wrk()
    cores = Cores.of_this_machine()
    for server in servers:
        found = Standings(server.name, "requests/s")
        print(f"wrk {wrk.version}: {server.name} ...", file=sys.stderr, flush=True)
        with Processes() as processes:
            running = _start(processes, server, [one for one in subjects if one.face == server.face], cores, found)
            if server is SERVERS[0]:
                running += _start_fronts(processes, running, cores, found)
            for number in range(rounds):
                # Back and forth, so that nobody always follows the same one.
                for one in running if number % 2 == 0 else reversed(running):
                    one.turn(wrk, seconds, cores.client)
            for one in running:
                one.judge()
        found.lines += [one.standing() for one in running]
        yield found


def _start(
    processes: Processes, server: Server, subjects: Sequence[Subject], cores: Cores, found: Standings
) -> list[Running]:
    started = []
    for subject in subjects:
        command = functools.partial(_command, server, cores)
        started.append(Running(subject, processes.worker(subject.slug, command, {VARIABLE: subject.slug})))
    return [one for one in started if _answers(one, found)]


def _command(server: Server, cores: Cores, port: int) -> list[str]:
    return pinned(cores.server, server.command(port))


def _start_fronts(
    processes: Processes, running: Sequence[Running], cores: Cores, found: Standings
) -> list[Running]:
    behind = next((one for one in running if one.subject.make == BEHIND), None)
    started = []
    for front in FRONTS if behind is not None else ():
        try:
            assert behind is not None
            started.append(_start_front(processes, front, behind.worker.port, cores))
        except (OSError, NotMeasured) as error:
            found.lines.append(Standing(front.subject, note=str(error)))
    return [one for one in started if _answers(one, found)]


def _start_front(processes: Processes, front: Front, app: int, cores: Cores) -> Running:
    program = front.program()
    folder = processes.directory / front.subject.make
    folder.mkdir()

    def command(port: int) -> list[str]:
        return pinned(cores.server, front.command(program.path, port, app, folder))

    return Running(
        front.subject, processes.worker(front.subject.slug, command, program.environment), front.version()
    )


def _answers(one: Running, found: Standings) -> bool:
    """Whether it has come up and does what it is there for; else a line with the reason."""
    try:
        _wait(one.worker)
        settle(one.subject, functools.partial(_ask, one.worker))
    except NotMeasured as error:
        found.lines.append(Standing(one.subject, note=str(error), version=one.subject.version))
        return False
    return True


def _wait(worker: Worker) -> None:
    end = time.monotonic() + STARTUP
    while True:
        try:
            _ask(worker)
            return
        except OSError:
            if worker.process.poll() is not None or time.monotonic() > end:
                raise NotMeasured(f"does not start: {worker.said().splitlines()[-1]}") from None
            time.sleep(0.05)


def _ask(worker: Worker) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=10)
    try:
        connection.request("GET", PATH, headers={name.decode(): value.decode() for name, value in FIELDS[1:]})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise NotMeasured(f"does not answer: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NotMeasured(f"answers {answer.status}: {worker.said().splitlines()[-1]}")
    return body
