"""A machine with a systemd of its own: a container on a view of this machine's files, of which nothing is
left when it is gone.

What it writes is kept in memory (an overlay), it has no network but its own loopback, so that every port is
free, and it has control groups of its own, since a systemd takes what it finds in its group for its own.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from tests.operated import environment, until

PACKAGES: Final = Path("/opt/packages")
"""Where a machine finds the packages of the environment that the tests run in."""

_OURS: Final = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
_NUMBERS: Final = count()
_BOOT: Final = """
set -eu
umask 022  # users other than root enter the machine's root folder
place=$1 name=$2 packages=$3
shift 3
for group; do mkdir "$group"; echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/written" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=/,upperdir=$place/written,workdir=$place/work" overlay "$place/root"
cd "$place/root"
rm -rf etc/systemd/system/*.wants etc/systemd/system/scheduler* usr/local/lib/systemd/system/scheduler* \\
    opt/scheduler usr/local/bin/scheduler etc/scheduler var/lib/scheduler*
rm -f usr/bin/kill usr/bin/ps usr/bin/pgrep  # as on a machine without procps
: >etc/fstab
rm -f etc/machine-id
: >etc/machine-id
exec systemd-nspawn --quiet --boot --directory="$place/root" --machine="$name" --register=no --keep-unit \\
    --console=pipe --private-network --bind-ro="$packages"
"""


def missing() -> str | None:
    """What this machine lacks to have another one inside; None when it has everything."""
    if os.geteuid() != 0:
        return "starting a systemd in a container needs root"
    if shutil.which("systemd-nspawn") is None:
        return "no systemd-nspawn: apt install systemd-container"
    return None


class Machine:
    """A machine that is up. ``root`` is its file system, as seen from here; symbolic links there lead where
    they would here.
    """

    def __init__(self, nspawn: "subprocess.Popen[bytes]", console: Path) -> None:
        self._nspawn = nspawn
        self._console = console
        self._init = until(self._found_init, "systemd to be started in the container")
        self.root = Path(f"/proc/{self._init}/root")
        try:
            until(self._is_up, "systemd to be up in the container")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._describe_boot()}") from None

    def _found_init(self) -> int | None:
        """The number, here, of the process that is number 1 there."""
        assert self._nspawn.poll() is None, (
            f"no systemd in a container; systemd-nspawn says: {self._console.read_text()[-3000:]}"
        )
        for each in _children(self._nspawn):
            with suppress(OSError):  # it is gone already
                if Path(f"/proc/{each}/comm").read_text() == "systemd\n":
                    return each
        return None

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {
            "running",
            "degraded",
        }

    def _describe_boot(self) -> str:
        """The state of a boot that does not end, and what it waits for."""
        commands = (
            ("systemctl", "is-system-running"),
            ("systemctl", "--no-pager", "list-jobs"),
            ("systemctl", "--no-pager", "--failed"),
            ("journalctl", "--no-pager", "--lines=30"),
        )
        told = [(command, self.run(*command, check=False)) for command in commands]
        return (
            "\n".join(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}" for command, done in told)
            + f"\nsystemd-nspawn says: {self._console.read_text()[-2000:]}"
        )

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Carry out a command there, as root. With ``check`` it has to end with 0."""
        return _carried_out(self._entered("--all", *command), _ENVIRONMENT, check=check)

    def begin(self, *command: str) -> "subprocess.Popen[str]":
        """Begin a command there, as root."""
        return subprocess.Popen(
            self._entered("--all", *command), stdout=subprocess.DEVNULL, text=True, env=_ENVIRONMENT
        )

    def run_with_our_network(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Carry out a command there that may reach what we can."""
        return _carried_out(
            self._entered("--mount", "--uts", "--ipc", "--pid", *command), environment(), check=False
        )

    def on_its_network(self, *command: str) -> list[str]:
        """A command of ours, with our files, that has its network for its own."""
        return self._entered("--net", *command)

    def _entered(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self._init}", *command]


def _carried_out(
    command: list[str], variables: dict[str, str], *, check: bool
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=variables,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A machine that is up for as long as the block lasts. ``folder`` is ours and empty."""
    console, place = folder / "console", folder / "machine"
    place.mkdir()
    name = f"scheduler-test-{os.getpid()}-{next(_NUMBERS)}"
    groups = _control_groups(name)
    with console.open("wb") as output:
        nspawn = subprocess.Popen(
            # It halts the machine when we are gone, however we went; and its mounts are gone when it is.
            [
                "setpriv",
                "--pdeathsig=TERM",
                "unshare",
                "--mount",
                "sh",
                "-c",
                _BOOT,
                "boot",
                place,
                name,
                f"{_OURS}:{PACKAGES}",
                *groups,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_ENVIRONMENT,
        )
    try:
        yield Machine(nspawn, console)
    finally:
        _kill(nspawn)
        until(lambda: all(map(_is_removed, groups)), "the container's control groups to be empty")


def _kill(nspawn: "subprocess.Popen[bytes]") -> None:
    """End it, and before it what it has started, which would outlive it."""
    for each in _children(nspawn):
        os.kill(each, signal.SIGKILL)
    nspawn.kill()
    nspawn.wait()


def _children(process: "subprocess.Popen[bytes]") -> list[int]:
    try:
        return [*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    except FileNotFoundError:
        return []


def _control_groups(name: str) -> list[Path]:
    """New groups of this name below our own, where a systemd wants one: in version 2, and in version 1 where
    it keeps its units.
    """
    ours = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, (kind, _, options) = line.split()[4], line.partition(" - ")[2].split()
        hierarchy = "" if kind == "cgroup2" else "name=systemd"
        if kind == "cgroup2" or (kind == "cgroup" and hierarchy in options.split(",")):
            found.append(Path(place) / ours[hierarchy].lstrip("/") / name)
    return found


def _is_removed(group: Path) -> bool:
    """Whether a control group is gone with all below it, after an attempt to remove it."""
    with suppress(OSError):
        for each, _, _ in os.walk(group, topdown=False):
            Path(each).rmdir()
    return not group.exists()
