"""What there is to say of a schedule: its words, its next fires, the clock changes ahead, and what other crons make of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from scheduler.cli.fires import Fire, Planned, columns, coming, have_jitter, time_json
from scheduler.cli.output import Colour, Json, styled, table, terminal_width
from scheduler.cli.recorded import Recorded
from scheduler.core.changes import THIRTEEN_MONTHS, ClockChange, Effect, clock_changes
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.dialects import differences
from scheduler.core.difference import Difference
from scheduler.core.expression import Expression
from scheduler.core.instants import to_text_seconds
from scheduler.core.printable import escaped
from scheduler.core.words import in_words, joined

_END: Final = datetime.max.replace(tzinfo=UTC)
_EFFECTS: Final[dict[Effect, Colour]] = {
    "untouched": "bright_black",
    "made_up": "yellow",
    "not_fired": "red",
    "first_pass": "yellow",
    "both_passes": "yellow",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A schedule from an instant on."""

    planned: Planned
    after: datetime
    fires: Sequence[Fire]
    changes: Sequence[ClockChange]
    differences: Sequence[Difference]

    @classmethod
    def of(cls, planned: Planned, after: datetime, count: int) -> "Explanation":
        """With its next ``count`` fires after an instant."""
        changes = tuple(clock_changes(planned.schedule, after, min(after, _END - THIRTEEN_MONTHS) + THIRTEEN_MONTHS))
        fires = tuple(coming([planned], after, count))
        return cls(planned, after, fires, changes, differences(planned.schedule, changes))


# ---------------------------------------------------------------- for programs


def explanation_json(explanation: Explanation) -> Json:
    """A line of ``explain --json``."""
    schedule = explanation.planned.schedule
    return {
        "cron": schedule.expression,
        "timezone": schedule.timezone,
        "invalid": None,
        "words": in_words(schedule),
        "dst_gap": schedule.dst_gap,
        "dst_repeat": schedule.dst_repeat,
        "fires": [time_json(fire) for fire in explanation.fires],
        "clock_changes": [change_json(change) for change in explanation.changes],
        "differences": [difference_json(difference) for difference in explanation.differences],
    }


def recorded_json(recorded: Recorded, after: datetime, count: int) -> Json:
    """A line of ``explain --json`` for an automation."""
    whose = {"automation_id": recorded.automation_id, "name": recorded.name, "enabled": recorded.enabled}
    if isinstance(recorded.schedule, InvalidSchedule):
        return {**whose, **_invalid_json(recorded.schedule)}
    return {**whose, **explanation_json(Explanation.of(recorded.plan(recorded.schedule), after, count))}


def _invalid_json(error: InvalidSchedule) -> Json:
    """The same of what is no schedule."""
    nothing = dict.fromkeys(("words", "dst_gap", "dst_repeat"))
    lists: dict[str, list[object]] = {"fires": [], "clock_changes": [], "differences": []}
    return {"cron": error.expression, "timezone": error.timezone, "invalid": error.reason, **nothing, **lists}


def change_json(change: ClockChange) -> Json:
    """A clock change; its local times are without an offset, since they are skipped or shown twice."""
    return {
        "at": to_text_seconds(change.at),
        "clock_goes": "ahead" if change.ahead else "back",
        "offset_before": _offset(change.before),
        "offset_after": _offset(change.after),
        "from": change.begin.isoformat(timespec="seconds"),
        "to": change.end.isoformat(timespec="seconds"),
        "times": [each.isoformat(timespec="seconds") for each in change.times],
        "effect": change.effect,
        "fires": [to_text_seconds(each) for each in change.fires],
        "words": change.words,
    }


def difference_json(difference: Difference) -> Json:
    """A difference between crons."""
    return {
        "code": difference.code,
        "here": difference.here,
        "elsewhere": [{"dialects": list(other.dialects), "does": other.does} for other in difference.elsewhere],
        "instead": difference.instead,
        "words": difference.words,
    }


def _offset(offset: timedelta) -> str:
    return datetime(2000, 1, 1, tzinfo=timezone(offset)).isoformat()[19:]


# ---------------------------------------------------------------- for people


def lines(explanation: Explanation) -> Iterator[str]:
    """What is printed of it."""
    schedule = explanation.planned.schedule
    yield styled(in_words(schedule), "green")
    yield f"  {schedule.expression} in {schedule.timezone}; {_policies(schedule)}"
    yield from _fires(explanation)
    yield from _changes(explanation)
    yield from _differences(explanation.differences)


def recorded_lines(recorded: Recorded, after: datetime, count: int, *, first: bool) -> Iterator[str]:
    """What is printed of an automation; apart from the one before."""
    if not first:
        yield from ("", "")
    yield f"{escaped(recorded.name)} ({recorded.automation_id})"
    if not recorded.enabled:
        yield styled("it is disabled: nothing of this fires", "yellow")
    if isinstance(recorded.schedule, InvalidSchedule):
        yield from _invalid_lines(recorded.schedule)
    else:
        yield from lines(Explanation.of(recorded.plan(recorded.schedule), after, count))


def _invalid_lines(error: InvalidSchedule) -> Iterator[str]:
    """What is printed of what is no schedule."""
    yield styled("it has no valid schedule, and fires nothing", "red")
    yield f"  {escaped(str(error.expression))} in {escaped(str(error.timezone))}"
    yield f"  {escaped(error.reason)}"


def _policies(schedule: Schedule) -> str:
    if Expression.read(schedule.expression).wildcard:
        return "it follows the clock on the wall, so dst_gap and dst_repeat do not apply"
    return f'dst_gap = "{schedule.dst_gap}", dst_repeat = "{schedule.dst_repeat}"'


def _fires(explanation: Explanation) -> Iterator[str]:
    yield ""
    yield "next fires" if explanation.fires else "no fire comes any more"
    width = terminal_width()
    shown = [
        column for column in columns(explanation.after, named=False, jitter=have_jitter([explanation.planned])) if column.title != "zone"
    ]
    yield from (f"  {text}" for text in table(explanation.fires, shown, width and width - 2))


def _changes(explanation: Explanation) -> Iterator[str]:
    yield ""
    if not explanation.changes:
        yield f"clock changes in 13 months: none in {explanation.planned.schedule.timezone}"
        return
    yield "clock changes in 13 months"
    for change in explanation.changes:
        yield f"  {styled(change.words, _EFFECTS[change.effect])}"


def _differences(differences: Iterable[Difference]) -> Iterator[str]:
    found = list(differences)
    yield ""
    yield "in other crons" if found else "other crons read it in the same way"
    for difference in found:
        yield f"  {difference.here}"
        for other in difference.elsewhere:
            yield "      " + styled(f"{joined(other.dialects)}: {other.does}", "bright_black")
        if difference.instead:
            yield "      " + styled(f"write {difference.instead}", "cyan")
