"""Faults of the wall clock, by libfaketime: the daemon's is set, or the daemon's and the API's together.

The clock that counts suspend and the one that the event loop goes by are left alone, as setting the time of a
machine leaves them.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from scheduler.core.instants import to_text
from tests.faults.fault import Fault
from tests.faults.site import Site

TOO_LATE = frozenset({"skipped: missed", "expired: not_started"})
"""What becomes of what was due in the hour that was left out."""
_LOOKS = 300
"""Fifths of a second."""
_JUST_AHEAD = timedelta(seconds=0.5)
"""What is due so soon counts as on its way."""


def preload_clock(site: Site) -> str | None:
    """Have clocks that can be set; what comes back otherwise is why not."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        return "no libfaketime: apt install faketime"
    for command in ("run", "serve"):
        site.environments[command] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(_file(site, command)),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
    set_clock(site, timedelta(0), api=False)
    return None


def set_clock(site: Site, step: timedelta, *, api: bool) -> None:
    """Set the daemon's clock off by so much, and the API's along with it or right."""
    site.step = step
    for command, off in (("run", step), ("serve", step if api else timedelta(0))):
        _file(site, command).write_text(f"{off.total_seconds():+.3f}\n")


def _file(site: Site, command: str) -> Path:
    return site.folder / f"{command}.clock"


class _ClockFault(Fault):
    lane = "clock"
    errors = frozenset({"occurrence.overdue"})
    outcomes = TOO_LATE
    steps: Sequence[tuple[float, float]] = ()
    api = False

    @classmethod
    def lacks(cls, site: Site) -> str | None:
        return (
            None
            if "FAKETIME_NO_CACHE" in site.environments.get("run", {})
            else "libfaketime: apt install faketime"
        )

    async def begin(self, site: Site) -> None:
        step = timedelta(seconds=self.draw.uniform(*self.draw.choice(self.steps)))
        set_clock(site, step, api=self.api)

    async def end(self, site: Site) -> None:
        set_clock(site, timedelta(0), api=False)


class ClockSlightlyOff(_ClockFault):
    """The daemon's clock is set by less than a minute, either way, and set right again: believed at once."""

    steps = ((-55, -2), (2, 55))


class ClockAhead(_ClockFault):
    """The daemon's clock is set ahead by minutes or hours: nothing may be decided by it until it is right
    again.
    """

    steps = ((65, 600), (600, 7200))
    lasts = (5.0, 40.0)


class ClockBehind(_ClockFault):
    """The daemon's clock is set back by minutes or hours, and later right."""

    steps = ((-600, -65), (-7200, -600))
    lasts = (5.0, 40.0)


class ClocksTogether(_ClockFault):
    """Both clocks are set, so that the API's agrees: an hour that did not happen is passed over, or one is
    had twice.

    Only where keys are honoured. To find out about an attempt without them the API's clock is what everything
    is measured by, and an API that ignores them lives on a machine of its own.

    Nor while a request is on its way or in doubt: where its process dies too, or the difference of the clocks
    is not known, nothing shows where it stands. docs/guarantees.md says so.
    """

    @classmethod
    def lacks(cls, site: Site) -> str | None:
        return super().lacks(site) if site.idempotent else "an API that honours keys"

    steps = ((-3700, -65), (65, 3700))
    lasts = (5.0, 40.0)
    api = True

    async def begin(self, site: Site) -> None:
        await _nothing_under_way(site)
        await super().begin(site)

    async def end(self, site: Site) -> None:
        await _nothing_under_way(site)
        await super().end(site)


async def _nothing_under_way(site: Site) -> None:
    """Wait until no attempt is on its way or in doubt, but not for ever."""
    for _ in range(_LOOKS):
        if _is_quiet(site):
            return
        await asyncio.sleep(0.2)
    site.told["clocks set together with something under way all the time"] += 1


def _is_quiet(site: Site) -> bool:
    try:
        return not site.rows(
            "SELECT 1 FROM occurrence JOIN attempt ON attempt.occurrence_id = occurrence.id WHERE "
            "occurrence.outcome IS NULL "
            "AND coalesce(attempt.result, 'unknown') = 'unknown' AND occurrence.due <= ? LIMIT 1",
            to_text(site.now() + _JUST_AHEAD),
        )
    except sqlite3.OperationalError:  # a full disk, and no daemon that has the ledger open
        return False


CLOCK: tuple[type[Fault], ...] = (ClockSlightlyOff, ClockAhead, ClockBehind, ClocksTogether)
