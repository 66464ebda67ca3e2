"""Which recorded version of an automation's definition was in force when.

A version counts from its ``effective_from`` up to and including that of the next one. Until the next one is observed, though, the daemon
cannot know, and still fires the one before: what that implied meanwhile is *tolerated*: it may have a row, and need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from scheduler.core.model import Definition

FOREVER: Final = datetime.max.replace(tzinfo=UTC)
_CLAIM_LEAD: Final = timedelta(seconds=10)
"""How long after an edit was observed what the version before had scheduled may be on record: claims are made ahead."""


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """A version as it is on record. None as ``definition``: the automation was removed, or too broken to have one."""

    automation_id: str
    name: str
    definition: Definition | None
    effective_from: datetime
    observed_at: datetime
    invalid: str | None
    removed: bool
    croniter: str
    tzdata: str

    @property
    def firing_definition(self) -> Definition | None:
        """What it fires by; None when it fires nothing."""
        fires = self.definition is not None and self.definition.enabled and self.invalid is None
        return self.definition if fires else None

    @property
    def end_reason(self) -> str | None:
        """Why it fires nothing, as a participle; None when it does."""
        if self.removed:
            return "deleted"
        if self.invalid is not None:
            return f"invalid: {self.invalid}"
        return None if self.firing_definition is not None else "disabled"


@dataclass(frozen=True, slots=True)
class VersionPeriod:
    """A version in force after ``begin`` and up to and including ``end``, and tolerated up to ``tolerated_until``.

    The daemon could take the version for the newest one until ``known_until``, shortly after the next version was observed.
    """

    version: RecordedVersion
    begin: datetime
    end: datetime
    tolerated_until: datetime
    known_until: datetime


def find_periods(versions: Sequence[RecordedVersion]) -> list[VersionPeriod]:
    """When each of an automation's versions was in force, given in the order of recording. One may never have been, and is given too."""
    forces: list[VersionPeriod] = []
    end, seen = FOREVER, FOREVER
    for version in reversed(versions):
        begin = version.effective_from
        went_back = seen < version.observed_at  # the clock did: nobody knows until when it had gone on by then
        forces.append(VersionPeriod(version, begin, max(begin, end), FOREVER if went_back else max(begin, end, seen), seen))
        end, seen = min(begin, end), version.observed_at + _CLAIM_LEAD  # min: a clock that went back can put a later version before it
    return forces[::-1]
