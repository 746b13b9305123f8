from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tools import ports

TAKE = "from tools.ports import free_port; print(*[free_port() for _ in range(50)], flush=True); input()"


def test_no_two_processes_are_given_the_same_port() -> None:
    # Of few ports a generator without reservations would soon give one twice.
    take = f"from tools import ports; ports._END = ports._FIRST + 400; {TAKE}"
    processes = [
        subprocess.Popen([sys.executable, "-c", take], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    given: list[int] = []
    for process in processes:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    for process in processes:
        process.communicate("\n", timeout=30)
    assert len(given) == 100
    assert len(set(given)) == 100


def test_what_is_listened_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(ports, "_FIRST", port)
        monkeypatch.setattr(ports, "_END", port + 1)
        with pytest.raises(RuntimeError, match="no port is free"):
            ports.free_port()
    assert ports.free_port() == port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RuntimeError, match="no port is free"):
        ports.free_port()
