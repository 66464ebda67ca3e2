"""The values that everything else passes around: automations, occurrences, attempts, outcomes and runs.

Frozen, without behaviour beyond their own meaning. Instants are aware and in UTC.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from scheduler.core.instants import from_text, is_credible

if TYPE_CHECKING:
    from scheduler.core.cron import Schedule  # at run time `--help` would load croniter

MAX_NAME: Final = 255
_MAX_ERROR: Final = 500
_MAX_TEXT: Final = 1000  # longer than anything that decides; a hostile answer must not fill memory and ledger

_T = TypeVar("_T")


class State(StrEnum):
    """Where an open occurrence is."""

    CLAIMED = "claimed"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    WAITING = "waiting"


class Outcome(StrEnum):
    """The one final state of an occurrence."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    UNRESOLVED = "unresolved"


class Reason(StrEnum):
    """Why the outcome is what it is; `REASONS` says which belong to which outcome."""

    ANSWERED = "answered"
    FOUND = "found"
    MANUAL = "manual"
    REFUSED = "refused"
    OVERLAP = "overlap"
    MISSED = "missed"
    COALESCED = "coalesced"
    DELETED = "deleted"
    PAUSED = "paused"
    NOT_STARTED = "not_started"
    UNREADABLE = "unreadable"
    COVERED = "covered"
    GONE = "gone"


REASONS: Final[Mapping[Outcome, tuple[Reason, ...]]] = {
    Outcome.ACCEPTED: (Reason.ANSWERED, Reason.FOUND, Reason.MANUAL),
    Outcome.REJECTED: (Reason.REFUSED,),
    Outcome.SKIPPED: (Reason.OVERLAP, Reason.MISSED, Reason.COALESCED, Reason.DELETED, Reason.PAUSED),
    Outcome.EXPIRED: (Reason.NOT_STARTED,),
    Outcome.UNRESOLVED: (Reason.UNREADABLE, Reason.COVERED, Reason.GONE),
}


class AttemptResult(StrEnum):
    """What became of one attempt."""

    ANSWERED = "answered"
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    HELD = "held"


