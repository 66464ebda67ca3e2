"""The log line of each event: its name, its level and its keys.

A line holds only the fields of its event. `logs` writes lines of any content.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Final

import structlog

from scheduler.core import events
from scheduler.core.events import Event
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import AttemptResult, Outcome, Reason, RunStatus
from scheduler.ops.logs import LogLevel

_ORDER: Final = (
    *("target", "automation_id", "automation", "scheduled_for", "attempt", "attempts", "count"),
    *("lateness_seconds", "task_run_id", "status", "duration_seconds", "reason", "error"),
)
"""The keys at the beginning of a line, in this order. The other keys follow as the event declares them."""

_NESTED_KEYS: Final = {
    "occurrence": ("target", "automation_id", "scheduled_for"),
    "definition": ("cron_expression", "timezone", "enabled"),
}
"""The fields with more than one key, and their keys."""

_KEY_NAMES: Final = {
    "run_id": "task_run_id",
    "lateness": "lateness_seconds",
    "duration": "duration_seconds",
    "clock_offset": "clock_offset_seconds",
}
# The line expresses these fields already: `first` by its level, `outcome` by its name, `gone` by the error.
_OMITTED_FIELDS: Final = frozenset({"first", "outcome", "gone"})

_LEVELS: Final[Mapping[type[Event], LogLevel]] = {
    events.DaemonWaiting: "warning",
    events.StopShortened: "warning",
    events.AutomationQuarantined: "warning",
    events.AutomationsDisappeared: "warning",
    events.AutomationsUnidentified: "warning",
    events.ListDisagreed: "warning",
    events.OccurrenceClaimed: "debug",
    events.OccurrenceOverdue: "error",
    events.FireRefused: "warning",
    events.DeliveryFailed: "error",
    events.RunForeign: "warning",
    events.RunDoubled: "error",
    events.TargetHeld: "error",
    events.TargetThrottled: "warning",
    events.TargetSaturated: "warning",
    events.BudgetExhausted: "warning",
    events.ClockJumped: "warning",
    events.WakeFailed: "warning",
}
"""The usual levels. The usual level of every other event is "info".

The functions below make the exceptions that depend on fields of an event.
"""
_OUTCOME_LEVELS: Final[Mapping[Outcome, LogLevel]] = {
    Outcome.ACCEPTED: "info",
    Outcome.REJECTED: "warning",
    Outcome.SKIPPED: "info",
    Outcome.EXPIRED: "warning",
    Outcome.UNRESOLVED: "error",
}
_ATTEMPT_LINES: Final[Mapping[AttemptResult, tuple[str, LogLevel]]] = {
    AttemptResult.ANSWERED: ("attempt.answered", "debug"),
    AttemptResult.NOT_SENT: ("attempt.failed", "warning"),
    AttemptResult.THROTTLED: ("attempt.failed", "warning"),
    AttemptResult.UNKNOWN: ("attempt.unknown", "warning"),
    AttemptResult.REFUSED: ("attempt.failed", "info"),  # the line of the occurrence has the details
    AttemptResult.HELD: ("attempt.failed", "info"),  # the line of the target has the details
}
_RUN_LEVELS: Final[Mapping[RunStatus, LogLevel]] = {
    RunStatus.RUNNING: "debug",
    RunStatus.SUCCESS: "info",
    RunStatus.FAILED: "warning",
    RunStatus.SUPERSEDED: "info",
    RunStatus.LOST: "warning",
}


class EventLogger:
    """The observer that writes the log. ``is_enabled_for`` returns whether lines of a level are logged.

    An event below the logged levels costs next to nothing.
    """

    def __init__(self, is_enabled_for: Callable[[str], bool]) -> None:
        self._is_enabled_for = is_enabled_for
        self._log = structlog.get_logger().bind()
        # the result of each target's newest poll, and the error of the newest failed use of the ledger
        self._situations: dict[str, str] = {}

    def observe(self, event: Event) -> None:
        """Log one line, or none for an event without a log line."""
        name, level = self._choose_name_and_level(event)
        if name is None or not self._is_enabled_for(level):
            return
        keys = _make_keys(event)
        if isinstance(event, events.DeliveryFailed):
            keys["exc_info"] = event.error
        getattr(self._log, level)(name, **keys)

    def _choose_name_and_level(self, event: Event) -> tuple[str | None, LogLevel]:
        """Return the name of the event's line (None for no line) and its level."""
        match event:
            case events.OccurrenceConcluded(outcome=outcome, reason=reason):
                level = "warning" if reason is Reason.MISSED else _OUTCOME_LEVELS[outcome]
                return f"occurrence.{outcome}", level
            case events.AttemptEnded(result=result):
                return _ATTEMPT_LINES[result]
            case events.SnapshotTaken() | events.SnapshotFailed() | events.LedgerFailed():
                return event.name, self._choose_level_of_change(event)
            case _:
                return event.name, _choose_level(event)

    def _choose_level_of_change(
        self, event: events.SnapshotTaken | events.SnapshotFailed | events.LedgerFailed
    ) -> LogLevel:
        """Return the level of an event, or "debug" when the situation is the same as before.

        Polls and failures repeat often. Only a change is logged at its full level, and the first failure
        after a success.
        """
        level: LogLevel = "warning"
        match event:
            case events.SnapshotTaken(target=target, incomplete=incomplete):
                of, situation = f"snapshot of {target}", "incomplete" if incomplete else ""
                level = "warning" if incomplete else "info"
            case events.SnapshotFailed(target=target, error=error):
                of, situation = f"snapshot of {target}", f"failed: {error}"
            case _:
                of, situation, level = "ledger", event.error, "error"
        before, self._situations[of] = self._situations.get(of), situation
        is_first = not isinstance(event, events.SnapshotTaken) and event.first
        return level if before != situation or is_first else "debug"


def _choose_level(event: Event) -> LogLevel:
    match event:
        case events.RunFinished(status=status):
            return _RUN_LEVELS[status]
        # A foreign run at a scheduled instant, and a configuration with an error.
        case events.RunForeign(scheduled_for=datetime()) | events.ConfigReloaded(error=str()):
            return "error"
        case events.AutomationsUnidentified(count=0):
            return "info"
        case _:
            return _LEVELS.get(type(event), "info")


def _make_keys(event: Event) -> dict[str, object]:
    """Return the keys of a line beside its name: every field that is neither its default nor None."""
    keys: dict[str, object] = {}
    for key, field, part, default in _make_plan(type(event)):  # type: ignore[arg-type]  # a class is hashable
        value = getattr(event, field)
        if part:
            value = getattr(value, part, None)  # an automation with unusable data has no definition
        if value is not None and value != default:
            keys[key] = _format_value(key, value)
    return keys


def _format_value(key: str, value: object) -> object:
    match value:
        case datetime():
            return to_text_seconds(value) if key == "scheduled_for" else to_text(value)
        case float():
            return round(value, 6)
        case Exception():
            return f"{type(value).__name__}: {value}"
        case _:
            return value


@cache
def _make_plan(kind: type[Event]) -> list[tuple[str, str, str, object]]:
    """Return the keys of the lines of an event class, in their order, with their fields and defaults.

    The value of a key is the field itself, or the named part of the field.
    """
    plan = [
        (part or _KEY_NAMES.get(field.name, field.name), field.name, part, field.default)
        for field in fields(kind)
        if field.name not in _OMITTED_FIELDS
        for part in _NESTED_KEYS.get(field.name, ("",))
    ]
    return sorted(plan, key=lambda part: _ORDER.index(part[0]) if part[0] in _ORDER else len(_ORDER))
