"""Does a target that is dead make another one late, or somebody who looks? ``python -m bench.isolation
[COUNT]``.

The daemon with one target, then with a second one that has as many automations due at the same minute: one
that lives, and one whose server stands still from a few seconds before, so that it takes connections and
requests and answers nothing. Then with one target, while five clients ask for the daemon's pages without a
pause. Lateness is that of the first target.
"""

import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from bench import parts
from bench.fire import measure, ours

OTHER = parts.PORT + 10
BEFORE = 4.0
"""Seconds before the minute at which the second server stops: after the last poll that it answers."""


def beside_another(count: int, folder: Path, minute: datetime, *, dead: bool) -> Iterator[int]:
    second = f"""
[[target]]
name = "dead"
url = "http://127.0.0.1:{OTHER}"
project_id = "2"
key_file = "{folder}/key"
requests_per_minute = 1000000
requests_per_hour = 1000000
"""
    due = f"{minute:%-M %-H} * * *"
    with parts.process("-m", "bench.server", str(OTHER), str(count), due) as server:
        parts.wait_for(f"http://127.0.0.1:{OTHER}/arrivals", server)
        with parts.daemon(folder, parts.PORT, second) as started:
            time.sleep(max(minute.timestamp() - BEFORE - time.time(), 0))
            if dead:
                server.send_signal(signal.SIGSTOP)
            try:
                yield started.pid
            finally:
                server.send_signal(signal.SIGCONT)


def beside_clients(folder: Path, minute: datetime) -> Iterator[int]:
    del minute
    with (
        parts.daemon(folder, parts.PORT) as started,
        parts.process("-m", "bench.browsing", str(parts.PORT + 1), "5"),
    ):
        yield started.pid


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print(parts.HEADER, flush=True)
    print(measure("one target", count, ours), flush=True)
    for dead in (False, True):
        name = f"beside one that is {'dead' if dead else 'alive'}"
        print(measure(name, count, partial(beside_another, count, dead=dead)), flush=True)
    print(measure("beside five clients of its pages", count, beside_clients), flush=True)


if __name__ == "__main__":
    main()
