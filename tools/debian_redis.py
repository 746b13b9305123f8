"""Unpack the Redis of Debian or Ubuntu into .servers/, for the version between those that wheels carry.

Nothing is installed and root is not needed. Where there is no apt, or it fails, a line says so and the tests run with
the servers that there are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.redis_server import UNPACKED

# One program is server and checker, told apart by the name it is called by; it is in redis-tools, and redis-server
# holds a link to it. The rest is what it was linked with.
PACKAGES = ("redis-tools", "redis-server", "libjemalloc2", "liblzf1", "libatomic1")
_PATIENCE = 120


def main() -> None:
    if any(UNPACKED.glob("*/usr/bin/redis-server")):
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        print("No Redis of the distribution: this system has no apt.")
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            _download(folder)
            UNPACKED.mkdir(exist_ok=True)
            # Renamed when complete, so that a half one is never found.
            half = tempfile.mkdtemp(dir=UNPACKED, prefix=".half-")
            for package in sorted(Path(folder).glob("*.deb")):
                _run(["dpkg-deb", "--extract", str(package), half], folder)
            Path(half).rename(UNPACKED / "debian")
        except (OSError, subprocess.SubprocessError) as error:
            print(f"No Redis of the distribution: {error}", file=sys.stderr)


def _download(folder: str) -> None:
    command = ["apt-get", "download", "--quiet", *PACKAGES]
    try:
        _run(command, folder)
    except subprocess.CalledProcessError:
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update", "--quiet"], folder)
        _run(command, folder)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=_PATIENCE, capture_output=True)


if __name__ == "__main__":
    main()
