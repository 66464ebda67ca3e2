"""Scripts written by hand for the promise under load, by name: `python -m tests.simulation story NAME` plays
one, and judges it.

Each is as small as it can be and still shows a defect that was there once. Those in `LARGE` are the sizes of
the promise itself; they take minutes, and belong to the soak.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.simulation import script as s
from tests.simulation.api import automation_id
from tests.simulation.script import (
    ALL,
    CALM,
    LIST,
    READS,
    RETRIEVE,
    RUN,
    Action,
    Dies,
    Disk,
    Fault,
    Planned,
    Script,
    Setting,
    TargetPlan,
)

_NOON: Final = datetime(2026, 6, 3, 11, 58, 20, tzinfo=UTC)
_TO_NOON: Final = 100.0
"""Seconds from the beginning to twelve."""
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_BRIEF_CALM: Final = 500.0
"""Seconds: enough for a small story to settle."""
_ROOMY: Final = TargetPlan(page=1000, requests_per_minute=100_000, requests_per_hour=1_000_000)


def plan_every(expression: str, count: int) -> tuple[Planned, ...]:
    """Plan so many automations with this expression."""
    return tuple(Planned(target=0, expression=expression, timezone="UTC") for _ in range(count))


def write_script(
    span: float,
    automations: Sequence[Planned],
    actions: Sequence[Action] = (),
    *,
    target: TargetPlan = _ROOMY,
    keep_ledgers: bool = False,
    calm: float = CALM,
    commit: float = 0.003,
    loses_nothing: bool = False,
    **schedule: str,
) -> Script:
    """Write a script of one target that begins shortly before noon."""
    setting = Setting(
        begin=_NOON,
        span=span,
        targets=(target,),
        automations=tuple(automations),
        schedule={"poll_interval": "30s", **schedule},
        policies={},
        keep_ledgers=keep_ledgers,
        calm=calm,
        commit=commit,
        loses_nothing=loses_nothing,
    )
    return Script(1, setting, tuple(sorted(actions, key=lambda action: action.at)))


def _write_small(
    span: float,
    automations: Sequence[Planned],
    actions: Sequence[Action] = (),
    *,
    calm: float = _BRIEF_CALM,
    **setting: Any,
) -> Script:
    """Write a script with a calm that is just long enough for a small story to settle."""
    return write_script(span, automations, actions, calm=calm, **setting)


def _limit(per_minute: int, per_hour: int = 100_000) -> TargetPlan:
    return TargetPlan(page=1000, requests_per_minute=per_minute, requests_per_hour=per_hour)


def _narrow(max_in_flight: int) -> TargetPlan:
    return TargetPlan(
        page=1000, requests_per_minute=100_000, requests_per_hour=1_000_000, max_in_flight=max_in_flight
    )


def _hang(count: int, span: float) -> s.Weather:
    return s.Weather(
        at=0.5,
        lasts=span,
        target=0,
        endpoints=(RUN,),
        fault=Fault.LOST_REQUEST,
        automations=tuple(range(count)),
    )


def _fill(at: float, lasts: float) -> s.Ledger:
    return s.Ledger(at=at, lasts=lasts, trouble=Disk.FULL)


def _doom(at: float, *counts: int) -> s.Doom:
    """Kill the processes that begin from then on after so many of their commits."""
    return s.Doom(at=at, dies=Dies.AFTER_A_COMMIT, counts=counts)


def _change_by_command(change: Action) -> tuple[Action, Action]:
    return change, s.Wake(at=change.at + 0.05)


_COMMAS: Final = ",".join([""] * 200_001)
_DAILY: Final = "0 3 * * *"
_LAST: Final = sorted(range(1010), key=lambda number: automation_id("main", number))[-5:]
"""The last ones of 1,010 in the order of ids, in which parts of a snapshot are recorded."""
_NUL: Final = "* * * * *\0 not a schedule"

SMALL: Final[Mapping[str, Callable[[], Script]]] = {
    "polls starved by fires": lambda: _write_small(
        1.5 * _HOUR,
        plan_every("* * * * *", 15),
        target=_limit(120, 1000),
        loses_nothing=True,
        poll_interval="2m",
    ),
    "budget of an hour spent in half of it": lambda: _write_small(
        75 * _MINUTE, plan_every("* * * * *", 6), target=_limit(1000, 150)
    ),
    "polls want more than their quarter": lambda: _write_small(
        25 * _MINUTE, plan_every("*/2 * * * *", 29), target=_limit(10_000, 480), poll_interval="5s"
    ),
    "budget exceeded by half": lambda: _write_small(
        15 * _MINUTE,
        plan_every("* * * * *", 30),
        target=_limit(20),
        commit=0.02,
        poll_interval="10m",
        fresh_for="10m",
    ),
    "budget exceeded by a tenth": lambda: _write_small(
        25 * _MINUTE,
        [*plan_every("* * * * *", 22), *plan_every("0 * * * *", 2)],
        target=_limit(20),
    ),
    "crowd at one minute": lambda: _write_small(
        15 * _MINUTE,
        [*plan_every("0 * * * *", 200), *plan_every("* * * * *", 2)],
        target=_limit(50),
    ),
    "everything caught up with": lambda: _write_small(
        40 * _MINUTE,
        plan_every("* * * * *", 6),
        [s.Terminate(at=100.0, down=8 * _MINUTE)],
        target=_limit(12),
        catch_up="all",
        start_within="1h",
    ),
    "held in between": lambda: _write_small(
        20 * _MINUTE,
        plan_every("* * * * *", 15),
        [s.Weather(at=190.0, lasts=130.0, target=0, endpoints=(RUN,), fault=Fault.STATUS, status=401)],
        target=_limit(30),
    ),
    "hanging requests": lambda: _write_small(
        11 * _MINUTE, plan_every("7 * * * *", 100), [_hang(70, 11 * _MINUTE)]
    ),
    "more hang than may wait": lambda: _write_small(
        6 * _MINUTE, plan_every("0 12 * * *", 30), [_hang(30, 3 * _MINUTE)], target=_narrow(4)
    ),
    "slow ledger and few slots": lambda: _write_small(
        8 * _MINUTE,
        plan_every("* * * * *", 6),
        [s.Ledger(at=95.0, lasts=100.0, trouble=Disk.SLOW, took=11.0)],
        target=_narrow(3),
    ),
    "nothing can be planned": lambda: _write_small(
        8 * _MINUTE,
        plan_every("* * * * *", 2),
        [
            s.Look(at=150.0),
            s.Ledger(at=155.0, lasts=60.0, trouble=Disk.SLOW, took=90.0),
            s.Look(at=185.0),
            s.Look(at=470.0),
        ],
    ),
    "empty list for seconds": lambda: _write_small(
        20 * _MINUTE,
        plan_every("* * * * *", 6),
        [s.Vanish(at=at, lasts=2.5, target=0) for at in (299.2, 449.2, 599.2)],
    ),
    "short list for minutes": lambda: _write_small(
        20 * _MINUTE,
        plan_every("*/3 * * * *", 40),
        [s.Vanish(at=300.0, lasts=200.0, target=0, automations=tuple(range(30)))],
    ),
    "short list between polls": lambda: _write_small(
        20 * _MINUTE,
        [*plan_every("* * * * *", 2), *plan_every("0 0 1 1 *", 8), *plan_every("5 12 * * *", 25)],
        [s.Vanish(at=300.0, lasts=200.0, target=0, automations=(3, 4, 5, *range(10, 35)))],
        poll_interval="10m",
    ),
    "prompts of commas": lambda: _write_small(
        10 * _MINUTE,
        plan_every("* * * * *", 13),
        [
            s.Edit(at=200.0 + number / 10, target=0, automation=number, prompt=_COMMAS, enabled=False)
            for number in range(11)
        ],
    ),
    "text with NUL": lambda: _write_small(
        15 * _MINUTE,
        plan_every("* * * * *", 2),
        [
            s.Create(at=60.0, target=0, automation=2, expression=_NUL, timezone="UTC"),
            s.Edit(at=200.0, target=0, automation=1, name="before\0after"),
            s.Weather(at=395.0, lasts=300.0, target=0, endpoints=(LIST,), fault=Fault.RESET_BEFORE),
            s.Kill(at=400.0, dies=Dies.NOW, count=1, down=5.0),
        ],
    ),
    "runs with NUL": lambda: _write_small(
        10 * _MINUTE,
        plan_every("* * * * *", 1),
        target=TargetPlan(page=1000, run_id_start="run\0"),
        calm=_DAY + _HOUR,  # an attempt that nobody can read up on is unresolved after a day
        poll_interval="10m",
    ),
    "rows that are no automations": lambda: _write_small(
        15 * _MINUTE,
        plan_every("* * * * *", 2),
        [
            s.Intrude(at=200.0, lasts=120.0, target=0, row='{"id": 17, "name": "a number"}'),
            s.Intrude(
                at=400.0,
                lasts=120.0,
                target=0,
                row='{"id": null, "name": "a long number", "steps": ' + "7" * 5000 + "}",
            ),
            s.Intrude(at=600.0, lasts=120.0, target=0, row="[" * 200 + "]" * 200),
        ],
    ),
    "strangers, and an automation that is not shown": lambda: _write_small(
        15 * _MINUTE,
        [*plan_every("* * * * *", 2), *plan_every("0 0 1 1 *", 1)],
        [
            s.Intrude(at=100.0, lasts=600.0, target=0, row='{"id": 17, "name": "a number"}'),
            s.Vanish(at=200.0, lasts=400.0, target=0, automations=(2,)),
            s.Delete(at=250.0, target=0, automation=1),
            s.Edit(at=320.0, target=0, automation=2, expression="* * * * *"),
            s.Terminate(at=500.0, down=5.0),
        ],
    ),
    "ranges that wrap": lambda: _write_small(
        75 * _MINUTE,
        [
            *plan_every("50-10/15 * * * *", 1),
            *plan_every("*/10 23-13/2 * * *", 1),
            *plan_every("*/20 * 28-3/3 * *", 1),
            *plan_every("*/20 * * 11-6/7 *", 1),
            *plan_every("*/20 * * * 6-3/2", 1),
        ],
    ),
    "killed while it recovers": lambda: _write_small(
        _DAY + 15 * _MINUTE,
        [*plan_every("* * * * *", 4), *plan_every("*/20 0-9 * * *", 90)],
        [s.Terminate(at=300.0, down=_DAY), _doom(301.0, 1, 2, 3, 4, 5, 5, 5, 6, 7)],
        keep_ledgers=True,
    ),
    "full ledger while it recovers": lambda: _write_small(
        _DAY + 10 * _MINUTE,
        plan_every("*/20 0-9 * * *", 600),
        [
            s.Terminate(at=300.0, down=_DAY),
            s.Weather(at=301.0, lasts=_DAY + 19.0, target=0, endpoints=(LIST,), fault=Fault.RESET_BEFORE),
            _fill(_DAY + 310.0, 60.0),
        ],
        poll_interval="20m",
    ),
    "killed while it records an edit of all": lambda: _write_small(
        12 * _MINUTE,
        plan_every("0 0 1 1 *", 1010),
        [
            *(
                s.Edit(at=320.0, target=0, automation=number, expression=_DAILY)
                for number in range(1010)
                if number not in _LAST
            ),
            *(s.Edit(at=320.0, target=0, automation=number, expression="* * * * *") for number in _LAST),
            s.Terminate(at=321.0, down=5 * _MINUTE),
            _doom(322.0, 1, 2, 3, 4, 5, 6),
        ],
        poll_interval="5m",
    ),
    "the list shows what is gone": lambda: _write_small(
        15 * _MINUTE,
        plan_every("* * * * *", 3),
        [
            s.Weather(
                at=150.0,
                lasts=400.0,
                target=0,
                endpoints=(RUN, RETRIEVE),
                fault=Fault.STATUS,
                status=404,
                automations=(0, 1),
            ),
            s.Vanish(at=400.0, lasts=100.0, target=0, automations=(1,)),
        ],
    ),
    "restarted while the API asks to wait": lambda: _write_small(
        65 * _MINUTE,
        plan_every("* * * * *", 4),
        [
            s.Weather(
                at=190.0,
                lasts=40.0,
                target=0,
                endpoints=ALL,
                fault=Fault.STATUS,
                status=429,
                retry_after="2700",
            ),
            s.Terminate(at=600.0, down=30.0),
            s.Kill(at=1500.0, dies=Dies.NOW, count=1, down=5.0),
        ],
    ),
    "an edit is seen after the request": lambda: _write_small(
        15 * _MINUTE,
        plan_every("*/5 * * * *", 4),
        [
            s.Weather(at=200.0, lasts=500.0, target=0, endpoints=(LIST,), fault=Fault.RESET_BEFORE),
            s.Weather(at=250.0, lasts=600.0, target=0, endpoints=(RUN,), fault=Fault.STATUS, status=302),
            *(s.Edit(at=300.0, target=0, automation=number, expression=_DAILY) for number in range(4)),
        ],
        jitter="2m",
    ),
    "a run is hidden while an attempt is in doubt": lambda: _write_small(
        20 * _MINUTE,
        plan_every("5 12 * * *", 2),
        [
            s.Weather(
                at=350.0, lasts=400.0, target=0, endpoints=(RUN,), fault=Fault.HALF_ANSWER, carried_out=True
            ),
            *(s.Somebody(at=at, target=0, automation=0) for at in (450.0, 520.0)),
            s.Terminate(at=600.0, down=5.0),
        ],
        target=TargetPlan(idempotent=True),
    ),
    "hundreds in doubt after a restart": lambda: _write_small(
        5 * _HOUR,
        plan_every("* * * * *", 1),
        [
            s.Ledger(at=600.0, lasts=4 * _HOUR, trouble=Disk.FSYNC, surfaces=True),
            s.Kill(at=3.5 * _HOUR, dies=Dies.NOW, count=1, down=_HOUR),
        ],
        commit=0.7,
        poll_interval="5m",
    ),
    "settings reloaded by a clock that is ahead": lambda: _write_small(
        15 * _MINUTE,
        plan_every("* * * * *", 4),
        [
            s.Step(at=283.0, seconds=2 * _HOUR, back_after=5 * _MINUTE),
            s.Reload(
                at=570.0,
                schedule={"poll_interval": "30s", "jitter": "5m", "dst_repeat": "twice"},
                policies={},
                zones_missing=frozenset(),
            ),
        ],
        jitter="5m",
    ),
    "changed by commands": lambda: _write_small(
        20 * _MINUTE,
        [*plan_every("* * * * *", 3), *plan_every("0 0 1 1 *", 2)],
        [
            *_change_by_command(
                s.Create(at=250.0, target=0, automation=5, expression="* * * * *", timezone="UTC")
            ),
            *_change_by_command(s.Edit(at=345.0, target=0, automation=3, expression="* * * * *")),
            *_change_by_command(s.Pause(at=455.0, target=0, automation=0, lasts=130.0)),
            *_change_by_command(s.Delete(at=530.0, target=0, automation=1)),
            *(s.Wake(at=700.0 + number / 20) for number in range(200)),
        ],
        poll_interval="2m",
        fresh_for="2m",
    ),
    "restored from a backup": lambda: _write_small(
        25 * _MINUTE,
        [*plan_every("* * * * *", 3), *plan_every("*/10 * * * *", 2), *plan_every("0 0 1 1 *", 1)],
        [s.Backup(at=330.0), s.Restore(at=930.0, down=20.0, paused=90.0)],
    ),
    "late edit": lambda: _write_small(
        3 * _HOUR,
        [*plan_every("* * * * *", 2), *plan_every("*/10 * * * *", 10)],
        [
            s.Weather(at=600.0, lasts=2 * _HOUR, target=0, endpoints=(LIST,), fault=Fault.RESET_BEFORE),
            *(
                s.Edit(at=5000.0 + number, target=0, automation=number, expression="*/7 * * * *")
                for number in range(6)
            ),
        ],
        poll_interval="5m",
    ),
}
"""Stories for every run of the tests."""

LARGE: Final[Mapping[str, Callable[[], Script]]] = {
    "ledger unwritable for hours": lambda: write_script(
        9 * _HOUR, plan_every("* * * * *", 12), [_fill(600.0, 6 * _HOUR)]
    ),
    **{
        f"{count} every minute": lambda count=count: write_script(  # type: ignore[misc]  # a default binds the variable of the loop
            6 * _HOUR,
            plan_every("* * * * *", count),
            target=TargetPlan(page=1000, requests_per_hour=4000),
            loses_nothing=True,
        )
        for count in (51, 55, 64)
    },
    "default budget exceeded by a tenth": lambda: write_script(
        6 * _HOUR, plan_every("* * * * *", 73), target=TargetPlan(page=1000, requests_per_hour=4000)
    ),
    "default budget exceeded by half": lambda: write_script(
        6 * _HOUR, plan_every("* * * * *", 100), target=TargetPlan(page=1000, requests_per_hour=4000)
    ),
    "1000 at one minute": lambda: write_script(
        15 * _MINUTE, [*plan_every("0 * * * *", 1000), *plan_every("* * * * *", 3)], target=_limit(400)
    ),
    "10000 at once": lambda: write_script(10 * _MINUTE, plan_every("0 12 * * *", 10_000)),
    "10000 at once on the default budget": lambda: write_script(
        2 * _HOUR, plan_every("0 12 * * *", 10_000), target=TargetPlan(page=1000, requests_per_hour=4000)
    ),
    "100000 automations": lambda: write_script(
        10 * _MINUTE, [*plan_every("0 12 * * *", 1000), *plan_every("0 0 1 1 *", 99_000)], poll_interval="5m"
    ),
    "a month of downtime": lambda: write_script(
        30 * _DAY + 1.5 * _HOUR, plan_every("* * * * *", 1000), [s.Terminate(at=300.0, down=30 * _DAY)]
    ),
    "a month of downtime, killed again": lambda: write_script(
        30 * _DAY + 1.5 * _HOUR,
        plan_every("* * * * *", 100),
        [s.Terminate(at=300.0, down=30 * _DAY), _doom(301.0, 1, 2, 3, 4, 5, 5, 5, *range(6, 12))],
        keep_ledgers=True,
    ),
    "hanging reads and runs": lambda: write_script(
        41 * _MINUTE,
        plan_every("7-59/15 * * * *", 200),
        [
            _hang(70, 41 * _MINUTE),
            s.Weather(
                at=0.5,
                lasts=41 * _MINUTE,
                target=0,
                endpoints=READS,
                fault=Fault.LOST_REQUEST,
                automations=tuple(range(70)),
            ),
        ],
    ),
}
"""Stories of the promised sizes."""

STORIES: Final[Mapping[str, Callable[[], Script]]] = {**SMALL, **LARGE}
