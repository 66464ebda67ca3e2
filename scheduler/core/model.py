"""The values used by all packages: automations, occurrences, attempts, outcomes and runs.

All values are frozen and have no behavior beyond their own meaning. Instants are aware and in UTC.
"""

import hashlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from scheduler.core.instants import from_text, is_credible, to_text_seconds

if TYPE_CHECKING:
    from scheduler.core.cron.schedule import Schedule  # at run time `--help` would load croniter

MAX_NAME: Final = 255
_MAX_ERROR: Final = 500
_MAX_TEXT: Final = 1000  # longer than any useful text; a hostile answer must not fill memory and ledger

_T = TypeVar("_T")


class State(StrEnum):
    """The state of an open occurrence."""

    CLAIMED = "claimed"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    WAITING = "waiting"


class Outcome(StrEnum):
    """The final state of an occurrence."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    UNRESOLVED = "unresolved"


class Reason(StrEnum):
    """The reason of an outcome; `REASONS` has the reasons of each outcome."""

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
    """The result of an attempt."""

    ANSWERED = "answered"
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    HELD = "held"


class RunStatus(StrEnum):
    """The status of a run: the API's three, and the two ends that only the scheduler can see."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    LOST = "lost"


_FINISHED: Final = frozenset({RunStatus.SUCCESS, RunStatus.FAILED})


def is_finished(run_status: str | None) -> bool:
    """Return whether the API's run status is success or failed; an unknown status is not an end."""
    return run_status in _FINISHED


FAILURES: Final = frozenset({RunStatus.FAILED, RunStatus.LOST})
"""The statuses of a run without success, as far as is known."""


class RunOrigin(StrEnum):
    """The origin of a run."""

    OCCURRENCE = "occurrence"
    MANUAL = "manual"
    FOREIGN = "foreign"
    BEFORE = "before"  # the run existed when the automation was first seen


@dataclass(frozen=True, slots=True)
class Definition:
    """The properties that decide when an automation fires. Their change is an edit; a new name is no edit."""

    cron_expression: str
    timezone: str
    enabled: bool


NO_DEFINITION: Final = Definition("", "", enabled=False)
"""Definition of an automation that is broken or gone."""


@dataclass(frozen=True, slots=True)
class Automation:
    """An automation as last shown by the API. The newest run's fields are None before the first run."""

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
    """Placeholder for an unreadable value in an object of the API.

    ``reason`` continues a sentence that begins with "its name is".
    """

    reason: str


class InvalidAutomation(ValueError):
    """An object of the API is no usable automation.

    ``automation_id`` and ``name`` are None where they are unreadable.
    """

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
    """Parse one object of the API.

    Accept unknown fields and null repositories. Raise `InvalidAutomation` with the name of a faulty field.
    An ``updated_at`` or ``last_run_at`` outside of the years 1970 to 2999 counts as missing: such a value
    must not keep an automation from firing.
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
    """Return a UUID in its dashed lower-case form. Raise `InvalidAutomation` for any other value."""
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
    """Raise `InvalidAutomation` for text that the ledger would not return unchanged.

    JSON can contain half a surrogate pair, accepted by no database, and NUL: SQLite's JSON functions cut off
    a text at NUL.
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
    """Return the instant in this field, or None.

    None also stands for an instant no clock can have shown: near such instants the arithmetic of datetimes
    overflows.
    """
    text = _read_optional_text(value, field)
    if text is None:
        return None
    try:
        instant = from_text(text)
    except OverflowError:  # outside of the years 1 to 9999 after the conversion to UTC
        return None
    except ValueError:
        raise InvalidAutomation(f"its {field} is not an ISO 8601 instant with an offset") from None
    return instant if is_credible(instant) else None


def _describe_value(found: object) -> str:
    if isinstance(found, Unreadable):
        return found.reason
    return "missing or null" if found is None else type(found).__name__


