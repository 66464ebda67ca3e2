"""The explanation of a schedule: description, next fires, clock changes and other cron dialects."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from scheduler.cli.ledger_automations import LedgerAutomation
from scheduler.cli.output import Colour, Json, format_indented_table, style
from scheduler.cli.upcoming_fires import (
    PlannedSchedule,
    UpcomingFire,
    find_upcoming_fires,
    make_columns,
    make_time_json,
)
from scheduler.core.cron.clock_changes import THIRTEEN_MONTHS, ClockChange, Effect, find_clock_changes
from scheduler.core.cron.description import describe_schedule, join_words
from scheduler.core.cron.dialect_difference import Difference
from scheduler.core.cron.dialects import find_differences
from scheduler.core.cron.expression import Expression
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import END_OF_TIME, to_text_seconds
from scheduler.core.terminal_text import to_printable

_EFFECTS: Final[dict[Effect, Colour]] = {
    "untouched": "bright_black",
    "made_up": "yellow",
    "not_fired": "red",
    "first_pass": "yellow",
    "both_passes": "yellow",
}


@dataclass(frozen=True, slots=True)
class ScheduleExplanation:
    """The explanation of a schedule from an instant on."""

    planned_schedule: PlannedSchedule
    after: datetime
    fires: Sequence[UpcomingFire]
    changes: Sequence[ClockChange]
    differences: Sequence[Difference]

    @classmethod
    def compute(cls, planned: PlannedSchedule, after: datetime, count: int) -> "ScheduleExplanation":
        """Compute the explanation, with the next ``count`` fires after an instant."""
        until = min(after, END_OF_TIME - THIRTEEN_MONTHS) + THIRTEEN_MONTHS
        changes = tuple(find_clock_changes(planned.schedule, after, until))
        fires = tuple(find_upcoming_fires([planned], after, count))
        return cls(planned, after, fires, changes, find_differences(planned.schedule, changes))


# ---------------------------------------------------------------- for programs


def make_explanation_json(explanation: ScheduleExplanation) -> Json:
    """Make a line of ``explain --json``."""
    schedule = explanation.planned_schedule.schedule
    return {
        "cron": schedule.expression,
        "timezone": schedule.timezone,
        "invalid": None,
        "words": describe_schedule(schedule),
        "dst_gap": schedule.dst_gap,
        "dst_repeat": schedule.dst_repeat,
        "fires": [make_time_json(fire) for fire in explanation.fires],
        "clock_changes": [_make_change_json(change) for change in explanation.changes],
        "differences": [_make_difference_json(difference) for difference in explanation.differences],
    }


def make_automation_json(automation: LedgerAutomation, after: datetime, count: int) -> Json:
    """Make a line of ``explain --json`` for an automation."""
    row, planned = automation
    if isinstance(planned, InvalidSchedule):
        answer = _make_invalid_json(planned)
    else:
        answer = make_explanation_json(ScheduleExplanation.compute(planned, after, count))
    return {"automation_id": row.automation_id, "name": row.name, "enabled": row.enabled, **answer}


def _make_invalid_json(error: InvalidSchedule) -> Json:
    """Make a line of ``explain --json`` for an invalid schedule."""
    nothing = dict.fromkeys(("words", "dst_gap", "dst_repeat"))
    lists: dict[str, list[object]] = {"fires": [], "clock_changes": [], "differences": []}
    return {"cron": error.expression, "timezone": error.timezone, "invalid": error.reason, **nothing, **lists}


def _make_change_json(change: ClockChange) -> Json:
    """Make the JSON of a clock change.

    Local times have no offset, because the clock skips the times or shows the times twice.
    """
    return {
        "at": to_text_seconds(change.at),
        "clock_goes": "ahead" if change.is_ahead else "back",
        "offset_before": _format_offset(change.before),
        "offset_after": _format_offset(change.after),
        "from": change.begin.isoformat(timespec="seconds"),
        "to": change.end.isoformat(timespec="seconds"),
        "times": [reading.isoformat(timespec="seconds") for reading in change.times],
        "effect": change.effect,
        "fires": [to_text_seconds(instant) for instant in change.fires],
        "words": change.words,
    }


def _make_difference_json(difference: Difference) -> Json:
    """Make the JSON of a difference between cron dialects."""
    elsewhere = [behaviour._asdict() for behaviour in difference.elsewhere]
    return {**asdict(difference), "elsewhere": elsewhere, "words": difference.words}


def _format_offset(offset: timedelta) -> str:
    return datetime(2000, 1, 1, tzinfo=timezone(offset)).isoformat()[19:]


# ---------------------------------------------------------------- for people


def format_explanation(explanation: ScheduleExplanation) -> Iterator[str]:
    """Format an explanation for people."""
    schedule = explanation.planned_schedule.schedule
    yield style(describe_schedule(schedule), "green")
    yield f"  {schedule.expression} in {schedule.timezone}; {_describe_policies(schedule)}"
    yield from _format_fires(explanation)
    yield from _format_changes(explanation)
    yield from _format_differences(explanation.differences)


def format_automation(automation: LedgerAutomation, after: datetime, count: int) -> Iterator[str]:
    """Format the explanation of an automation."""
    row, planned = automation
    yield f"{to_printable(row.name)} ({row.automation_id})"
    if not row.enabled:
        yield style("the automation is disabled: none of these times fires", "yellow")
    if isinstance(planned, InvalidSchedule):
        yield from _format_invalid_schedule(planned)
    else:
        yield from format_explanation(ScheduleExplanation.compute(planned, after, count))


def _format_invalid_schedule(error: InvalidSchedule) -> Iterator[str]:
    """Format the message for an invalid schedule."""
    yield style("the automation has no valid schedule, and never fires", "red")
    yield f"  {to_printable(str(error.expression))} in {to_printable(str(error.timezone))}"
    yield f"  {to_printable(error.reason)}"


def _describe_policies(schedule: Schedule) -> str:
    if Expression.read(schedule.expression).wildcard:
        return "the schedule follows the wall clock, so dst_gap and dst_repeat do not apply"
    return f'dst_gap = "{schedule.dst_gap}", dst_repeat = "{schedule.dst_repeat}"'


def _format_fires(explanation: ScheduleExplanation) -> Iterator[str]:
    yield ""
    yield "next fires" if explanation.fires else "no fire time is left"
    columns = make_columns(explanation.after, [explanation.planned_schedule])
    shown = [column for column in columns if column.title not in {"automation", "zone"}]
    yield from format_indented_table(explanation.fires, shown)


def _format_changes(explanation: ScheduleExplanation) -> Iterator[str]:
    yield ""
    if not explanation.changes:
        yield f"clock changes in 13 months: none in {explanation.planned_schedule.schedule.timezone}"
        return
    yield "clock changes in 13 months"
    for change in explanation.changes:
        yield f"  {style(change.words, _EFFECTS[change.effect])}"


def _format_differences(differences: Sequence[Difference]) -> Iterator[str]:
    yield ""
    yield "in other crons" if differences else "other crons read the expression in the same way"
    for difference in differences:
        yield f"  {difference.here}"
        for other in difference.elsewhere:
            yield "      " + style(f"{join_words(other.dialects)}: {other.does}", "bright_black")
        if difference.instead:
            yield "      " + style(f"write {difference.instead}", "cyan")
