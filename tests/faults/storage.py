"""Faults of the disk that the ledger lies on, and of whoever else has the ledger open."""

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.e2e.stand import until
from tests.faults.fault import Fault
from tests.faults.site import DISK, Site

FIU = Path("/usr/lib/fiu")
_LIBRARIES = (FIU / "fiu_run_preload.so", FIU / "fiu_posix_preload.so")
_WRITE = "posix/io/rw/pwrite"
_SYNC = "posix/io/sync/fdatasync"
LEDGER_TROUBLE = frozenset({"ledger.failed"})


def mount_disk(site: Site) -> str | None:
    """Give the site's ledger a disk of its own; what comes back otherwise is why not."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "mounting a disk needs root"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(site.disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    site.mounted = mounted.returncode == 0
    return None if site.mounted else f"mount is not permitted here: {mounted.stderr.strip()}"


def preload_failing_calls(site: Site) -> str | None:
    """Have system calls of the daemon that can be made to fail; what comes back otherwise is why not."""
    if not all(each.exists() for each in _LIBRARIES):
        return "no libfiu: apt install libfiu0"
    site.environments["run"] = {
        "LD_PRELOAD": " ".join(map(str, _LIBRARIES)),
        "FIU_CTRL_FIFO": str(site.folder / "fiu"),
        "FIU_ENABLE": "",
    }
    return None


def can_fail(site: Site) -> bool:
    """Whether system calls of the daemon can be made to fail."""
    return "FIU_CTRL_FIFO" in site.environments.get("run", {})


class DiskFull(Fault):
    """The disk is full to the last byte; then there is room again. Where no disk can be mounted, writes are
    answered as by a full one.
    """

    lane = "storage"
    errors = LEDGER_TROUBLE

    @classmethod
    def lacks(cls, site: Site) -> str | None:
        return (
            None
            if site.mounted or can_fail(site)
            else "a disk of its own (mount, as root) or libfiu (apt install libfiu0)"
        )

    async def begin(self, site: Site) -> None:
        if not site.mounted:
            _tell_fiu(site, f"enable name={_WRITE},failinfo={errno.ENOSPC}")
            return
        with (site.disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:  # until it is full
                ballast.write(b"\0" * 4096)

    async def end(self, site: Site) -> None:
        if not site.mounted:
            _tell_fiu(site, f"disable name={_WRITE}")
            return
        (site.disk / "ballast").unlink()


class FileTooLarge(Fault):
    """No file of the daemon's may grow, by the process's limit: what a quota does. It needs no privilege, and
    a restart ends it.
    """

    lane = "storage"
    errors = LEDGER_TROUBLE

    async def begin(self, site: Site) -> None:
        _limit(site, 4096)

    async def end(self, site: Site) -> None:
        _limit(site, resource.RLIM_INFINITY)


class FailingCalls(Fault):
    """A system call of the ledger's fails with EIO or ENOSPC: writing, or making durable."""

    lane = "storage"
    errors = LEDGER_TROUBLE

    @classmethod
    def lacks(cls, site: Site) -> str | None:
        return None if can_fail(site) else "libfiu: apt install libfiu0"

    async def begin(self, site: Site) -> None:
        self._call = self.draw.choice((_SYNC, _SYNC, _WRITE))
        kind, more = self.draw.choice((("enable", ""), ("enable_random", ",probability=0.4")))
        number = errno.ENOSPC if self._call == _WRITE and self.draw.random() < 0.5 else errno.EIO
        _tell_fiu(site, f"{kind} name={self._call},failinfo={number}{more}")

    async def end(self, site: Site) -> None:
        _tell_fiu(site, f"disable name={self._call}")


class LedgerLocked(Fault):
    """Another process holds the ledger in a transaction, as an open sqlite3 shell or a backup does."""

    lane = "storage"
    errors = LEDGER_TROUBLE

    async def begin(self, site: Site) -> None:
        self._connection = sqlite3.connect(site.ledger, isolation_level=None, timeout=0)
        how = self.draw.choice(("IMMEDIATE", "EXCLUSIVE"))
        await until(lambda: self._held(how), seconds=60, what="the ledger's own lock")

    async def end(self, site: Site) -> None:
        del site
        self._connection.close()

    async def _held(self, how: str) -> bool:
        try:
            self._connection.execute(f"BEGIN {how}")
        except sqlite3.OperationalError:
            return False
        return True


def _limit(site: Site, size: int) -> None:
    process = site.processes.get("run")
    if process is not None:
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


def _tell_fiu(site: Site, command: str) -> None:
    """What fiu-ctrl does, without a process of its own: a pipe that a daemon without it, or one that ended,
    does not have.
    """
    process = site.processes.get("run")
    pipe = site.folder / f"fiu-{process.pid if process else 0}.in"
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, f"{command}\n".encode())
        os.close(descriptor)


STORAGE: tuple[type[Fault], ...] = (DiskFull, FileTooLarge, FailingCalls, LedgerLocked)