def _clip_text(found: object, longest: int) -> str | None:
    """Clip a text for people and replace characters the ledger cannot store; None for anything but a text.

    Only people read the text; no decision depends on the text.
    """
    if not isinstance(found, str):
        return None
    return found[:longest].encode(errors="replace").decode().replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The identity of an occurrence: an automation at a scheduled instant. It may start at most one run."""

    target: str
    automation_id: str
    scheduled_for: datetime


def make_idempotency_key(url: str, project_id: str, automation_id: str, scheduled_for: datetime) -> str:
    """Return the idempotency key of an occurrence: 64 hexadecimal digits.

    The key is the same for every attempt, whatever the name of the target and whichever node sends the
    attempt.
    """
    parts = (url.rstrip("/"), project_id, automation_id, to_text_seconds(scheduled_for))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ``POST …/run/`` about to be sent.

    ``baseline`` is the newest run id known when the attempt was written, None without a run. ``clock_offset``
    is the API's clock minus the local clock at that instant, in seconds, None if unknown. The offset places
    the attempt on the API's clock, also when the local clock is set afterwards.
    """

    number: int
    written_at: datetime
    baseline: str | None
    clock_offset: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The end of an attempt. ``sent_at`` is None for an attempt that was never sent."""

    number: int
    result: AttemptResult
    ended_at: datetime
    sent_at: datetime | None = None
    http_status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A row to write: the occurrence belongs to the daemon. The row and ``attempt`` are durable together."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    claimed_at: datetime
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Skip:
    """Consecutive skipped occurrences of an automation without an attempt, written as a single row.

    All instants are listed, in order. Occurrences with a row keep the row: the span is written around them.
    """

    occurrence: Occurrence  # the first occurrence
    name: str
    due: datetime  # of the first occurrence
    instants: Sequence[datetime]
    reason: Reason
    at: datetime
    error: str | None = None

    @property
    def last(self) -> datetime:
        """Scheduled instant of the last occurrence."""
        return self.instants[-1]

    @property
    def count(self) -> int:
        """Number of occurrences."""
        return len(self.instants)


@dataclass(frozen=True, slots=True)
class SkippedSpan:
    """All occurrences of a definition from the first to the last, skipped together as a row without a list.

    Occurrences with a row keep the row: the span is written around them.
    """

    occurrence: Occurrence  # the first occurrence
    name: str
    due: datetime  # of the first occurrence
    definition: Definition
    schedule: "Schedule"  # the evaluated definition
    last: datetime
    count: int
    reason: Reason
    at: datetime
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time below the watermark with undecided occurrences.

    Occurrences scheduled after ``since`` and up to ``until`` may have no row. The past is decided in the
    order of the automations' ids: every occurrence of the automations before ``automation_id`` has its row.
    """

    since: datetime
    until: datetime
    automation_id: str = ""

    def may_contain(self, automation_id: str, instant: datetime) -> bool:
        """Return whether the automation's occurrence at the instant may be undecided."""
        return self.since < instant <= self.until and automation_id >= self.automation_id


@dataclass(frozen=True, slots=True)
class Run:
    """A run started by the API. ``started_at`` is the API's ``last_run_at``, on the API's own clock."""

    id: str
    automation_id: str
    started_at: datetime | None
    status: RunStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The outcome of a claimed occurrence, with its explanation. ``run`` is set exactly for ``accepted``."""

    outcome: Outcome
    reason: Reason
    at: datetime
    sent_at: datetime | None = None  # first byte of the decisive attempt
    lateness: float | None = None  # seconds from due to sent_at
    error: str | None = None
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class OpenOccurrence:
    """A claimed occurrence without an outcome, as recorded in the ledger."""

    occurrence: Occurrence
    name: str
    due: datetime
    deadline: datetime
    claimed_at: datetime
    state: State
    attempt: Attempt | None  # the newest
    first_in_doubt: Attempt | None  # the first attempt with an unknown result or without an end
    end: AttemptEnd | None  # of the newest attempt; None while the attempt is open
    maybe_sent: bool = False  # an attempt of the occurrence ended with an unknown result
    asked_at: datetime | None = None  # when an operator asked for the backfill of the occurrence


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A reading of all automations of a target.

    ``begun`` and ``ended`` are seconds on the clock that counts suspend.
    """

    begun_at: datetime
    begun: float
    ended: float
    automations: Mapping[str, Automation]
    broken: Mapping[str, InvalidAutomation]
    complete: bool  # False: three passes disagreed, and absence proves nothing
    clock_offset: float | None  # the API's clock minus the local clock, in seconds
    unidentified: int = 0  # number of objects without a readable id
    anonymous: Sequence[str] = ()  # descriptions of the first unidentified objects, for people
    # Hash of the unidentified objects by name and fault, in any order; valid within one process.
    fingerprint: int = 0
    disagreement: str | None = None  # why the snapshot is incomplete: the contradiction between the pages

    @property
    def ended_at(self) -> datetime:
        """End of the reading, on the wall clock that showed ``begun_at``."""
        return self.begun_at + timedelta(seconds=self.ended - self.begun)


@dataclass(frozen=True, slots=True)
class DefinitionVersion:
    """A recorded version of an automation's definition.

    ``definition`` is None when the automation was removed or its object has no usable definition.
    """

    automation_id: str
    name: str
    definition: Definition | None
    effective_from: datetime
    observed_at: datetime
    invalid: str | None = None  # why the definition cannot be evaluated


@dataclass(frozen=True, slots=True)
class SnapshotUpdate:
    """The changes of a snapshot: definition versions, changed automations, and ids of removed automations.

    ``unseen``: since when automations are not shown; None for automations that are shown again. ``whole`` is
    False for a part that other parts follow. Each part holds all changes of its automations.
    """

    at: datetime
    versions: Sequence[DefinitionVersion]
    changed: Sequence[Automation] = ()
    removed: Collection[str] = ()
    unseen: Mapping[str, datetime | None] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """The decision for all occurrences of a target due up to ``watermark``.

    Occurrences in the ``gaps`` are decided later.
    """

    claims: Sequence[Claim]
    skips: Sequence[Skip]
    watermark: datetime
    spans: Sequence[SkippedSpan] = ()
    gaps: Sequence[Gap] = ()


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """New states of runs, and new runs with their origin, as seen at ``at``.

    ``clock_offset`` is the current clock offset in seconds, for attempts without a recorded clock offset.
    ``unattributed``: runs that an attempt may have started when they were shown. ``attributed``: the ids of
    such runs with a known origin by now.
    """

    runs: Sequence[tuple[Run, RunOrigin]]
    at: datetime
    clock_offset: float | None = None
    attributed: Collection[str] = ()
    unattributed: Sequence[Run] = ()
