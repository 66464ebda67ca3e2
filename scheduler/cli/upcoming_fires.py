"""The upcoming fires of one or many schedules: as values, as JSON, and as table columns."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from scheduler.cli.output import Column, Json
from scheduler.cli.times import format_local_time, format_timedelta
from scheduler.core.cron.schedule import FireNote, InvalidSchedule, Schedule
from scheduler.core.cron.zones import ADVICE, find_similar_names, load_zone
from scheduler.core.instants import END_OF_TIME, to_optional_text, to_text_seconds
from scheduler.core.policy import Policies, compute_due
from scheduler.settings.models import ScheduleSettings

_NOTES: Final[dict[FireNote, str]] = {
    "after_gap": "in place of a time that the clock change skips",
    "first_pass": "first pass of a time that the clock change repeats",
    "second_pass": "second pass of a time that the clock change repeats",
}


@dataclass(frozen=True, slots=True)
class PlannedSchedule:
    """A schedule to evaluate, with its automation and the policies of the automation, if any."""

    schedule: Schedule
    automation_id: str = ""
    name: str = ""
    target: str = ""
    policies: Policies | None = None

    def list_fires(self, after: datetime) -> "Iterator[UpcomingFire]":
        """Yield the fires after an instant."""
        return (UpcomingFire(self, at) for at in self.schedule.iterate_between(after, END_OF_TIME))


@dataclass(frozen=True, slots=True)
class UpcomingFire:
    """An upcoming fire."""

    planned_schedule: PlannedSchedule
    scheduled_for: datetime

    @property
    def local(self) -> datetime:
        """The local time of the fire, in the schedule's zone."""
        return self.scheduled_for.astimezone(load_zone(self.planned_schedule.schedule.timezone))

    @property
    def due(self) -> datetime | None:
        """The due instant, with the automation's jitter; None for an expression without an automation."""
        planned = self.planned_schedule
        if planned.policies is None:
            return None
        return compute_due(
            planned.policies, planned.target, planned.automation_id, planned.schedule, self.scheduled_for
        )

    @property
    def note(self) -> FireNote | None:
        """The effect of a clock change on the fire; None without an effect."""
        return self.planned_schedule.schedule.find_note(self.scheduled_for)


def parse_schedule(cron: str, timezone: str, settings: ScheduleSettings) -> Schedule:
    """Parse an expression in a zone, with the configured policies at clock changes.

    Raises `InvalidSchedule`, with similar names for an unknown zone.
    """
    try:
        return Schedule.parse(cron, timezone, dst_gap=settings.dst_gap, dst_repeat=settings.dst_repeat)
    except InvalidSchedule as error:
        raise InvalidSchedule(cron, timezone, _add_suggestion(error.reason, timezone)) from None


def _add_suggestion(reason: str, timezone: str) -> str:
    """Return the reason, with similar zone names instead of the advice where to look up names."""
    near = find_similar_names(timezone) if reason.endswith(ADVICE) else []
    return f"{reason.removesuffix(ADVICE)}did you mean {' or '.join(map(repr, near))}?" if near else reason


def find_upcoming_fires(
    planned: Iterable[PlannedSchedule], after: datetime, count: int
) -> Iterator[UpcomingFire]:
    """Find the next fires after an instant, of all schedules together, the earliest first."""
    fires = [schedule.list_fires(after) for schedule in planned]
    return islice(heapq.merge(*fires, key=lambda fire: fire.scheduled_for), count)


def make_fire_json(fire: UpcomingFire) -> Json:
    """Make a line of ``next --json``."""
    planned = fire.planned_schedule
    identity = {"automation_id": planned.automation_id, "name": planned.name}
    return {**(identity if planned.automation_id else {}), **make_time_json(fire)}


def make_time_json(fire: UpcomingFire) -> Json:
    """Make the JSON of a fire's scheduled and due instants."""
    return {
        "scheduled_for": to_text_seconds(fire.scheduled_for),
        "due": to_optional_text(fire.due),
        "local": fire.local.isoformat(timespec="seconds"),
        "timezone": fire.planned_schedule.schedule.timezone,
        "note": fire.note,
    }


def _format_due(fire: UpcomingFire) -> str:
    return "" if fire.due is None else f"{fire.due.astimezone(fire.local.tzinfo):%H:%M:%S}"


def make_columns(now: datetime, planned: Sequence[PlannedSchedule]) -> list[Column[UpcomingFire]]:
    """Make the columns of ``next`` for people.

    Only automations have a name. With jitter, there is the due time, in the zone of the local time.
    """
    named = any(schedule.automation_id for schedule in planned)
    jitter = any(schedule.policies and schedule.policies.jitter for schedule in planned)
    columns: list[Column[UpcomingFire]] = [
        Column.make_name("automation", lambda fire: fire.planned_schedule.name),
        Column("local", lambda fire: format_local_time(fire.local)),
        Column("due", _format_due),
        Column.make_detail("UTC", lambda fire: to_text_seconds(fire.scheduled_for)),
        Column("zone", lambda fire: fire.planned_schedule.schedule.timezone, rank=8),
        Column("in", lambda fire: format_timedelta((fire.due or fire.scheduled_for) - now)),
        Column.make_text("note", lambda fire: _NOTES[fire.note] if fire.note else ""),
    ]
    hidden = {title for title, is_shown in (("automation", named), ("due", jitter)) if not is_shown}
    return [column for column in columns if column.title not in hidden]