class RunStatus(StrEnum):
    """A run's status: the API's three, and the two ends that only the scheduler can see."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    LOST = "lost"


FAILURES: Final = frozenset({RunStatus.FAILED, RunStatus.LOST})
"""The statuses of a run that did not do its work, as far as is known."""


class RunOrigin(StrEnum):
    """Who started a run."""

    OCCURRENCE = "occurrence"
    MANUAL = "manual"
    FOREIGN = "foreign"
    BEFORE = "before"  # it was there when the automation was first seen


@dataclass(frozen=True, slots=True)
class Definition:
    """What decides when an automation fires. A change of it is an edit; a new name is not."""

    cron_expression: str
    timezone: str
    enabled: bool


NO_DEFINITION: Final = Definition("", "", enabled=False)
"""In place of the definition of an automation that has none: it is broken, or gone."""


@dataclass(frozen=True, slots=True)
class Automation:
    """One automation as the API last showed it. The newest run's fields are None when it has never run."""

    id: str
    name: str
    definition: Definition
    updated_at: datetime | None = None
    run_id: str | None = None
    run_at: datetime | None = None
    run_status: str | None = None
    run_error: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in an object of the API for a value that cannot be read. ``why`` goes on from "its name is"."""

    reason: str


class InvalidAutomation(ValueError):
    """An object of the API that is no automation we can use. ``automation_id`` and ``name`` are None where they are unreadable."""

    def __init__(self, reason: str, *, automation_id: str | None = None, name: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.automation_id = automation_id
        self.name = name


AUTOMATION_FIELDS: Final = (
    *("id", "name", "cron_expression", "timezone", "enabled", "updated_at"),
    *("last_task_run_id", "last_run_at", "last_run_status", "last_error"),
)
"""The fields of an object of the API that `parse_automation` reads."""


def parse_automation(value: object) -> Automation:
    """One object of the API. Unknown fields and null repositories are fine; raises `InvalidAutomation` naming the field that is not.

    An ``updated_at`` or ``last_run_at`` outside of the years 1970 to 2999 counts as none: it must not keep an automation from firing.
    """
    if not isinstance(value, dict):
        raise InvalidAutomation(f"expected an object, got {_describe_value(value)}")
    automation_id, name = None, _clip_text(value.get("name"), MAX_NAME)
    try:
        automation_id = to_canonical_id(value.get("id"))
        definition = Definition(
            cron_expression=_require_field(value, "cron_expression", str),
            timezone=_require_field(value, "timezone", str),
            enabled=_require_field(value, "enabled", bool),
        )
        return Automation(
            id=automation_id,
            name=name or automation_id,
            definition=definition,
            updated_at=_read_instant(value, "updated_at"),
            run_id=_read_optional_text(value, "last_task_run_id"),
            run_at=_read_instant(value, "last_run_at"),
            run_status=_read_optional_text(value, "last_run_status"),
            run_error=_clip_text(value.get("last_error"), _MAX_ERROR),
        )
    except InvalidAutomation as error:
        raise InvalidAutomation(error.reason, automation_id=automation_id, name=name) from None


def to_canonical_id(value: object) -> str:
    """A UUID in its dashed lower-case form. Raises `InvalidAutomation` for anything else."""
    if isinstance(value, str) and len(value) <= len("{urn:uuid:}") + 36:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise InvalidAutomation("its id is not a UUID")


def _require_field(value: Mapping[str, object], field: str, kind: type[_T]) -> _T:
    found = value.get(field)
    if isinstance(found, Unreadable):
        raise InvalidAutomation(f"its {field} is {found.reason}")
    if not isinstance(found, kind):
        raise InvalidAutomation(f"its {field} is {_describe_value(found)}, expected {kind.__name__}")
    if isinstance(found, str):
        _check_text(found, field)
    return found


def _read_optional_text(value: Mapping[str, object], field: str) -> str | None:
    found = value.get(field)
    if found is None:
        return None
    if not isinstance(found, str):
        raise InvalidAutomation(f"its {field} is {_describe_value(found)}, expected str or null")
    _check_text(found, field)
    return found


def _check_text(text: str, field: str) -> None:
    """Raise `InvalidAutomation` for text that the ledger would not give back as it is.

    JSON can spell half a surrogate pair, which no database takes, and NUL, at which SQLite's JSON functions cut a text off.
    """
    if len(text) > _MAX_TEXT:
        raise InvalidAutomation(f"its {field} is {len(text)} characters long")
    if "\0" in text:
        raise InvalidAutomation(f"its {field} holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidAutomation(f"its {field} holds half a surrogate pair") from None


def _read_instant(value: Mapping[str, object], field: str) -> datetime | None:
    """The instant in this field; None also for one that no clock can have shown: the arithmetic of datetimes overflows near such."""
    text = _read_optional_text(value, field)
    if text is None:
        return None
    try:
        instant = from_text(text)
    except OverflowError:  # beyond the years 1 to 9999 once it is in UTC
        return None
    except ValueError:
        raise InvalidAutomation(f"its {field} is not an ISO 8601 instant with an offset") from None
    return instant if is_credible(instant) else None


def _describe_value(found: object) -> str:
    if isinstance(found, Unreadable):
        return found.reason
    return "missing or null" if found is None else type(found).__name__


def _clip_text(found: object, longest: int) -> str | None:
    """A text that is for people only, cut and made whole; what is none, is none: nothing depends on it."""
    return found[:longest].encode(errors="replace").decode().replace("\0", "\ufffd") if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The identity of one automation at one scheduled instant: what may start at most one run."""

    target: str
    automation_id: str
    scheduled_for: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ``POST …/run/`` about to be made. ``baseline`` is the newest run id known when it was written, None if there was none.

    ``clock_offset`` is how many seconds the API's clock was ahead of ours then, None if unknown: with it the attempt has its place on the
    API's clock, whatever becomes of ours.
    """

    number: int
    written_at: datetime
    baseline: str | None
    clock_offset: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What became of an attempt. ``sent_at`` is None when it never left."""

    number: int
    result: AttemptResult
    ended_at: datetime
    sent_at: datetime | None = None
    http_status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A row to be made: this occurrence is ours. With ``attempt``, its first attempt is durable with it."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    claimed_at: datetime
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Skip:
    """One or more consecutive occurrences of an automation that get their outcome without an attempt, as one row.

    All their instants are named, in order, since some of them may have a row already: the rest is written around those.
    """

    occurrence: Occurrence  # the first of them
    name: str
    due: datetime  # of the first
    instants: Sequence[datetime]
    reason: Reason
    at: datetime
    error: str | None = None
    outcome: Outcome = Outcome.SKIPPED

    @property
    def last(self) -> datetime:
        """The scheduled instant of the last."""
        return self.instants[-1]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.instants)


