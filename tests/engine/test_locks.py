"""A lock that a fork finds held."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tiercache.engine.locks import ForkableLock

GUARD = 30.0


def test_one_at_a_time() -> None:
    lock, inside = ForkableLock(), []

    def enter() -> None:
        with lock:
            inside.append(threading.get_ident())

    with lock:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(0.05)
        assert inside == []
    thread.join(GUARD)
    assert len(inside) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_it_is_free_in_a_forked_child_and_still_held_in_the_parent() -> None:
    lock, held, over = ForkableLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(GUARD)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(GUARD)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if lock._lock.acquire(timeout=GUARD / 2) else 2
        finally:
            os._exit(status)
    until, ended = time.monotonic() + GUARD, (0, 0)
    while ended[0] == 0 and time.monotonic() < until:
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    assert ended[0] == child
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert not lock._lock.acquire(blocking=False)
    over.set()
    thread.join(GUARD)
