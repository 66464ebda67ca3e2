"""Clients that ask for the daemon's pages, each one after the other without a pause. ``python -m
bench.browsing PORT CLIENTS``.
"""

import contextlib
import itertools
import sys
import threading
import urllib.request

PAGES = (
    "/",
    "/automations",
    "/occurrences",
    "/metrics",
    "/api/v1/status",
    "/api/v1/upcoming",
    "/api/v1/occurrences",
)


def ask(port: int, first: int) -> None:
    for page in itertools.islice(itertools.cycle(PAGES), first, None):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer,
        ):
            answer.read()


def main() -> None:
    port, clients = int(sys.argv[1]), int(sys.argv[2])
    threads = [threading.Thread(target=ask, args=(port, number), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
