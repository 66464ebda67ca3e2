"""A start after a long downtime: ``python -m bench.downtime [AUTOMATIONS] [DAYS] [JITTER]``, by default
1,000, 30 and 0s.

The daemon is started once for its ledger, which is then set back by so many days: as if the daemon had
stopped then. At the next start each automation, due every minute, has missed 1,440 occurrences a day. Told
are: the first fire and the last first fire of an automation after readiness, the longest time for which the
event loop answered nothing, the peak of memory, and when the past was on record as well.
"""

import os
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from bench import parts

PORT: Final = parts.PORT + 30
_PATIENCE: Final = 240.0
_SET_BACK: Final = (
    "UPDATE target SET watermark = {watermark}, snapshot_at = {snapshot_at}",
    "UPDATE definition SET effective_from = {effective_from}, observed_at = {observed_at}",
    "UPDATE automation SET effective_from = {effective_from}",
    "UPDATE evaluation SET since = {since}",
    "UPDATE policy SET since = {since}",
    "DELETE FROM attempt",
    "DELETE FROM run",
    "DELETE FROM occurrence",
    "UPDATE automation SET run_id = NULL, run_at = NULL, run_status = NULL",
)


class Prober(threading.Thread):
    """Asks for ``/healthz`` again and again: the event loop answers, unless it is busy."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{port}/healthz"
        self.longest = 0.0
        self.ends = False

    def run(self) -> None:
        while not self.ends:
            asked = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=300) as answer:
                    answer.read()
                self.longest = max(self.longest, time.monotonic() - asked)
            except OSError:
                pass
            time.sleep(0.01)


def set_back(path: Path, days: float) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in _SET_BACK:
            columns = ("watermark", "snapshot_at", "effective_from", "observed_at", "since")
            moved = {name: f"strftime('%Y-%m-%dT%H:%M:%f000Z', {name}, '-{days} days')" for name in columns}
            connection.execute(statement.format(**moved))


def asked(path: Path, select: str) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(select).fetchone()[0] or 0)


def is_recovered(path: Path, expected: int) -> bool:
    """Whether the past is on record."""
    return asked(path, "SELECT sum(count) FROM occurrence") >= expected


def peak(pid: int) -> int:
    """The most memory that a process had, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def until(condition: Callable[[], object], seconds: float) -> float | None:
    """The seconds until the condition holds; None when it does not within these ``seconds``."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return time.monotonic() - began
        time.sleep(0.02)
    return None


def shown(seconds: float | None) -> str:
    return f"none in {_PATIENCE:.0f}" if seconds is None else f"{seconds:.1f}"


def measure(count: int, days: float, jitter: str, folder: Path) -> str:
    settings, path = f'[schedule]\njitter = "{jitter}"\n', folder / "scheduler.db"
    with parts.daemon(folder, PORT, settings):
        until(lambda: asked(path, "SELECT count(*) FROM automation") >= count, 60)
    set_back(path, days)
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{PORT}/forget", method="POST"), timeout=10
    ):
        pass
    prober = Prober(PORT + 1)
    began = time.monotonic()
    with parts.daemon(folder, PORT, settings) as started:
        ready = time.monotonic() - began
        prober.start()
        first = until(lambda: parts.arrivals(PORT), _PATIENCE)
        every = until(lambda: len(parts.arrivals(PORT)) >= count, _PATIENCE if first is not None else 0)
        expected = count * int(days * 24 * 60)
        recorded = until(lambda: is_recovered(path, expected), _PATIENCE if first is not None else 0)
        prober.ends = True
        memory = peak(started.pid)
    rows = asked(path, "SELECT count(*) FROM occurrence")
    return (
        f"| {count:,} for {days:g} days, jitter {jitter} | {ready:.1f} | {shown(first)} | "
        f"{shown(every)} | {shown(recorded)} "
        f"| {prober.longest:.2f} | {memory} | {rows:,} |"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    days = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    jitter = sys.argv[3] if len(sys.argv) > 3 else "0s"
    print(
        "| every-minute automations | ready s | first fire s | one of each s | all on record s | "
        "loop blocked s | MiB | rows |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with (
        parts.folder() as folder,
        parts.process("-m", "bench.server", str(PORT), str(count), "* * * * *") as server,
    ):
        parts.wait_for(f"http://127.0.0.1:{PORT}/arrivals", server)
        print(measure(count, days, jitter, folder), flush=True)


if __name__ == "__main__":
    main()
