"""Unpack programs of Debian or Ubuntu into .servers/, those that tests and measurements need and no wheel carries.

`python -m tools.debian_packages [NAME ...]` unpacks what is named, or else what `make setup` wants.

Nothing is installed and root is not needed. Where there is no apt, or it fails, a line says so and the tests run with
what there is.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

UNPACKED = Path(__file__).resolve().parent.parent / ".servers"
"""Where `make servers` puts what no wheel carries."""

_PATIENCE = 120


class Wanted(NamedTuple):
    """What is unpacked together, into one folder."""

    folder: str
    program: str
    """Where its program lies, below that folder."""
    packages: tuple[str, ...]
    """What is always taken. What apt would install with it, because this machine lacks it, is taken as well."""


WANTED = {
    # One program is server and checker, told apart by the name it is called by; it is in redis-tools, and redis-server
    # holds a link to it. The rest is what it was linked with.
    "redis": Wanted(
        "debian", "usr/bin/redis-server", ("redis-tools", "redis-server", "libjemalloc2", "liblzf1", "libatomic1")
    ),
    "memcached": Wanted("memcached", "usr/bin/memcached", ("memcached",)),
    # What `make bench` drives servers with, and the caches that stand in front of one.
    "wrk": Wanted("wrk", "usr/bin/wrk", ("wrk",)),
    "nginx": Wanted("nginx", "usr/sbin/nginx", ("nginx",)),
    "varnishd": Wanted("varnish", "usr/sbin/varnishd", ("varnish",)),
}
SETUP = ("redis", "memcached")


class Program(NamedTuple):
    """A program that can be run."""

    path: str
    environment: dict[str, str]


def unpack(wanted: Wanted) -> Path:
    """The program of `wanted`, downloaded and unpacked if it was not yet. Raises OSError and SubprocessError."""
    program = UNPACKED / wanted.folder / wanted.program
    if program.exists():
        return program
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FileNotFoundError("this system has no apt")
    with tempfile.TemporaryDirectory() as folder:
        _download(wanted.packages, folder)
        UNPACKED.mkdir(exist_ok=True)
        # Renamed when complete, so that a half one is never found.
        half = Path(tempfile.mkdtemp(dir=UNPACKED, prefix=".half-"))
        try:
            for package in sorted(Path(folder).glob("*.deb")):
                _run(["dpkg-deb", "--extract", str(package), str(half)], folder)
            half.chmod(0o755)
            half.rename(UNPACKED / wanted.folder)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return program


@functools.cache
def libraries(root: Path) -> str:
    """The LD_LIBRARY_PATH for a program unpacked below `root`: the folders of the shared libraries there."""
    return ":".join(sorted({str(library.parent) for library in root.rglob("lib*.so*")}))


def environment(root: Path) -> dict[str, str]:
    """The environment in which a program unpacked below `root` finds its libraries and its companions."""
    path = os.pathsep.join((str(root / "usr/sbin"), str(root / "usr/bin"), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": libraries(root)}


def find(name: str) -> Program:
    """A program by its name: one that is installed, or else one that was unpacked.

    Raises:
        FileNotFoundError: there is neither.
    """
    # Servers lie where the shell of a user does not look.
    if installed := shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))):
        return Program(installed, dict(os.environ))
    wanted = WANTED[name]
    root = UNPACKED / wanted.folder
    if not (root / wanted.program).exists():
        raise FileNotFoundError(f"{name} is neither installed nor unpacked")
    return Program(str(root / wanted.program), environment(root))


def _download(packages: tuple[str, ...], folder: str) -> None:
    try:
        _fetch(packages, folder)
    except subprocess.CalledProcessError:
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update", "--quiet"], folder)
        _fetch(packages, folder)


def _fetch(packages: tuple[str, ...], folder: str) -> None:
    # What apt says it would install is what the packages need and this machine has not.
    try:
        said = _run(["apt-get", "install", "--simulate", "--quiet", "--no-install-recommends", *packages], folder)
    except subprocess.CalledProcessError:  # the dependencies of this machine are in disorder; the packages may still do
        said = ""
    lacking = re.findall(r"^Inst (\S+)", said, re.MULTILINE)
    _run(["apt-get", "download", "--quiet", *sorted({*packages, *lacking})], folder)


def _run(command: list[str], folder: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=folder, check=True, timeout=_PATIENCE, capture_output=True, text=True, env=environment
    ).stdout


def main(names: list[str]) -> int:
    unknown = set(names) - WANTED.keys()
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WANTED)}", file=sys.stderr)
        return 2
    for name in names or SETUP:
        try:
            unpack(WANTED[name])
        except (OSError, subprocess.SubprocessError) as error:
            print(f"No {name} of the distribution: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
