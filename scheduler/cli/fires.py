"""Coming fires, of one schedule or of many: as values, as JSON, and as columns of a table."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from scheduler.cli.output import Column, Json, detail_column, name_column, text_column
from scheduler.cli.times import LAST, local_text, span_text
from scheduler.core.cron import InvalidSchedule, Note, Schedule
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.policy import Policies, due_of
from scheduler.core.zones import ADVICE, find_near, zone

if TYPE_CHECKING:
    from scheduler.settings.models import ScheduleSettings

_NO_JITTER: Final = Policies()
_NOTES: Final[dict[Note, str]] = {
    "after_gap": "makes up for a time that the clock change skips",
    "first_pass": "first pass of a time that the clock change repeats",
    "second_pass": "second pass of a time that the clock change repeats",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be evaluated: a schedule, and whose it is if it is an automation's. ``policies``: of the automation."""

    schedule: Schedule
    automation_id: str | None = None
    name: str | None = None
    target: str = ""
    policies: Policies = _NO_JITTER

    @classmethod
    def of(cls, cron: str, timezone: str, settings: "ScheduleSettings") -> "Planned":
        """An expression in a zone, under the configured policies at clock changes.

        Raises `InvalidSchedule`, which names zones like one that does not exist.
        """
        try:
            return cls(Schedule.parse(cron, timezone, dst_gap=settings.dst_gap, dst_repeat=settings.dst_repeat))
        except InvalidSchedule as error:
            raise InvalidSchedule(cron, timezone, _with_suggestion(error.reason, timezone)) from None


@dataclass(frozen=True, slots=True)
class Fire:
    """One coming fire."""

    planned: Planned
    scheduled_for: datetime

    @property
    def local(self) -> datetime:
        """When that is on the wall in the schedule's zone."""
        return self.scheduled_for.astimezone(zone(self.planned.schedule.timezone))

    @property
    def due(self) -> datetime | None:
        """When it is due, by the jitter of its automation; None for an expression, which has none."""
        planned = self.planned
        if planned.automation_id is None:
            return None
        return due_of(planned.policies, planned.target, planned.automation_id, planned.schedule, self.scheduled_for)

    @property
    def note(self) -> Note | None:
        """What a clock change has to do with it."""
        return self.planned.schedule.note(self.scheduled_for)


def _with_suggestion(reason: str, timezone: str) -> str:
    """Return the reason with the names of zones like the one that is unknown, in place of the advice where to look names up."""
    near = find_near(timezone) if reason.endswith(ADVICE) else []
    return f"{reason.removesuffix(ADVICE)}did you mean {' or '.join(map(repr, near))}?" if near else reason


def coming(planned: Iterable[Planned], after: datetime, count: int) -> Iterator[Fire]:
    """The next fires after an instant, of all schedules together, the earliest first."""
    merged = heapq.merge(*(_of_one(one, after) for one in planned), key=lambda fire: fire.scheduled_for)
    return islice(merged, count)


def _of_one(planned: Planned, after: datetime) -> Iterator[Fire]:
    return (Fire(planned, instant) for instant in planned.schedule.between(after, LAST))


def fire_json(fire: Fire) -> Json:
    """A fire as a line of ``next --json``."""
    whose = {"automation_id": fire.planned.automation_id, "name": fire.planned.name} if fire.planned.automation_id else {}
    return {**whose, **time_json(fire)}


def time_json(fire: Fire) -> Json:
    """When a fire is scheduled and due."""
    return {
        "scheduled_for": to_text_seconds(fire.scheduled_for),
        "due": None if fire.due is None else to_text(fire.due),
        "local": fire.local.isoformat(timespec="seconds"),
        "timezone": fire.planned.schedule.timezone,
        "note": fire.note,
    }


def have_jitter(planned: Iterable[Planned]) -> bool:
    """Whether any fire may be due later than at its instant."""
    return any(each.policies.jitter for each in planned)


def _due_text(fire: Fire) -> str:
    return "" if fire.due is None else f"{fire.due.astimezone(fire.local.tzinfo):%H:%M:%S}"


def columns(now: datetime, *, named: bool, jitter: bool = False) -> list[Column[Fire]]:
    """The columns of ``next`` for people. ``jitter``: with the due time, in the zone of the local time."""
    due = [Column[Fire]("due", _due_text)] if jitter else []
    names = [name_column("automation", _name)] if named else []
    return [
        *names,
        Column("local", lambda fire: local_text(fire.local)),
        *due,
        detail_column("UTC", lambda fire: to_text_seconds(fire.scheduled_for)),
        Column("zone", lambda fire: fire.planned.schedule.timezone, rank=8),
        Column("in", lambda fire: span_text(fire.scheduled_for - now)),
        text_column("note", lambda fire: _NOTES[fire.note] if fire.note else ""),
    ]


def _name(fire: Fire) -> str:
    return fire.planned.name or ""
