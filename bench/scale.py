"""Do ten times the automations cost more than ten times? ``python -m bench.scale [SIZE ...]``, by default
1,000, 10,000 and 100,000.

For each size, real processes. The daemon starts with an empty ledger, reads all automations and is ready.
Then every automation gets another name and another schedule, while somebody asks for ``/healthz`` all the
time: the slowest answer is the lag. Then 1,000 of them are due at one full minute. Then the daemon is started
again on its ledger. ``DUE=10000`` in the environment has more of them due.

Prints the figures, and the ratios of each size to the one before. Exit status 1: a fire was lost or doubled,
or ten times the automations cost more than `MOST` times.
"""

import json
import os
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote_plus

from bench import parts

SIZES: Final = (1_000, 10_000, 100_000)
DUE: Final = int(os.environ.get("DUE", "1000"))
MOST: Final = 12.0
"""Times the cost, for ten times the automations."""
NEVER: Final = "0 0 29 2 *"
PATIENCE: Final = 900.0
SERVER: Final = f"http://127.0.0.1:{parts.PORT}"
DAEMON: Final = f"http://127.0.0.1:{parts.PORT + 1}"
INTERVAL: Final = 10.0
"""Seconds between two polls. Each of them costs a request for every 1,000 automations."""


@dataclass(frozen=True)
class Figures:
    """What one size costs: seconds, and MiB."""

    ready: float
    memory: float
    poll: float
    lag: float
    last: float
    restart: float
    peak: float


TITLES: Final = ("ready s", "MiB", "poll s", "lag s", "last s", "restart s", "peak MiB")
LIMITS: Final = (MOST, MOST, MOST, None, MOST, MOST, MOST)
"""For each figure. The lag has no limit here: it is to stay far below a second."""


class Probe:
    """Asks for a page again and again, on a thread; keeps how long the slowest answer took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.slowest = 0.0

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            began = time.monotonic()
            ask(self._url)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def measure(size: int) -> Figures:
    """Raises `SystemExit` when a fire is lost or doubled."""
    due = min(size, DUE)
    with (
        parts.folder() as folder,
        parts.process("-m", "bench.server", str(parts.PORT), str(size), NEVER, str(due)) as server,
    ):
        parts.wait_for(f"{SERVER}/arrivals", server)
        with started(folder) as (pid, ready):
            memory = parts.Usage.of(pid).memory / 2**20
            with Probe(f"{DAEMON}/healthz") as probe:
                minute, poll = change_all(folder, size, ready)
            last = fire(folder, due, minute)
            peak = peak_of(pid)
        with started(folder) as (_, restart):
            pass
    return Figures(ready, memory, poll, probe.slowest, last, restart, peak)


@contextmanager
def started(folder: Path) -> Iterator[tuple[int, float]]:
    """The daemon's process id, and the seconds until it was ready."""
    began = time.monotonic()
    with parts.daemon(
        folder, parts.PORT, f'[schedule]\npoll_interval = "{INTERVAL:.0f}s"', patience=PATIENCE
    ) as process:
        yield process.pid, time.monotonic() - began


def change_all(folder: Path, size: int, ready: float) -> tuple[datetime, float]:
    """Change every automation. Returns the minute at which the first ones are due, and the seconds from the
    poll's begin to its record.
    """
    soon = datetime.now(UTC) + timedelta(seconds=INTERVAL + 10 + 3 * ready)
    minute = soon.replace(second=0, microsecond=0) + timedelta(minutes=1)
    ask(f"{SERVER}/change?cron={quote_plus(f'{minute:%-M %-H} * * *')}")
    wait_until(lambda: recorded(folder) == 2 * size)
    return minute, time.time() - json.loads(ask(f"{SERVER}/seen"))


def recorded(folder: Path) -> int:
    """How many versions of definitions are on record."""
    return int(query(folder, "SELECT coalesce(max(id), 0) FROM definition"))


def fire(folder: Path, due: int, minute: datetime) -> float:
    """Wait until all that are due are accepted; how late the last one was."""
    accepted = "SELECT count(*) FROM occurrence WHERE outcome = 'accepted'"
    wait_until(lambda: int(query(folder, accepted)) == due)
    arrivals = parts.arrivals(parts.PORT)
    if len(arrivals) != due:
        raise SystemExit(f"{due} were due, and {len(arrivals)} were fired")
    return arrivals[-1] - minute.timestamp()


def query(folder: Path, text: str) -> int:
    with closing(sqlite3.connect(f"file:{folder}/scheduler.db?mode=ro", uri=True)) as connection:
        return int(connection.execute(text).fetchone()[0])


def ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it has not happened within {PATIENCE:.0f} s")
        time.sleep(0.1)


def peak_of(pid: int) -> float:
    """The most memory that the process has had, in MiB."""
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) / 2**10


def ratios(size: int, now: Figures, before: tuple[int, Figures]) -> list[float]:
    """The ratio of each figure to the size before, as for ten times the automations."""
    factor = size / before[0] / 10
    return [
        mine / max(its, 0.01) / factor for mine, its in zip(astuple(now), astuple(before[1]), strict=True)
    ]


def main() -> None:
    sizes = [int(each) for each in sys.argv[1:]] or SIZES
    print(f"{'automations':>12} " + " ".join(f"{title:>10}" for title in TITLES), flush=True)
    before: tuple[int, Figures] | None = None
    exceeded = []
    for size in sizes:
        figures = measure(size)
        print(f"{size:>12,} " + " ".join(f"{each:>10.2f}" for each in astuple(figures)), flush=True)
        if before is not None:
            times = ratios(size, figures, before)
            print(f"{'ratio':>12} " + " ".join(f"{each:>10.1f}" for each in times), flush=True)
            exceeded += [
                title
                for title, ratio, limit in zip(TITLES, times, LIMITS, strict=True)
                if limit is not None and ratio > limit
            ]
        before = size, figures
    if exceeded:
        raise SystemExit(f"more than {MOST:.0f} times for ten times the automations: {', '.join(exceeded)}")


if __name__ == "__main__":
    main()
