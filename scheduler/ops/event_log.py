"""Every event that people should know of, as one line of the log: under which name, at which level, with which keys.

A line is made of an event's fields and nothing else, so nothing that no event holds can be logged. Apart from `logs`, which writes
lines whatever they say.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
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
"""The keys that stand first, in this order; the others follow as the event declares them."""

_NESTED_KEYS: Final = {"occurrence": ("target", "automation_id", "scheduled_for"), "definition": ("cron_expression", "timezone", "enabled")}
"""The fields that hold more than one key, and which."""

_KEY_NAMES: Final = {
    "run_id": "task_run_id",
    "lateness": "lateness_seconds",
    "duration": "duration_seconds",
    "clock_offset": "clock_offset_seconds",
}
_OMITTED_FIELDS: Final = frozenset({"first", "outcome", "gone"})  # the level, the name, the error says so

_LEVELS: Final[Mapping[type[Event], LogLevel]] = {
    events.DaemonStarted: "info",
    events.DaemonWaiting: "warning",
    events.DaemonStopping: "info",
    events.DaemonStopped: "info",
    events.StopShortened: "warning",
    events.AutomationAdded: "info",
    events.AutomationChanged: "info",
    events.AutomationRemoved: "info",
    events.AutomationQuarantined: "warning",
    events.AutomationsDisappeared: "warning",
    events.ListDisagreed: "warning",
    events.ListAgreed: "info",
    events.OccurrenceClaimed: "debug",
    events.OccurrenceOverdue: "error",
    events.OccurrenceReopened: "info",
    events.FireRefused: "warning",
    events.DeliveryFailed: "error",
    events.RunForeign: "warning",
    events.RunDoubled: "error",
    events.TargetHeld: "error",
    events.TargetReleased: "info",
    events.TargetThrottled: "warning",
    events.TargetSaturated: "warning",
    events.TargetRelieved: "info",
    events.BudgetExhausted: "warning",
    events.BudgetRecovered: "info",
    events.ClockJumped: "warning",
    events.LedgerRecovered: "info",
    events.LedgerRestored: "info",
    events.WakeFailed: "warning",
}
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
    AttemptResult.REFUSED: ("attempt.failed", "info"),  # the occurrence's own line says the rest
    AttemptResult.HELD: ("attempt.failed", "info"),  # the target's
}
_RUN_LEVELS: Final[Mapping[RunStatus, LogLevel]] = {
    RunStatus.RUNNING: "debug",
    RunStatus.SUCCESS: "info",
    RunStatus.FAILED: "warning",
    RunStatus.SUPERSEDED: "info",
    RunStatus.LOST: "warning",
}


class EventLogger:
    """The observer that logs. ``takes`` says of a level whether it is logged at all: an event below it costs next to nothing."""

    def __init__(self, takes: Callable[[str], bool]) -> None:
        self._is_enabled_for = takes
        self._log = structlog.get_logger().bind()
        self._situations: dict[str, str] = {}  # how the newest poll of each target, and the newest write, went

    def observe(self, event: Event) -> None:
        """Log one line, or none for an event that is for the other observers alone."""
        name, level = self._choose_name_and_level(event)
        if name is None or not self._is_enabled_for(level):
            return
        keys = _make_keys(event)
        if isinstance(event, events.DeliveryFailed):
            keys["exc_info"] = event.error
        getattr(self._log, level)(name, **keys)

    def _choose_name_and_level(self, event: Event) -> tuple[str | None, LogLevel]:
        """The name of the event's line, None if it has none, and its level."""
        match event:
            case events.OccurrenceConcluded(outcome=outcome, reason=reason):
                return f"occurrence.{outcome}", "warning" if reason is Reason.MISSED else _OUTCOME_LEVELS[outcome]
            case events.AttemptEnded(result=result):
                return _ATTEMPT_LINES[result]
            case events.RunForeign(scheduled_for=beside) if beside is not None:
                return event.name, "error"
            case events.RunFinished(status=status):
                return event.name, _RUN_LEVELS[status]
            case events.ConfigReloaded(error=error):
                return event.name, "info" if error is None else "error"
            case _:
                return event.name, _LEVELS.get(type(event)) or self._choose_level(event)

    def _choose_level(self, event: Event) -> LogLevel:
        """A poll every half minute is no news, and neither is the tenth failure; that it goes differently from the one before is."""
        match event:
            case events.SnapshotTaken(target=target, incomplete=incomplete):
                changed = self._update_situation(f"snapshot of {target}", "incomplete" if incomplete else "")
                level: LogLevel = "warning" if incomplete else "info"
            case events.SnapshotFailed(target=target, error=error, first=first):
                changed, level = self._update_situation(f"snapshot of {target}", f"failed: {error}") or first, "warning"
            case events.LedgerFailed(error=error, first=first):
                changed, level = self._update_situation("ledger", error) or first, "error"
            case events.AutomationsUnidentified(count=count):
                changed, level = True, "warning" if count else "info"
            case _:
                return "debug"
        return level if changed else "debug"

    def _update_situation(self, of: str, situation: str) -> bool:
        before, self._situations[of] = self._situations.get(of), situation
        return before != situation


def _make_keys(event: Event) -> dict[str, object]:
    """What the line says beside its name: every field that is not what it is by default, and not None."""
    return {
        key: _format_value(key, value)
        for key, get, default in _PLANS[type(event)]
        if (value := get(event)) is not None and value != default
    }


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


class _Plans(dict[type[Event], list[tuple[str, Callable[[Event], object], object]]]):
    """For a class of events the keys of its lines in their order, each with how to get it and its default; made when first asked for."""

    def __missing__(self, kind: type[Event]) -> list[tuple[str, Callable[[Event], object], object]]:
        plan = [
            (_KEY_NAMES.get(name, name), get, field.default)
            for field in fields(kind)
            if field.name not in _OMITTED_FIELDS
            for name, get in _make_getters(field.name)
        ]
        self[kind] = sorted(plan, key=lambda each: _ORDER.index(each[0]) if each[0] in _ORDER else len(_ORDER))
        return self[kind]


def _make_getters(field: str) -> list[tuple[str, Callable[[Event], object]]]:
    return (
        [(name, _make_part_getter(field, name)) for name in _NESTED_KEYS[field]] if field in _NESTED_KEYS else [(field, attrgetter(field))]
    )


def _make_part_getter(field: str, name: str) -> Callable[[Event], object]:
    """The ``name`` of what is in that field; None when nothing is: what the API has made unusable has no definition."""
    whole, part = attrgetter(field), attrgetter(name)
    return lambda event: None if (value := whole(event)) is None else part(value)


_PLANS: Final = _Plans()
