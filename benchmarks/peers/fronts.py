"""Caches that stand in front of an app as processes of their own: nginx's `proxy_cache`, and Varnish."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.subjects import PATH, TTL, Subject
from tools.debian_packages import Program, find

NGINX = Subject("nginx, proxy_cache, in front", "asgi", "front", "nginx")
VARNISH = Subject("Varnish, in front", "asgi", "front", "varnishd")


@dataclass(frozen=True, slots=True)
class Front:
    """One of them. `command` gets the program, its own port, the port of the app and a folder to write in."""

    subject: Subject
    command: Callable[[str, int, int, Path], list[str]]

    def program(self) -> Program:
        """Raises FileNotFoundError where it is neither installed nor unpacked."""
        return find(self.subject.make)

    def version(self) -> str:
        program = self.program()
        said = subprocess.run(
            [program.path, "-V"], capture_output=True, text=True, check=False, timeout=10, env=program.environment
        )
        found = re.search(r"(?:nginx/|varnish-)([0-9.]+[0-9])", said.stdout + said.stderr)
        return found[1] if found else "?"


def _nginx(program: str, port: int, app: int, folder: Path) -> list[str]:
    temporary = "\n".join(
        f"    {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 256; }}
http {{
    access_log off;
{temporary}
    keepalive_requests 1000000000;
    proxy_cache_path {folder}/cache keys_zone=bench:10m;
    server {{
        listen 127.0.0.1:{port};
        location {PATH} {{
            proxy_pass http://127.0.0.1:{app};
            proxy_cache bench;
            proxy_cache_valid 200 {TTL}s;
        }}
    }}
}}
"""
    )
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _varnish(program: str, port: int, app: int, folder: Path) -> list[str]:
    # Without a jail: it would become a user whom only an installed package makes.
    place = ["-F", "-j", "none", "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{app}", "-n", str(folder / "varnish")]
    return [program, *place, "-t", str(TTL), "-s", "malloc,64m", "-T", "none"]


FRONTS = (Front(NGINX, _nginx), Front(VARNISH, _varnish))
