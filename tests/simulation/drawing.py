"""Scripts out of seeds: what a simulation is like, and all that happens in it.

What is drawn leans to where things go wrong: around full minutes, when claims are made and sent; around clock
changes of the zones that the automations are in; and several faults at once.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.simulation import commands
from tests.simulation import script as s
from tests.simulation.load import FIRST_SEED, draw_load
from tests.simulation.network import GARBAGE
from tests.simulation.script import ALL, LIST, READS, RETRIEVE, RUN, Action, Dies, Disk, Fault, Script

_MINUTES: Final = (
    "* * * * *",
    "*/2 * * * *",
    "*/5 * * * *",
    "1-59/3 * * * *",
    "*/10 * * * *",
    "0 * * * *",
    "*/7 * * * *",
    "nonsense",
)
_HOURS: Final = (
    *(
        "*/15 * * * *",
        "0 * * * *",
        "30 * * * *",
        "30 2 * * *",
        "0 1-3 * * *",
        "15,45 0-5 * * *",
        "*/30 1-3 * * *",
    ),
    *("0 9 * * 1-5", "0 0 * * 0", "17 */2 * * *", "0 12 1 * *", "*/20 * * * *", "5 0 * * *", "30 2 31 2 *"),
)
_CHANGES: Final = (
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/St_Johns", datetime(2026, 3, 8, 5, 30, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, 3, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2026, 3, 28, 22, tzinfo=UTC)),
)
_ZONES: Final = (
    "UTC",
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Auckland",
    "America/New_York",
    "Nowhere/Atlantis",
)
_ORDINARY: Final = datetime(2026, 6, 3, 11, 17, 40, tzinfo=UTC)
_LONG_WAITS: Final = 0.08
"""The share of scripts in which the API asks for a long wait."""
_SPANS: Final[Mapping[str, tuple[float, float]]] = {
    "minutes": (500.0, 2700.0),
    "hours": (4 * 3600.0, 30 * 3600.0),
    "weekend": (60 * 3600.0, 64 * 3600.0),
}


def draw(seed: int) -> Script:
    """Draw the script of this seed: always the same one.

    From `load.FIRST_SEED` on it is a world under load, from `commands.FIRST_SEED` on a world of commands.
    """
    if seed >= commands.FIRST_SEED:
        return commands.add_commands(_Drawing(seed).script())
    return draw_load(seed) if seed >= FIRST_SEED else _Drawing(seed).script()


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._seed, self._draw = seed, random.Random(seed)
        self._profile = self._draw.choices(("minutes", "hours", "weekend"), (78, 18, 4))[0]
        self._span = self._draw.uniform(*_SPANS[self._profile])
        self._zone, change = self._draw.choice(_CHANGES) if self._draw.random() < 0.4 else ("UTC", _ORDINARY)
        self._begin = change - timedelta(seconds=round(self._draw.uniform(0, min(self._span, 40000.0))))
        self._targets = 2 if self._draw.random() < 0.15 else 1
        self._count = self._draw.randint(1, 5)
        self._commit = self._draw.choice([0.001, 0.003, 0.003, 0.02, 0.4])

    def script(self) -> Script:
        draw = self._draw
        idempotent = draw.random() < 0.2
        targets = tuple(self._target(idempotent=idempotent) for _ in range(self._targets))
        automations = tuple(
            s.Planned(target=each % self._targets, expression=self._expression(), timezone=self._timezone())
            for each in range(self._count)
        )
        setting = s.Setting(
            begin=self._begin,
            span=self._span,
            targets=targets,
            automations=automations,
            schedule=self._schedule(),
            policies=self._policies(),
            drain=draw.choice(["25s", "1s", "0s"]),
            commit=self._commit,
            zones_missing=frozenset({self._zone} - {"UTC"}) if draw.random() < 0.05 else frozenset(),
        )
        return Script(self._seed, setting, self._actions())

    # ------------------------------------------------------------ settings

    def _target(self, *, idempotent: bool) -> s.TargetPlan:
        draw = self._draw
        return s.TargetPlan(
            idempotent=idempotent,
            page=draw.choice([100, 100, 2, 1]),
            skew=draw.choice([0.0, 0.0, 0.4, -0.7, 3.0, -20.0, 45.0]),
            latency=draw.choice([0.02, 0.1, 0.1, 0.8]),
            run_lasts=draw.choice([(0.005,), (30.0,), (5.0, 90.0), (300.0, None), (20.0, 4000.0)]),
            request_timeout=draw.choice([30.0, 30.0, 5.0]),
            max_in_flight=draw.choice([64, 64, 1, 2]),
            requests_per_minute=draw.choice([400, 400, 400, 60]),
        )

    def _schedule(self) -> Mapping[str, str]:
        draw = self._draw
        polls = ["5s", *["30s"] * 5, "1m", "1m"] if self._profile == "minutes" else ["1m", "5m", "10m"]
        return {
            "poll_interval": draw.choice(polls),
            "fresh_for": draw.choice(["10s", "10s", "0s", "30s"]),
            "settle_time": draw.choice(["30s", "30s", "5s", "60s"]),
            "run_timeout": draw.choice(["24h", "1h", "10m"]),
            "stale_limit": draw.choice(["24h", "24h", "1h"]),
            "dst_gap": draw.choice(["after", "after", "skip"]),
            "dst_repeat": draw.choice(["once", "once", "twice"]),
        }

    def _policies(self) -> Mapping[int, Mapping[str, object]]:
        return {number: self._policy() for number in range(self._count + 3)}

    def _policy(self) -> Mapping[str, object]:
        draw = self._draw
        return {
            "start_within": draw.choice(["auto", "auto", "2m", "9m", "1h"]),
            "catch_up": draw.choice(["latest", "latest", "all", "none"]),
            "concurrency": draw.choice(["allow", "allow", "forbid", "queue"]),
            "jitter": draw.choice(["0s", "0s", "0s", "40s", "5m"]),
            "paused": draw.random() < 0.03,
        }

    def _expression(self) -> str:
        both = _MINUTES if self._profile == "minutes" else (*_HOURS, *_MINUTES[2:5])
        return self._draw.choice(both)

    def _timezone(self) -> str:
        return self._zone if self._draw.random() < 0.6 else self._draw.choice(_ZONES)

    # ------------------------------------------------------------ actions

    def _actions(self) -> tuple[Action, ...]:
        kinds, weights = zip(*self._kinds(), strict=True)
        mildness = self._draw.choice([0.3, 1.0, 1.0])
        number = round(self._draw.randint(3, 45) * mildness)
        drawn = [self._draw.choices(kinds, weights)[0](self._instant()) for _ in range(number)]
        if self._draw.random() < 0.5:
            drawn += [each for _ in range(self._draw.randint(1, 4)) for each in self._ambush(self._instant())]
        drawn += self._long_wait()
        return tuple(sorted(drawn, key=lambda each: each.at))

    def _ambush(self, at: float) -> Sequence[Action]:
        """Around one instant: nobody hears what becomes of a request, and somebody else starts a run just
        before or after.
        """
        draw = self._draw
        number = draw.randrange(self._count)
        target = number % self._targets
        fault = draw.choice(
            [
                Fault.LOST_REQUEST,
                Fault.RESET_BEFORE,
                Fault.RESET_BEFORE,
                Fault.RESET_AFTER,
                Fault.LOST_ANSWER,
                Fault.LATE,
            ]
        )
        minute = self._full_minute(at)
        late = draw.choice([20.0, 45.0, 130.0])
        unheard = s.Weather(
            at=max(0.5, minute - 1.5), lasts=3.0, target=target, endpoints=(RUN,), fault=fault, amount=late
        )
        if draw.random() < 0.5:
            after = minute + draw.choice([-1.5, -0.5, 0.05, 0.5, 5.0, 31.0, 70.0])
            return unheard, s.Somebody(at=max(0.5, after), target=target, automation=number)
        before = minute - draw.choice([25.0, 9.0, 6.0])
        blind = s.Weather(
            at=max(0.5, minute - 40.0), lasts=41.0, target=target, endpoints=(LIST,), fault=Fault.RESET_BEFORE
        )
        return blind, unheard, s.Somebody(at=max(0.5, before), target=target, automation=number)

    def _long_wait(self) -> Sequence[Action]:
        """In some scripts: the API asks for a long wait, and the daemon is restarted before the end of the
        wait.

        From a generator of its own, so that everything else of a seed stays as it was.
        """
        draw = random.Random(f"{self._seed}/long wait")
        if draw.random() >= _LONG_WAITS:
            return ()
        at, lasts = draw.uniform(1.0, 0.5 * self._span), draw.choice([1.0, 65.0])
        seconds = draw.uniform(90.0, max(0.9 * (self._span - at - lasts), 100.0))
        restart = at + draw.uniform(0.1, 1.0) * seconds
        endpoints = draw.choice([(RUN,), (LIST,), (RETRIEVE,), ALL])
        refused = s.Weather(
            at=at,
            lasts=lasts,
            target=draw.randrange(self._targets),
            endpoints=endpoints,
            fault=Fault.STATUS,
            status=429,
            retry_after=f"{seconds:.0f}",
        )
        if draw.random() < 0.5:
            return refused, s.Terminate(at=restart, down=draw.choice([0.5, 70.0]))
        return refused, s.Kill(at=restart, dies=Dies.NOW, count=1, down=draw.choice([0.5, 70.0]))

    def _full_minute(self, at: float) -> float:
        offset = self._begin.second + self._begin.microsecond / 1e6
        return (at + offset) // 60 * 60 - offset

    def _kinds(self) -> Sequence[tuple[Callable[[float], Action], int]]:
        return (
            (self._weather, 30),
            (self._edit, 12),
            (self._create, 3),
            (self._delete, 3),
            (self._broken, 1),
            (self._somebody, 4),
            (self._ledger, 8),
            (self._step, 4),
            (self._suspend, 3),
            (self._kill, 14),
            (self._terminate, 4),
            (self._second, 2),
            (self._reload, 3),
            (self._pause, 4),
        )

    def _instant(self) -> float:
        """Anywhere, or just before or after a full minute."""
        draw = self._draw
        at = draw.uniform(1.0, self._span)
        if draw.random() < 0.5:
            at = max(
                1.0, self._full_minute(at) + draw.choice([-1.0, 0.0, draw.uniform(-3, 3), draw.gauss(0, 0.3)])
            )
        return round(at, 3)

    def _lasts(self) -> float:
        draw = self._draw
        mean = draw.choice(
            [5.0, 40.0, 40.0, 200.0] if self._profile == "minutes" else [60.0, 600.0, 7200.0, 30000.0]
        )
        return round(min(draw.expovariate(1 / mean), 26 * 3600.0) + 0.5, 3)

    def _which(self) -> tuple[int, int]:
        number = self._draw.randrange(self._count + 2)
        return number % self._targets, number

    def _weather(self, at: float) -> Action:
        draw = self._draw
        fault = draw.choice(list(Fault))
        endpoints = draw.choice([(RUN,), (RUN,), (LIST,), (RETRIEVE,), READS, ALL])
        if fault in {Fault.LAGGING, Fault.SHORT_PAGE, Fault.SHIFTING}:
            endpoints = READS
        status, retry_after, carried_out, amount = 0, None, draw.random() < 0.5, 0.0
        match fault:
            case Fault.STATUS:
                status = draw.choice(
                    [302, 400, 401, 403, 404, 404, 408, 409, 425, 429, 429, 500, 502, 503, 504, 422]
                )
                carried_out = carried_out and (status >= 500 or status in {408, 425})
                retry_after = (
                    draw.choice([None, "5", "20", "90", "0", "soon"]) if status in {429, 503} else None
                )
            case Fault.GARBAGE:
                amount = draw.randrange(GARBAGE)
            case Fault.LATE:
                amount = draw.choice([3.0, 20.0, 45.0, 70.0, 150.0, 900.0])
            case Fault.SLOW:
                amount = draw.choice([0.5, 4.0, 12.0])
            case Fault.LAGGING:
                amount = draw.choice([0.5, 2.0, 10.0, 25.0])
        return s.Weather(
            at=at,
            lasts=self._lasts(),
            target=draw.randrange(self._targets),
            endpoints=endpoints,
            fault=fault,
            chance=draw.choice([1.0, 1.0, 0.5, 0.2]),
            status=status,
            carried_out=carried_out,
            retry_after=retry_after,
            amount=amount,
        )

    def _edit(self, at: float) -> Action:
        target, number = self._which()
        draw = self._draw
        return draw.choice(
            [
                s.Edit(at=at, target=target, automation=number, enabled=False),
                s.Edit(at=at, target=target, automation=number, enabled=True),
                s.Edit(at=at, target=target, automation=number, enabled=True),
                s.Edit(at=at, target=target, automation=number, expression=self._expression()),
                s.Edit(at=at, target=target, automation=number, expression=self._expression()),
                s.Edit(at=at, target=target, automation=number, timezone=self._timezone()),
                s.Edit(at=at, target=target, automation=number, name=f"name {draw.randrange(3)}"),
            ]
        )

    def _create(self, at: float) -> Action:
        target, number = self._which()
        return s.Create(
            at=at, target=target, automation=number, expression=self._expression(), timezone=self._timezone()
        )

    def _delete(self, at: float) -> Action:
        target, number = self._which()
        return s.Delete(at=at, target=target, automation=number)

    def _broken(self, at: float) -> Action:
        target, number = self._which()
        return s.Break(at=at, lasts=self._lasts(), target=target, automation=number)

    def _somebody(self, at: float) -> Action:
        target, number = self._which()
        return s.Somebody(at=at, target=target, automation=number)

    def _ledger(self, at: float) -> Action:
        draw = self._draw
        trouble = draw.choice(list(Disk))
        return s.Ledger(
            at=at,
            lasts=self._lasts(),
            trouble=trouble,
            reads=trouble is not Disk.SLOW and draw.random() < 0.2,
            surfaces=draw.random() < 0.5,
            took=draw.choice([0.3, 2.0, 9.0]),
        )

    def _step(self, at: float) -> Action:
        draw = self._draw
        seconds = draw.choice([5.0, 50.0, 90.0, 7200.0, -5.0, -50.0, -90.0, -3700.0])
        return s.Step(at=at, seconds=seconds, back_after=draw.choice([None, 0.5, 20.0, 300.0]))

    def _suspend(self, at: float) -> Action:
        return s.Suspend(at=at, seconds=self._draw.choice([3.0, 11.0, 100.0, 1500.0, 9000.0]))

    def _kill(self, at: float) -> Action:
        draw = self._draw
        dies = draw.choice([s.Dies.NOW, s.Dies.AT_A_STEP, s.Dies.AT_A_STEP, *s.Dies])
        count = draw.randint(1, 400) if dies is s.Dies.AT_A_STEP else draw.randint(1, 4)
        return s.Kill(at=at, dies=dies, count=count, down=self._down())

    def _down(self) -> float:
        draw = self._draw
        if self._profile == "minutes":
            return draw.choice([0.0, 0.5, 5.0, 45.0, 70.0, 400.0])
        return draw.choice(
            [0.0, 2.0, 70.0, 3600.0, 9000.0, 50 * 3600.0 if self._profile == "weekend" else 20000.0]
        )

    def _terminate(self, at: float) -> Action:
        return s.Terminate(at=at, down=self._down())

    def _second(self, at: float) -> Action:
        return s.Second(at=at)

    def _reload(self, at: float) -> Action:
        missing = frozenset({self._zone} - {"UTC"}) if self._draw.random() < 0.1 else frozenset[str]()
        return s.Reload(at=at, schedule=self._schedule(), policies=self._policies(), zones_missing=missing)

    def _pause(self, at: float) -> Action:
        target, number = self._which()
        return s.Pause(
            at=at, target=target, automation=self._draw.choice([None, number, number]), lasts=self._lasts()
        )
