"""The recorded definition versions of an automation, and the period of each version.

A version counts after its ``effective_from``, up to and including the ``effective_from`` of the next version.
The daemon still fires the version before until the next version is observed. Instants implied by the version
before in the meantime are *tolerated*: such an instant may have a row, and need not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.instants import END_OF_TIME
from scheduler.ledger.versions import RecordedVersion

_CLAIM_LEAD: Final = timedelta(seconds=10)
"""Time after the observation of an edit for which the version before is tolerated.

Claims are made ahead.
"""


@dataclass(frozen=True, slots=True)
class VersionPeriod:
    """A version in force after ``begin`` and up to and including ``end``.

    The version is tolerated up to ``tolerated_until``. Occurrences with ids up to ``last_id`` have rows from
    before the recording of the next version.
    """

    version: RecordedVersion
    begin: datetime
    end: datetime
    tolerated_until: datetime
    last_id: int


def find_periods(versions: Sequence[RecordedVersion]) -> list[VersionPeriod]:
    """Find the period of each version of an automation; ``versions`` are in the order of recording.

    A version that was never in force has an empty period.
    """
    periods: list[VersionPeriod] = []
    end, seen, last_id = END_OF_TIME, END_OF_TIME, 0
    for version in reversed(versions):
        begin = version.effective_from
        went_back = seen < version.observed_at  # the clock went back: the end is unknown
        tolerated_until = END_OF_TIME if went_back else max(begin, end, seen)
        periods.append(VersionPeriod(version, begin, max(begin, end), tolerated_until, last_id))
        end, seen = min(begin, end), version.observed_at + _CLAIM_LEAD  # min: the clock may have gone back
        last_id = version.newest_occurrence or 0
    return periods[::-1]


def find_period_at(periods: Iterable[VersionPeriod], instant: datetime) -> VersionPeriod | None:
    """Find the period of the version in force at the instant; None before the first version."""
    return next((period for period in periods if period.begin < instant <= period.end), None)
