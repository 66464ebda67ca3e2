"""``python -m tests.faults``: an hour of real faults, or as much as is asked for. Exit status 1 on any
violation.
"""

import argparse
import asyncio
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.faults import final_check
from tests.faults.clock import preload_clock
from tests.faults.site import Site
from tests.faults.storage import mount_disk, preload_failing_calls
from tests.faults.storm import Storm

_SITES = (
    ("keys honoured", True, False),
    ("keys ignored", False, False),
    ("keys honoured, clocks set", True, True),
    ("keys ignored, clocks set", False, True),
)
"""What each is called, whether the API honours idempotency keys, and whether its clocks can be set instead of
its system calls failing.
"""


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


async def _open(closing: AsyncExitStack, folder: Path, seed: int, number: int) -> Storm:
    name, idempotent, clocks = _SITES[number]
    place = folder / name.replace(" ", "-").replace(",", "")
    place.mkdir()
    site = Site(place, idempotent=idempotent)
    closing.push_async_callback(site.close)
    for lack in (mount_disk(site), (preload_clock if clocks else preload_failing_calls)(site)):
        if lack:
            _say(f"{name}: some faults cannot be had: {lack}")
    return Storm(site, random.Random(f"{seed} {name}"), lambda text: _say(f"{name}: {text}"))


async def _through(storms: Sequence[Storm], minutes: float) -> None:
    await asyncio.gather(*(storm.prepare() for storm in storms))
    progress = asyncio.create_task(_progress(storms, time.monotonic()))
    await asyncio.gather(*(storm.rage(minutes * 60) for storm in storms))
    _say("calm")
    await asyncio.gather(*(storm.calm(more=timedelta(minutes=1)) for storm in storms))
    progress.cancel()


async def _progress(storms: Sequence[Storm], began: float) -> None:
    while True:
        await asyncio.sleep(60)
        with suppress(sqlite3.OperationalError):  # a full disk, and no daemon that has the ledger open
            _say(f"{(time.monotonic() - began) / 60:.0f} min: {_figures(storms)}")


def _figures(storms: Sequence[Storm]) -> str:
    faults = sum(storm.faults.total() for storm in storms)
    counted = [
        storm.site.rows(
            "SELECT total(count) AS all_of_them, count(*) FILTER (WHERE outcome = 'accepted') AS "
            "accepted FROM occurrence"
        )[0]
        for storm in storms
    ]
    runs = sum(
        storm.site.rows("SELECT count(*) AS runs FROM runs", database=storm.site.api_database)[0]["runs"]
        for storm in storms
    )
    occurrences, accepted = (int(sum(each[key] for each in counted)) for key in ("all_of_them", "accepted"))
    violations = sum(len(storm.site.violations) for storm in storms)
    return (
        f"{faults} faults, {occurrences} occurrences, {accepted} accepted, {runs} runs, {violations} "
        "violations"
    )


def _summary(storms: Sequence[Storm]) -> int:
    """Print it; how many violations there are comes back."""
    for title, counters in (
        ("faults", [storm.faults for storm in storms]),
        ("what happened", [storm.site.told for storm in storms]),
    ):
        print(f"\n{title}:")
        for name, count in sorted(sum(counters, Counter[str]()).items()):
            print(f"  {count:6} {name}")
    print("\noutcomes:")
    for name, count in sorted(_outcomes(storms).items()):
        print(f"  {count:6} {name}")
    found = [violation for storm in storms for violation in storm.account()]
    print(f"\n{_figures(storms)}")
    for violation in found:
        print(f"VIOLATION {violation}")
    print(f"{len(found)} violations")
    return len(found)


def _outcomes(storms: Sequence[Storm]) -> Counter[str]:
    return sum(
        (
            Counter({f"{row['outcome']}: {row['reason']}": row["count"]})
            for storm in storms
            for row in final_check.read(storm.site).occurrences
        ),
        Counter[str](),
    )


async def _main(minutes: float, seed: int, folder: Path) -> int:
    _say(
        f"seed {seed}, {minutes:g} minutes of faults in {folder}; the same again: make faults "
        f"MINUTES={minutes:g} SEED={seed}"
    )
    main = asyncio.current_task()
    assert main is not None
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # also as a job in the background: no process and no mounted disk is left behind
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    async with AsyncExitStack() as closing:
        storms = [await _open(closing, folder, seed, number) for number in range(len(_SITES))]
        await _through(storms, minutes)
        return 1 if _summary(storms) else 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="for how long faults are drawn; what follows takes some minutes more",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="decides which faults come, and when",
    )
    parser.add_argument(
        "--folder", type=Path, help="an empty folder that is kept: ledgers, logs, configurations"
    )
    return parser.parse_args()


if __name__ == "__main__":
    given = _parsed()
    given_folder = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    given_folder.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(_main(given.minutes, given.seed, given_folder)))