@dataclass(frozen=True, slots=True)
class SkippedSpan:
    """All occurrences that a definition implied from the first to the last, passed over together as one row and without a list.

    Some of them may have a row already: the rest is written around those.
    """

    occurrence: Occurrence  # the first of them
    name: str
    due: datetime  # of the first
    definition: Definition
    schedule: "Schedule"  # the definition as it is evaluated
    last: datetime
    count: int
    reason: Reason
    at: datetime
    error: str | None = None
    outcome: Outcome = Outcome.SKIPPED


@dataclass(frozen=True, slots=True)
class Gap:
    """Below the watermark, but not decided yet: what was scheduled after ``since`` and up to ``until`` may have no row.

    The past is decided in the order of the automations' ids: of those before ``automation_id`` everything has its row.
    """

    since: datetime
    until: datetime
    automation_id: str = ""

    def may_contain(self, automation_id: str, instant: datetime) -> bool:
        """Whether what was scheduled for the automation at the instant may be undecided."""
        return self.since < instant <= self.until and automation_id >= self.automation_id


@dataclass(frozen=True, slots=True)
class Run:
    """What the API started. ``started_at`` is the API's ``last_run_at``, on its own clock."""

    id: str
    automation_id: str
    started_at: datetime | None
    status: RunStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The outcome of a claimed occurrence, with what explains it. ``run`` is set exactly when it was accepted."""

    outcome: Outcome
    reason: Reason
    at: datetime
    sent_at: datetime | None = None  # first byte of the attempt that counts
    lateness: float | None = None  # seconds from due to sent_at
    error: str | None = None
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class OpenOccurrence:
    """A claimed occurrence without an outcome, as the ledger knows it."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    claimed_at: datetime
    state: State
    attempt: Attempt | None  # the newest
    first_in_doubt: Attempt | None  # the first whose result is unknown, or that is open
    end: AttemptEnd | None  # of the newest attempt; None while it is open
    maybe_sent: bool = False  # any of its attempts ended in doubt
    asked_at: datetime | None = None  # somebody asked for it by hand, to make up for an outcome that it had


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of all automations of a target. ``begun`` and ``ended`` count seconds on the clock that counts suspend."""

    begun_at: datetime
    begun: float
    ended: float
    automations: Mapping[str, Automation]
    broken: Mapping[str, InvalidAutomation]
    complete: bool  # False: three passes disagreed, so an absence says nothing
    clock_offset: float | None  # seconds that the API's clock is ahead of ours
    unidentified: int = 0  # objects without a readable id: they can only be counted
    anonymous: Sequence[str] = ()  # what is known of the first of these, for people
    fingerprint: int = 0  # of these by name and fault, wherever they stand in the list; within one process
    disagreement: str | None = None  # why the snapshot is not complete: how its pages contradict each other

    @property
    def ended_at(self) -> datetime:
        """When it had been read, on the wall clock that it began by."""
        return self.begun_at + timedelta(seconds=self.ended - self.begun)


@dataclass(frozen=True, slots=True)
class DefinitionVersion:
    """A recorded version of an automation's definition. None as ``definition``: removed, or too broken to have one."""

    automation_id: str
    name: str
    definition: Definition | None
    effective_from: datetime
    observed_at: datetime
    invalid: str | None = None  # why it cannot be evaluated
