"""Records as the rows of a table: events in words, with a tone for their importance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from scheduler.core.cron.schedule import FireNote
from scheduler.core.instants import from_text
from scheduler.core.model import Outcome, Reason, RunStatus
from scheduler.core.occurrence_log import WAITS_FOR, Cause
from scheduler.core.policy import compute_due
from scheduler.core.quantities import describe_duration
from scheduler.core.status import AutomationDetails, WaitStatus
from scheduler.ops.page.times import DisplayTime
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.views import Json

Zones = Mapping[AutomationKey, str]
"""The zone of each known automation."""

_TONES: Final[Mapping[str, str]] = {
    Outcome.ACCEPTED: "soft",
    Outcome.REJECTED: "bad",
    Outcome.SKIPPED: "soft",
    Outcome.EXPIRED: "bad",
    Outcome.UNRESOLVED: "bad",
    RunStatus.SUCCESS: "good",
    RunStatus.FAILED: "bad",
    RunStatus.LOST: "bad",
    RunStatus.SUPERSEDED: "soft",
    RunStatus.RUNNING: "open",
    "enabled": "good",
    "disabled": "soft",
    "paused": "warn",
    "invalid": "bad",
}
EXPLANATIONS: Final[Mapping[str, str]] = {
    Reason.ANSWERED: "the API answered with the run",
    Reason.FOUND: "a reading found the run",
    Reason.MANUAL: "an operator asked for a backfill",
    Reason.REFUSED: "the API refused the attempt for good",
    Reason.OVERLAP: "the run before it was not finished",
    Reason.MISSED: "it could not start in time",
    Reason.COALESCED: "a newer one took its place",
    Reason.DELETED: "the automation was deleted, disabled or edited",
    Reason.PAUSED: "it was paused",
    Reason.NOT_STARTED: "no attempt started it in time",
    Reason.UNREADABLE: "unknown whether it started",
    Reason.COVERED: "a later run hides its run",
    Reason.GONE: "the automation is gone",
}
NOTES: Final[Mapping[FireNote, str]] = {
    "after_gap": "in place of a time that the clock skips",
    "first_pass": "the first time that the clock shows this time",
    "second_pass": "the second time that the clock shows this time",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """The state of the daemon or of an automation, in a word and a sentence, with optional advice.

    ``advice`` has code between backticks.
    """

    tone: str
    word: str
    sentence: str
    advice: str | None = None


def get_tone(word: str | None) -> str:
    """Return the tone of an outcome, of the status of a run, or of the state of an automation."""
    return _TONES.get(word or "", "soft")


def make_automation_link(target: str, automation_id: str) -> str:
    """Return the path of an automation's page."""
    return f"/automations/{quote(target, safe='')}/{quote(automation_id, safe='')}"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A row for one occurrence, or for a span of occurrences."""

    record: Json
    when: DisplayTime
    link: str
    label: str
    reason: str
    explanation: str | None
    tone: str
    late: str | None


def make_history_rows(records: Sequence[Json], zones: Zones, now: datetime) -> Iterator[HistoryRow]:
    """Yield the records of ``history --json`` as rows."""
    for record in records:
        key = str(record["target"]), str(record["automation_id"])
        label, reason, lateness = str(record["outcome"]), str(record["reason"]), record["lateness_seconds"]
        explanation = EXPLANATIONS.get(reason)
        if record["outcome"] is None:
            label, reason, explanation = "open", _describe_open_state(record, now), None
        when = DisplayTime(from_text(str(record["scheduled_for"])), now, zones.get(key))
        link, tone = make_automation_link(*key), _choose_tone(record)
        late = describe_duration(lateness) if isinstance(lateness, float | int) else None
        yield HistoryRow(record, when, link, label, reason, explanation, tone, late)


def _choose_tone(record: Json) -> str:
    """Return the tone of an outcome.

    An accepted occurrence is "good" only after its run succeeded.
    """
    outcome = record["outcome"]
    if outcome is None:
        return "open"
    if outcome == Outcome.ACCEPTED and record["run_status"] == RunStatus.SUCCESS:
        return "good"
    return "warn" if record["reason"] == Reason.MISSED else get_tone(str(outcome))


def _describe_open_state(record: Json, now: datetime) -> str:
    """Return the state of an open record. Without a claim, add when the occurrence is due."""
    state = str(record.get("state"))
    if record["claimed_at"]:
        return state
    return f"{state}, due {DisplayTime(from_text(str(record['due'])), now).relative}"


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A row for one occurrence without an outcome, with the cause of its wait."""

    wait: WaitStatus
    target: str
    when: DisplayTime
    due: DisplayTime
    since: DisplayTime
    link: str
    words: str
    until_due: bool
    expiry: str | None


def make_wait_row(
    target: str, wait: WaitStatus, now: datetime, timezone: str | None, throttled_until: datetime | None
) -> WaitRow:
    """Return a wait as a row. ``throttled_until`` is the end of the throttle of its target."""
    instants = (wait.scheduled_for, wait.due, wait.since)
    when, due, since = (DisplayTime(instant, now, timezone) for instant in instants)
    link, expiry = make_automation_link(target, wait.automation_id), wait.describe_expiry(throttled_until)
    words, until_due = WAITS_FOR[wait.cause], wait.cause is Cause.DUE
    return WaitRow(wait, target, when, due, since, link, words, until_due, expiry)


@dataclass(frozen=True, slots=True)
class UpcomingRow:
    """A row for one coming fire.

    ``due`` is None when the due instant equals the instant of the fire time. A throttled fire waits for the
    end of the throttle; a paused fire does not.
    """

    details: AutomationDetails
    when: DisplayTime
    due: DisplayTime | None
    is_throttled: bool
    note: str | None


def make_upcoming_row(
    instant: datetime, details: AutomationDetails, now: datetime, throttled_until: datetime | None
) -> UpcomingRow:
    """Return a fire of an automation as a row.

    ``throttled_until`` is the end of the throttle of its target.
    """
    note = details.schedule and details.schedule.find_note(instant)
    due = compute_due(details.policies, details.target, details.id, details.schedule, instant)
    is_throttled = throttled_until is not None and due < throttled_until and details.state == "enabled"
    when = DisplayTime(instant, now, details.timezone)
    shown_due = None if due == instant else DisplayTime(due, now, details.timezone)
    return UpcomingRow(details, when, shown_due, is_throttled, NOTES[note] if note else None)
