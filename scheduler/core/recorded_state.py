"""What the ledger gives back when a target is bound: everything a starting daemon goes on from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler.core.model import Automation, DefinitionVersion, Gap


@dataclass(frozen=True, slots=True)
class RecordedAutomation:
    """An automation as last recorded: its newest definition's version, and the newest run known of it."""

    automation: Automation
    effective_from: datetime
    broken: str | None  # why the API's object has no usable definition
    invalid: str | None = None  # why the definition could not be evaluated when it was recorded
    unseen_since: datetime | None = None  # when the newest snapshot that showed it began; None: it is the newest of all


@dataclass(frozen=True, slots=True)
class EndedVersion:
    """A version that a later one, or a removal, ended at ``until``."""

    version: DefinitionVersion
    until: datetime


@dataclass(frozen=True, slots=True)
class Removal:
    """An automation was first seen at ``added_at`` and removed at ``removed_at``. None: the ledger does not know any more since when."""

    added_at: datetime | None
    removed_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedRuns:
    """Facts about runs that the ledger has just recorded, by run id.

    ``doubles`` names the occurrence of which a foreign run seen for the first time is most likely a late double: its attempt was unknown,
    was taken for not started, and was carried out after all. ``scheduled_for`` names the occurrence that started a run that has ended.
    ``names`` has the newest name of each automation of the runs, removed automations too, by automation id.
    """

    doubles: Mapping[str, datetime]
    scheduled_for: Mapping[str, datetime]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ThrottleSpan:
    """The span of the wall clock in which the API asked to send nothing, from its answer on."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class RecordedTargetState:
    """A target as last recorded. ``snapshot_at`` and ``watermark`` are None before the first good poll.

    ``ended`` are the versions that ended after the watermark, the oldest first: what they implied until then may have no row yet, when the
    process that recorded their end was killed before it made them. ``gaps`` lie below the watermark and are not decided yet; versions that
    ended after the first of them are among the ``ended`` too. ``removals`` are those of the last day before the newest good poll.
    ``throttled`` is the newest wait that the API asked for, which may be over. ``restored_at`` is when the ledger was last restored from a
    backup: runs that began before are on no record when they began after the backup was made.
    """

    snapshot_at: datetime | None
    watermark: datetime | None
    automations: Mapping[str, RecordedAutomation]
    ended: Sequence[EndedVersion] = ()
    gaps: Sequence[Gap] = ()
    removals: Sequence[Removal] = ()
    throttled: ThrottleSpan | None = None
    restored_at: datetime | None = None
