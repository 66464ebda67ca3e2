"""Worlds under load, out of seeds of their own: budgets that bind, crowds, hanging servers, short lists, long
downtimes, strange text.

Apart from `drawing`, whose seeds stay what they are. The seeds from `FIRST_SEED` on are these.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.simulation import script as s
from tests.simulation.script import (
    ALL,
    LIST,
    READS,
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

FIRST_SEED: Final = 1_000_000
_NOON: Final = datetime(2026, 6, 3, 12, tzinfo=UTC)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_OFTEN: Final = ("* * * * *", "* * * * *", "*/2 * * * *", "*/5 * * * *", "1-59/3 * * * *")
_SELDOM: Final = ("*/5 * * * *", "0 * * * *", "*/10 * * * *", "30 */2 * * *", "0 9 * * *", "* * * * *")
_STRANGE: Final = (
    '{"id": 17, "name": "a number"}',
    '{"id": "no UUID", "name": "a text"}',
    '{"id": null, "steps": ' + "7" * 5000 + "}",
    '{"id": "00000000-0000-4000-8000-000000000000", "name": "no schedule"}',
    "[" * 150 + "]" * 150,
    "null",
    '"' + "," * 300_000 + '"',
)


def draw_load(seed: int) -> Script:
    """Draw the script of this seed: always the same."""
    return _Load(seed).script()


class _Load:
    def __init__(self, seed: int) -> None:
        self._seed, self._draw = seed, random.Random(f"load {seed}")
        kinds: Mapping[Callable[[], Script], int] = {
            self._budget: 6,
            self._crowd: 3,
            self._hang: 4,
            self._vanish: 4,
            self._downtime: 5,
            self._strangers: 3,
        }
        (self._kind,) = self._draw.choices(list(kinds), list(kinds.values()))

    def script(self) -> Script:
        return self._kind()

    # ------------------------------------------------------------ kinds of worlds

    def _budget(self) -> Script:
        """Automations that ask for more requests than there are, or for nearly as many."""
        draw = self._draw
        automations = self._plan(draw.randint(8, 60), _OFTEN)
        demand = sum(60 / _minutes_between(each.expression) for each in automations)  # fires in an hour
        per_hour = max(30, round(demand / draw.choice([0.7, 0.9, 1.0, 1.1, 1.5, 3.0])))
        per_minute = draw.choice([max(30, per_hour // 60), max(30, per_hour // 30), 10_000])
        limits = {
            "requests_per_minute": per_minute,
            "requests_per_hour": draw.choice([per_hour, per_hour, 100_000]),
        }
        span = draw.uniform(15, 50) * _MINUTE
        return self._write(
            span, automations, self._troubles(span, draw.choice([0, 0, 1, 3])), self._target(**limits)
        )

    def _crowd(self) -> Script:
        """Many automations that are due at the same minute, and a few that are due often."""
        draw = self._draw
        crowd = self._plan(draw.randint(60, 250), (draw.choice(["0 * * * *", "5 * * * *", "*/20 * * * *"]),))
        automations = [*crowd, *self._plan(draw.randint(0, 6), _OFTEN)]
        span = draw.uniform(10, 30) * _MINUTE
        target = self._target(
            requests_per_minute=draw.choice([40, 100, 400, 10_000]), max_in_flight=draw.choice([64, 64, 8])
        )
        return self._write(span, automations, self._troubles(span, draw.choice([0, 0, 2])), target)

    def _hang(self) -> Script:
        """Requests about some automations are never answered."""
        draw = self._draw
        automations = self._plan(draw.randint(20, 120), ("7-59/15 * * * *", "*/10 * * * *", "* * * * *"))
        span = draw.uniform(15, 30) * _MINUTE
        hanging = tuple(
            draw.sample(range(len(automations)), draw.randint(1, max(1, len(automations) * 2 // 3)))
        )
        weather = s.Weather(
            at=draw.uniform(1.0, 300.0),
            lasts=draw.uniform(200.0, span),
            target=0,
            endpoints=draw.choice([(RUN,), (RUN,), ALL]),
            fault=draw.choice([Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.LATE]),
            amount=draw.choice([20.0, 45.0, 150.0]),
            automations=hanging,
        )
        target = self._target(max_in_flight=draw.choice([64, 64, 64, 16]))
        return self._write(
            span, automations, [weather, *self._troubles(span, draw.choice([0, 0, 1]))], target
        )

    def _vanish(self) -> Script:
        """The list comes back empty or short, for seconds or minutes; some automations are really deleted."""
        draw = self._draw
        automations = self._plan(draw.randint(2, 50), _OFTEN)
        span = draw.uniform(15, 40) * _MINUTE
        actions: list[Action] = []
        for _ in range(draw.randint(1, 5)):
            which = tuple(draw.sample(range(len(automations)), draw.randint(1, len(automations))))
            lasts = draw.choice([2.5, 2.5, 20.0, 31.0, 70.0, 200.0])
            at = draw.choice(
                [draw.uniform(30.0, span), draw.randrange(60, int(span), 30) - draw.uniform(0.0, 12.0)]
            )
            actions.append(s.Vanish(at=at, lasts=lasts, target=0, automations=draw.choice([which, ()])))
        deletions = [
            s.Delete(at=draw.uniform(30.0, span), target=0, automation=draw.randrange(len(automations)))
            for _ in range(draw.randint(0, 4))
        ]
        return self._write(
            span,
            automations,
            [*actions, *deletions, *self._troubles(span, draw.choice([0, 1, 2]))],
            self._target(),
        )

    def _downtime(self) -> Script:
        """Hours to a month without a process, or without a ledger, or without a list; and kills while it
        recovers.
        """
        draw = self._draw
        down = draw.choice([2 * _HOUR, 9 * _HOUR, 30 * _HOUR, 4 * _DAY, 30 * _DAY])
        automations = self._plan(draw.randint(2, 12), _SELDOM)
        begin = draw.uniform(200.0, 2000.0)
        actions: list[Action] = [self._absence(begin, down)]
        actions += [
            self._edit(begin + draw.uniform(0.0, down), len(automations)) for _ in range(draw.randint(0, 5))
        ]
        at = begin + down + draw.uniform(0.5, 3.0)
        dies = draw.choice([Dies.AFTER_A_COMMIT, Dies.AFTER_A_COMMIT, Dies.BEFORE_A_COMMIT, Dies.AT_A_STEP])
        most = 300 if dies is Dies.AT_A_STEP else 9
        actions.append(
            s.Doom(
                at=begin + 1.0,
                dies=dies,
                counts=tuple(sorted(draw.randint(1, most) for _ in range(draw.randint(0, 6)))),
            )
        )
        if draw.random() < 0.3:
            actions.append(
                s.Kill(at=at, dies=dies, count=draw.randint(1, most), down=draw.choice([0.0, 0.5, 3.0]))
            )
        jitter = draw.choice(["0s", "0s", "40s", "10m"])
        policies = {
            "jitter": jitter,
            "catch_up": draw.choice(
                ["latest", "latest", "none", "all"] if down < _DAY else ["latest", "none"]
            ),
        }
        poll = "30s" if down < _DAY else "10m"
        return self._write(
            at + 20 * _MINUTE,
            automations,
            actions,
            self._target(),
            keep_ledgers=True,
            poll_interval=poll,
            **policies,
        )

    def _strangers(self) -> Script:
        """Objects and texts that nobody should send."""
        draw = self._draw
        automations = [
            *self._plan(draw.randint(2, 6), _OFTEN),
            *self._plan(1, ("* * * * *\0", "* * * * *\0 too", "\0* * * * *")),
        ]
        span = draw.uniform(10, 25) * _MINUTE
        actions: list[Action] = []
        for _ in range(draw.randint(1, 4)):
            row = draw.choice(_STRANGE)
            actions.append(
                s.Intrude(at=draw.uniform(5.0, span), lasts=draw.choice([40.0, 200.0]), target=0, row=row)
            )
        if draw.random() < 0.6:
            name = draw.choice(["a\0b", "\0", "x" * 5000])
            actions.append(
                s.Edit(
                    at=draw.uniform(5.0, span),
                    target=0,
                    automation=draw.randrange(len(automations)),
                    name=name,
                )
            )
        if draw.random() < 0.7:
            at = draw.uniform(60.0, span)
            actions.append(s.Kill(at=at, dies=Dies.NOW, count=1, down=draw.choice([0.5, 90.0])))
            actions.append(
                s.Weather(at=at, lasts=200.0, target=0, endpoints=(LIST,), fault=Fault.RESET_BEFORE)
            )
        return self._write(span, automations, actions, self._target())

    # ------------------------------------------------------------ parts

    def _plan(self, count: int, expressions: Sequence[str]) -> list[Planned]:
        return [
            Planned(target=0, expression=self._draw.choice(expressions), timezone="UTC") for _ in range(count)
        ]

    def _target(self, **fields: object) -> TargetPlan:
        draw = self._draw
        roomy = {"requests_per_minute": 10_000, "requests_per_hour": 200_000}
        drawn = {
            "idempotent": draw.random() < 0.2,
            "latency": draw.choice([0.02, 0.05, 0.2]),
            "run_lasts": (draw.choice([5.0, 30.0]),),
        }
        return TargetPlan(page=draw.choice([1000, 1000, 1000, 100]), **{**roomy, **drawn, **fields})  # type: ignore[arg-type]  # as drawn

    def _absence(self, begin: float, down: float) -> Action:
        draw = self._draw
        return draw.choice(
            [
                s.Terminate(at=begin, down=down),
                s.Terminate(at=begin, down=down),
                s.Kill(at=begin, dies=Dies.NOW, count=1, down=down),
                s.Ledger(at=begin, lasts=min(down, 5 * _HOUR), trouble=draw.choice([Disk.FULL, Disk.LOCKED])),
                s.Weather(
                    at=begin,
                    lasts=min(down, 20 * _HOUR),
                    target=0,
                    endpoints=(LIST,),
                    fault=Fault.RESET_BEFORE,
                ),
            ]
        )

    def _edit(self, at: float, count: int) -> Action:
        draw = self._draw
        number = draw.randrange(count)
        if draw.random() < 0.4:
            return s.Edit(at=at, target=0, automation=number, enabled=draw.random() < 0.5)
        return s.Edit(at=at, target=0, automation=number, expression=draw.choice(_SELDOM))

    def _troubles(self, span: float, count: int) -> list[Action]:
        return [self._trouble(self._draw.uniform(30.0, span)) for _ in range(count)]

    def _trouble(self, at: float) -> Action:
        draw = self._draw
        lasts = draw.choice([5.0, 40.0, 150.0])
        status = draw.choice([429, 500, 503])
        return draw.choice(
            [
                s.Kill(at=at, dies=Dies.NOW, count=1, down=draw.choice([0.0, 5.0, 200.0])),
                s.Terminate(at=at, down=draw.choice([0.0, 5.0, 200.0])),
                s.Ledger(
                    at=at,
                    lasts=lasts,
                    trouble=draw.choice([Disk.FULL, Disk.SLOW]),
                    took=draw.choice([0.3, 2.0]),
                ),
                s.Weather(
                    at=at,
                    lasts=lasts,
                    target=0,
                    endpoints=ALL,
                    fault=Fault.STATUS,
                    status=status,
                    retry_after="20",
                ),
                s.Weather(
                    at=at, lasts=lasts, target=0, endpoints=(RUN,), fault=Fault.RESET_BEFORE, chance=0.5
                ),
                s.Weather(at=at, lasts=lasts, target=0, endpoints=READS, fault=Fault.SLOW, amount=4.0),
                s.Suspend(at=at, seconds=draw.choice([11.0, 100.0])),
            ]
        )

    def _write(
        self,
        span: float,
        automations: Sequence[Planned],
        actions: Sequence[Action],
        target: TargetPlan,
        *,
        keep_ledgers: bool = False,
        **schedule: str,
    ) -> Script:
        draw = self._draw
        setting = Setting(
            begin=_NOON - timedelta(seconds=draw.uniform(20.0, 200.0)),
            span=span,
            targets=(target,),
            automations=tuple(automations),
            schedule={
                "poll_interval": draw.choice(["30s", "30s", "1m", "5s" if span < _HOUR else "30s"]),
                **schedule,
            },
            policies={},
            keep_ledgers=keep_ledgers,
        )
        return Script(self._seed, setting, tuple(sorted(actions, key=lambda action: action.at)))


def _minutes_between(expression: str) -> int:
    """Return how many minutes lie between two fires of one of `_OFTEN`."""
    step = expression.split(" ", 1)[0].partition("/")[2]
    return int(step or 1)
