"""How late are all of 1,000 automations that are due at one full minute? ``python -m bench.fire [COUNT]``.

The daemon, with its durable ledger, then APScheduler 3 with httpx, which records nothing: as documented, and
tuned. All against the same server, each at a full minute of its own. Lateness is when the request arrived
there after the minute; cpu is from 5 s before it on.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import parts

LEAD = 12.0
"""Seconds that everybody has to get ready before the minute."""
PATIENCE = 40.0


def next_minute() -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=LEAD)).replace(second=0, microsecond=0) + timedelta(
        minutes=1
    )


def measure(name: str, count: int, start: Callable[[Path, datetime], "Iterator[int]"]) -> str:
    """One line: what starts is given the minute, and has to fire everything then."""
    minute = next_minute()
    with (
        parts.folder() as folder,
        parts.process("-m", "bench.server", str(parts.PORT), str(count), f"{minute:%-M %-H} * * *") as server,
    ):
        parts.wait_for(f"http://127.0.0.1:{parts.PORT}/arrivals", server)
        with contextmanager(start)(folder, minute) as pid:
            time.sleep(max(minute.timestamp() - 5 - time.time(), 0))
            before = parts.Usage.of(pid)
            time.sleep(max(minute.timestamp() - time.time(), 0))
            wait_for_all(count)
            after = parts.Usage.of(pid)
            late = [each - minute.timestamp() for each in parts.arrivals(parts.PORT)]
    return parts.row(name, late, count, after.cpu - before.cpu, after.memory)


def wait_for_all(count: int) -> None:
    """Until everything arrived and a second more, in case there is too much; or until it is clear that it
    will not.
    """
    deadline = time.monotonic() + PATIENCE
    while len(parts.arrivals(parts.PORT)) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(1)


def ours(folder: Path, minute: datetime) -> Iterator[int]:
    del minute
    with parts.daemon(folder, parts.PORT) as started:
        yield started.pid


def apscheduler(kind: str) -> Callable[[Path, datetime], Iterator[int]]:
    def start(folder: Path, minute: datetime) -> Iterator[int]:
        with parts.process(
            "-m", "bench.apscheduler_httpx", str(parts.PORT), kind, minute.isoformat(), log=folder / "log"
        ) as started:
            yield started.pid

    return start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(parts.HEADER, flush=True)
    print(measure("this daemon, durable", count, ours), flush=True)
    print(measure("APScheduler 3 + httpx, documented", count, apscheduler("documented")), flush=True)
    print(measure("APScheduler 3 + httpx, tuned", count, apscheduler("tuned")), flush=True)


if __name__ == "__main__":
    main()
