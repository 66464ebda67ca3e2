"""The state of a target as recorded in the ledger: the starting point of a daemon."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from scheduler.core.model import Automation, DefinitionVersion, Gap


@dataclass(frozen=True, slots=True)
class RecordedAutomation:
    """An automation as last recorded: its newest definition version and its newest known run."""

    automation: Automation
    effective_from: datetime
    broken: str | None  # why the API's object has no usable definition
    invalid: str | None = None  # why the definition could not be evaluated when it was recorded
    # Begin of the last snapshot with the automation; None: the newest snapshot has the automation.
    unseen_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndedVersion:
    """A definition version ended at ``until`` by a later version or by a removal."""

    version: DefinitionVersion
    until: datetime


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of an automation first seen at ``added_at``; None: the ledger no longer has it."""

    added_at: datetime | None
    removed_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedRuns:
    """Facts about runs just recorded in the ledger, by run id.

    ``doubles`` maps a foreign run, seen for the first time, to the scheduled instant of an occurrence. The
    run is most likely a late double of this occurrence: its attempt was unknown, was taken for not started,
    and was executed after all. ``scheduled_for`` maps a finished run to the scheduled instant of the
    occurrence that started the run. ``names`` maps the automation ids of the runs to the newest names, also
    for removed automations.
    """

    doubles: Mapping[str, datetime]
    scheduled_for: Mapping[str, datetime]
    names: Mapping[str, str]

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the facts of all parts. The facts of later parts are newer."""
        doubles: dict[str, datetime] = {}
        scheduled_for: dict[str, datetime] = {}
        names: dict[str, str] = {}
        for part in parts:
            doubles.update(part.doubles)
            scheduled_for.update(part.scheduled_for)
            names.update(part.names)
        return cls(doubles, scheduled_for, names)


@dataclass(frozen=True, slots=True)
class ThrottleSpan:
    """The span of the wall clock in which the API asked to send nothing, from the API's answer on."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class RecordedTargetState:
    """A target as last recorded. ``snapshot_at`` and ``watermark`` are None before the first good poll.

    ``ended`` are the versions that ended after the watermark, the oldest first. Their occurrences may have no
    row yet, when the process recorded the end of a version and was killed before it wrote the rows. ``gaps``
    lie below the watermark and are not decided yet. Versions that ended after the beginning of the first gap
    are part of ``ended`` too. ``removals`` are the removals of the last day before the newest good poll.
    ``throttled`` is the newest wait requested by the API, and may be over. ``restored_at`` is the instant of
    the last restore of the ledger from a backup. Runs before this instant are missing from the ledger when
    they began after the backup was made.
    """

    snapshot_at: datetime | None
    watermark: datetime | None
    automations: Mapping[str, RecordedAutomation]
    ended: Sequence[EndedVersion] = ()
    gaps: Sequence[Gap] = ()
    removals: Sequence[Removal] = ()
    throttled: ThrottleSpan | None = None
    restored_at: datetime | None = None
