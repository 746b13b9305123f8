from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tiercache.engine.effects import Wait, adrive, drive
from tiercache.engine.flights import LATE, RELEASED, RETRY, Flights

FAR = 30.0
"""Seconds: a guard, never waited for."""


def test_the_first_leads_and_the_others_follow() -> None:
    flights = Flights()
    flight, leads = flights.join("k")
    assert leads
    again, second = flights.join("k")
    assert (again is flight, second, flight.followers) == (True, False, 1)
    assert flights.join("other")[1]
    again.leave()
    assert flight.followers == 0


def test_only_the_first_outcome_counts_and_newcomers_lead_anew() -> None:
    flights = Flights()
    flight, _ = flights.join("k")
    flight.finish("one")
    flight.finish(RELEASED)
    assert flight.outcome == "one"
    assert flights.join("k") != (flight, False)
    assert len(flights) == 1


def test_a_late_end_does_not_take_another_flight_away() -> None:
    flights = Flights()
    old, _ = flights.join("k")
    old.finish(RETRY)
    new, leads = flights.join("k")
    old.finish("again")
    assert leads
    assert flights.join("k") == (new, False)


def test_who_subscribes_is_woken_once() -> None:
    flight, _ = Flights().join("k")
    woken: list[str] = []
    assert flight.subscribe(lambda: woken.append("a"))
    gone = lambda: woken.append("b")  # noqa: E731
    assert flight.subscribe(gone)
    flight.unsubscribe(gone)
    flight.finish(1)
    flight.finish(2)
    assert woken == ["a"]
    assert not flight.subscribe(lambda: woken.append("late"))


def waiting(flight: object, seconds: float):  # type: ignore[no-untyped-def]
    return (yield Wait(flight, time.monotonic() + seconds))  # type: ignore[arg-type]


def test_threads_and_tasks_wait_for_one_flight() -> None:
    flight, _ = Flights().join("k")
    outcomes: list[object] = []
    lock = threading.Lock()
    ready = threading.Barrier(9)

    def thread() -> None:
        ready.wait(FAR)
        outcome = drive(waiting(flight, FAR))
        with lock:
            outcomes.append(outcome)

    def loop() -> None:
        async def several() -> None:
            tasks = [asyncio.ensure_future(adrive(waiting(flight, FAR))) for _ in range(8)]
            await asyncio.sleep(0)
            ready.wait(FAR)
            found = await asyncio.gather(*tasks)
            with lock:
                outcomes.extend(found)

        asyncio.run(several())

    threads = [threading.Thread(target=thread) for _ in range(6)] + [threading.Thread(target=loop) for _ in range(2)]
    for each in threads:
        each.start()
    ready.wait(FAR)
    flight.finish("landed")
    for each in threads:
        each.join(FAR)
    assert outcomes == ["landed"] * 22


@pytest.mark.parametrize("after", [0.0, -1.0])
async def test_patience_runs_out(after: float) -> None:
    flight, _ = Flights().join("k")
    assert drive(waiting(flight, after)) is LATE
    assert await adrive(waiting(flight, after)) is LATE
    flight.finish(RELEASED)
    assert await adrive(waiting(flight, after)) is RELEASED


def test_a_loop_that_is_closed_before_the_flight_ends_holds_nobody_up() -> None:
    flight, _ = Flights().join("k")
    loop = asyncio.new_event_loop()
    task = loop.create_task(adrive(waiting(flight, FAR)))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    woken = threading.Event()
    assert flight.subscribe(woken.set)
    flight.finish("landed")
    assert woken.is_set()
