"""The meaning of a reading for an unknown attempt: whether the attempt started a run.

`reconcile` and `has_appeared_late` are pure. Instants are seconds on the clock that counts suspend and cannot
be set: between an attempt and the reading about its run, the wall clock and the API's clock may have been
set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class RunReading:
    """An automation's newest run in one reading.

    ``begun`` is the begin of the reading. ``run_at`` is the begin of the run on the API's clock.
    ``run_began`` is the same instant in seconds, converted with the API's clock at the reading. Both are None
    when the API does not give the begin of the run.
    """

    begun: float
    run_id: str | None
    run_began: float | None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnknownAttempt:
    """An attempt with an unknown outcome.

    ``sent`` is the earliest instant of its first byte, ``ended`` its end. ``settle_time`` is in seconds.
    ``sent_by_api`` is the API's clock at ``sent``, None if unknown. ``recorded_end`` is set for an attempt
    whose ``ended`` is only an upper bound: its end by the wall clock, which may have been set since.
    """

    baseline: str | None
    sent: float
    ended: float
    settle_time: float
    sent_by_api: datetime | None = None
    recorded_end: float | None = None

    @property
    def last_begin(self) -> float:
        """Latest begin of a run that is surely the run of this attempt.

        A later run may be the run of the attempt, or may hide this run.
        """
        return (self.ended if self.recorded_end is None else self.recorded_end) + self.settle_time

    @property
    def settles_at(self) -> float:
        """Instant after which the API no longer starts a run for this attempt, and a reading may say no."""
        return self.ended + self.settle_time


class ReconcileResult(Enum):
    """Proof of a reading about an unknown attempt. Each result except for the last ends the reconcile."""

    FOUND = "the attempt started the newest run"
    COVERED = "a later run is the newest run, and may hide the run of the attempt"
    NOTHING_STARTED = "two readings agree, the second after the settle time: the attempt started nothing"
    UNDECIDED = "the readings do not decide yet"


def reconcile(
    doubt: UnknownAttempt,
    reading: RunReading,
    earlier: RunReading | None,
    *,
    margin: float,
    taken: Callable[[str], bool],
) -> ReconcileResult:
    """Return what a reading proves about an unknown attempt.

    ``earlier`` is an earlier reading after the attempt, if any. ``margin`` is the possible error of the run's
    begin in seconds, because the begin is read from the API's clock. The margin widens the window: a foreign
    run taken for the attempt's is one run too few, but the attempt would be sent twice if its own run were
    taken for foreign.
    """
    if reading.run_id is not None and reading.run_id != doubt.baseline:
        began = list(_find_run_begins(doubt, reading))
        if not began:
            return ReconcileResult.UNDECIDED
        if max(began) >= doubt.sent - margin:
            ours = any(doubt.sent - margin <= each <= doubt.last_begin + margin for each in began)
            is_ours = ours and not taken(reading.run_id)
            return ReconcileResult.FOUND if is_ours else ReconcileResult.COVERED
    if earlier is not None and earlier.run_id == reading.run_id and reading.begun >= doubt.settles_at:
        return ReconcileResult.NOTHING_STARTED
    return ReconcileResult.UNDECIDED


def has_appeared_late(
    doubt: UnknownAttempt, reading: RunReading, *, margin: float, taken: Callable[[str], bool]
) -> bool:
    """Return whether ``reading`` shows a run that began since an attempt taken for not started.

    The API executed the attempt late, or another client started a run just then. The two cases look the same.
    The run counts as the attempt's: this may be one run too few, but to send again may be one run too many.
    """
    if reading.run_id in {None, doubt.baseline} or taken(reading.run_id or ""):
        return False
    return max(_find_run_begins(doubt, reading), default=float("-inf")) >= doubt.sent - margin


def _find_run_begins(doubt: UnknownAttempt, reading: RunReading) -> Iterator[float]:
    """Yield the begin of the run by the API's present clock, and by its clock when the attempt was sent.

    The two differ when the API's clock was set, or the local clock was set while no daemon ran. Then either
    may be right. When only the present clock is known and the begin lies after the reading with this run, the
    API's clock was set back: the run began before the reading.
    """
    if reading.run_began is not None:
        yield reading.run_began if doubt.sent_by_api is not None else min(reading.run_began, reading.begun)
    if reading.run_at is not None and doubt.sent_by_api is not None:
        yield doubt.sent + (reading.run_at - doubt.sent_by_api).total_seconds()
