"""Processes and figures that the benchmarks share."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PORT = 18_040
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def process(
    *argv: str, environ: dict[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts."""
    output = log.open("wb") if log else subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, *argv], env={**os.environ, **(environ or {})}, stdout=output, stderr=output
    ) as started:
        try:
            yield started
        finally:
            started.terminate()
            started.wait(30)


@contextmanager
def daemon(
    folder: Path, port: int, settings: str = "", *, patience: float = 30
) -> Iterator[subprocess.Popen[bytes]]:
    """The real daemon, with its durable ledger, against a server on this machine; it has ``patience`` seconds
    to be ready.
    """
    (folder / "key").write_text("bench")
    (folder / "scheduler.toml").write_text(f"""
[[target]]
url = "http://127.0.0.1:{port}"
project_id = "1"
key_file = "{folder}/key"
requests_per_minute = 1000000
requests_per_hour = 1000000
[ledger]
url = "sqlite:///{folder}/scheduler.db"
[server]
listen = "127.0.0.1:{port + 1}"
[log]
format = "json"
{settings}
""")
    with process(
        "-m", "scheduler", "run", "--config", str(folder / "scheduler.toml"), log=folder / "log"
    ) as started:
        wait_for(f"http://127.0.0.1:{port + 1}/readyz", started, folder / "log", patience)
        yield started


def wait_for(
    url: str, started: subprocess.Popen[bytes], log: Path | None = None, seconds: float = 30
) -> None:
    """Wait until a URL answers 200."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            if started.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{url} does not answer: {log.read_text()[-2000:] if log else ''}") from None
            time.sleep(0.05)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on a real disk, so that an fsync costs what it costs."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made:
        yield Path(made)


def arrivals(port: int) -> list[float]:
    """When the requests for runs arrived, on the wall clock."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/arrivals", timeout=10) as answer:
        found: list[float] = json.load(answer)
        return sorted(found)


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of processor, bytes of memory (resident, now)."""

    cpu: float
    memory: int

    @classmethod
    def of(cls, pid: int) -> "Usage":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls((int(fields[11]) + int(fields[12])) / _TICKS, pages * os.sysconf("SC_PAGE_SIZE"))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the sorted values lies."""
    return values[min(int(len(values) * share), len(values) - 1)]


def row(name: str, late: Sequence[float], expected: int, used: float, memory: int) -> str:
    """One line of the table of lateness."""
    if not late:
        return f"{name:<34} {0:>6} of {expected}"
    figures = (late[0], statistics.median(late), quantile(late, 0.99), late[-1])
    early = sum(each < 0 for each in late)
    return (
        f"{name:<34} {len(late):>6} of {expected:<6} {early:>5} "
        + " ".join(f"{each:>8.3f}" for each in figures)
        + f" {used:>8.2f} {memory / 2**20:>8.0f}"
    )


HEADER = (
    f"{'':<34} {'fired':>6}    {'':<6} {'early':>5} {'first s':>8} {'p50 s':>8} {'p99 s':>8} "
    f"{'last s':>8} {'cpu s':>8} {'MiB':>8}"
)
