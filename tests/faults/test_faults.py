"""Each kind of fault at least once, with real processes across a full minute; afterwards the API's runs are
the accepted occurrences.

The sites mostly wait, so they stand side by side: one with each fault on its full minute, and some more
faults after that.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.clock import CLOCK, ClockAhead, ClockBehind, ClockSlightlyOff, ClocksTogether, preload_clock
from tests.faults.fault import Fault
from tests.faults.keys import KEYS, KeyRotationByReload, KeyRotationByRestart
from tests.faults.network import (
    NETWORK,
    BlackHole,
    CarriedOutLate,
    Delay,
    GatewayErrors,
    HalfAnswers,
    LostAnswers,
    Refuse,
    ResetBefore,
    SwallowedAnswers,
    Throttle,
)
from tests.faults.processes import (
    PROCESSES,
    Freeze,
    FreezeApi,
    Kill,
    KillApi,
    KillTwice,
    ReloadStorm,
    Rename,
    SecondDaemon,
    Terminate,
    TerminateApi,
)
from tests.faults.site import Site
from tests.faults.storage import (
    STORAGE,
    DiskFull,
    FailingCalls,
    FileTooLarge,
    LedgerLocked,
    mount_disk,
    preload_failing_calls,
)
from tests.faults.storm import FAULTS, Storm

AUTOMATIONS = 12
LASTS = 6.0
"""Seconds: enough to be there two seconds before the full minute and after it."""


@dataclass(frozen=True, slots=True)
class Play:
    """The faults of one site, in their order."""

    kinds: Sequence[type[Fault]]
    idempotent: bool = False
    clocks: bool = False


NETWORKS = (
    Play((LostAnswers, Refuse, Delay), idempotent=True),
    Play((SwallowedAnswers, ResetBefore)),
    Play((CarriedOutLate, GatewayErrors)),
    Play((HalfAnswers, BlackHole, Throttle)),
)
MACHINES = (
    Play((DiskFull, Kill)),
    Play((LedgerLocked, Terminate, FileTooLarge)),
    Play((FailingCalls, FreezeApi)),
)
CLOCKS = (
    Play((ClockSlightlyOff, ClockAhead), clocks=True),
    Play((ClockBehind, ClocksTogether), idempotent=True, clocks=True),
)
PROCESS_FAULTS = (
    Play((Kill, ReloadStorm)),
    Play((KillTwice,), idempotent=True),
    Play((Terminate, SecondDaemon)),
    Play((Freeze,)),
    Play((KillApi, Rename)),
    Play((TerminateApi, FreezeApi)),
)
ROTATIONS = (
    Play((KeyRotationByReload,), idempotent=True),
    Play((KeyRotationByRestart,), idempotent=True),
)


def test_each_kind_of_fault_is_played() -> None:
    """The other groups are in files of their own, which go on beside this one: `test_process_faults`,
    `test_storage_faults` and `test_key_rotation`.
    """
    groups = (NETWORKS, CLOCKS, PROCESS_FAULTS, MACHINES, ROTATIONS)
    assert {kind for plays in groups for play in plays for kind in play.kinds} == set(FAULTS)
    assert set(FAULTS) == {*NETWORK, *PROCESSES, *KEYS, *STORAGE, *CLOCK}


@pytest.mark.timeout(400)
def test_after_each_fault_the_runs_of_the_api_are_the_accepted_occurrences(tmp_path: Path) -> None:
    play_all(tmp_path, NETWORKS + CLOCKS)


def play_all(folder: Path, plays: Sequence[Play]) -> None:
    """Play them side by side, each at a site of its own."""
    if lacking := asyncio.run(_all_of(folder, plays)):
        pytest.skip(f"everything else was well, but these could not be had: {lacking}")


async def _all_of(folder: Path, plays: Sequence[Play]) -> list[str]:
    """What is lacking for some of them comes back."""
    async with AsyncExitStack() as closing:
        sites = [_site(closing, folder / str(number), play) for number, play in enumerate(plays)]
        ends = await asyncio.gather(
            *(_through(site, play) for site, play in zip(sites, plays, strict=True)), return_exceptions=True
        )
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [lack for end in ends if isinstance(end, list) for lack in end]


def _site(closing: AsyncExitStack, folder: Path, play: Play) -> Site:
    folder.mkdir()
    site = Site(folder, idempotent=play.idempotent)
    closing.push_async_callback(site.close)
    if play.clocks:
        preload_clock(site)
    if FailingCalls in play.kinds or (DiskFull in play.kinds and mount_disk(site)):
        preload_failing_calls(site)
    return site


async def _through(site: Site, play: Play) -> list[str]:
    lacking = {kind: lack for kind in play.kinds if (lack := kind.lacks(site)) is not None}
    if had := [kind for kind in play.kinds if kind not in lacking]:
        storm = Storm(site, random.Random(str(play.kinds)))
        await storm.prepare(AUTOMATIONS)
        await storm.play(had, seconds=LASTS)
        await storm.calm()
        assert storm.account() == []
        assert (
            sum(row["outcome"] == "accepted" for row in site.rows("SELECT outcome FROM occurrence"))
            >= AUTOMATIONS / 2
        )
    return [f"{kind.name()}: {lack}" for kind, lack in lacking.items()]
