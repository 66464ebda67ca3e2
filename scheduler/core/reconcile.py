"""The meaning of a reading for an unknown attempt: whether the attempt started a run.

`reconcile` and `has_appeared_late` are pure. Instants are seconds on the boot-time clock, which counts
suspend and cannot be set. The wall clock and the API's clock may be set between an attempt and a reading.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class RunReading:
    """The newest run of an automation, as one reading shows it.

    ``read_at`` is the begin of the reading. ``run_id`` is None without a run. ``run_began_by_api`` is the
    begin of the run on the API's clock. ``run_began`` is the same instant in seconds, converted with the
    API's clock at the reading. Both are None when the API does not give the begin of the run.
    """

    read_at: float
    run_id: str | None
    run_began: float | None
    run_began_by_api: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnknownAttempt:
    """An attempt with an unknown outcome.

    ``baseline`` is the newest run before the attempt, None without a run. ``sent`` is the earliest instant at
    which the attempt may have left, ``ended`` its end. ``settle_time`` is the time after the end, in seconds,
    in which the API may still start the run. ``sent_by_api`` is the API's clock at ``sent``, None if unknown.

    After a restart, ``ended`` may be only the latest possible end. ``recorded_end`` is then the recorded end,
    converted with the wall clock, which may have been set since.
    """

    baseline: str | None
    sent: float
    ended: float
    settle_time: float
    sent_by_api: datetime | None = None
    recorded_end: float | None = None

    @property
    def window_end(self) -> float:
        """Latest begin at which a run counts as the run of this attempt.

        The origin of a later run cannot be decided. The API shows only the newest run: this may be the run of
        the attempt, or a newer run that hides the run of the attempt.
        """
        return (self.ended if self.recorded_end is None else self.recorded_end) + self.settle_time

    @property
    def settles_at(self) -> float:
        """Instant after which the API starts no run for this attempt: a later reading shows any run."""
        return self.ended + self.settle_time


class ReconcileResult(Enum):
    """The result of a reading about an unknown attempt. All results but the last end the reconcile."""

    FOUND = "the attempt started the newest run"
    COVERED = "another run since the attempt is the newest run, and may hide the run of the attempt"
    NOTHING_STARTED = "two readings agree, the second after the settle time: the attempt started nothing"
    UNDECIDED = "the readings do not decide yet"


def reconcile(
    attempt: UnknownAttempt,
    reading: RunReading,
    earlier: RunReading | None,
    *,
    margin: float,
    taken: Callable[[str], bool],
) -> ReconcileResult:
    """Return the meaning of a reading for an unknown attempt (RECONCILE-1 to RECONCILE-4 in semantics).

    ``earlier`` is an earlier reading after the attempt, if any. ``taken`` returns whether a run belongs to
    another attempt. ``margin`` is the possible error of the run's begin in seconds, because the begin comes
    from the API's clock. The margin makes the window wider: in doubt, a run counts as the attempt's. This may
    be one run too few. The opposite mistake would send the attempt again, and start two runs.
    """
    if reading.run_id is not None and reading.run_id != attempt.baseline:
        begins = list(_find_run_begins(attempt, reading))
        if not begins:
            return ReconcileResult.UNDECIDED
        window_begin, window_end = attempt.sent - margin, attempt.window_end + margin
        if max(begins) >= window_begin:
            is_in_window = any(window_begin <= begin <= window_end for begin in begins)
            is_own = is_in_window and not taken(reading.run_id)
            return ReconcileResult.FOUND if is_own else ReconcileResult.COVERED
    # There is no new run, or the new run began before the attempt and is a foreign run.
    if earlier is not None and earlier.run_id == reading.run_id and reading.read_at >= attempt.settles_at:
        return ReconcileResult.NOTHING_STARTED
    return ReconcileResult.UNDECIDED


def has_appeared_late(
    attempt: UnknownAttempt, reading: RunReading, *, margin: float, taken: Callable[[str], bool]
) -> bool:
    """Return whether ``reading`` shows a run since an attempt that seems to have started nothing.

    The API executed the attempt late, or another client started a run just then. The two cases look the same.
    The run counts as the attempt's: this may be one run too few, but to send again may be one run too many.
    """
    if reading.run_id is None or reading.run_id == attempt.baseline or taken(reading.run_id):
        return False
    return any(begin >= attempt.sent - margin for begin in _find_run_begins(attempt, reading))


def _find_run_begins(attempt: UnknownAttempt, reading: RunReading) -> Iterator[float]:
    """Yield the possible begins of the run in seconds.

    The API gives the begin on its own clock. The first result is converted with the API's clock at the
    reading, the second with the API's clock at the send. The two differ when a clock was set in between, and
    then either may be right. When the API's clock at the send is unknown, only the first result exists. Only
    then, the begin of the reading limits the result: a run does not begin after the reading that shows the
    run, and a later begin means that the API's clock was set back.
    """
    if reading.run_began is not None:
        is_only = attempt.sent_by_api is None
        yield min(reading.run_began, reading.read_at) if is_only else reading.run_began
    if reading.run_began_by_api is not None and attempt.sent_by_api is not None:
        yield attempt.sent + (reading.run_began_by_api - attempt.sent_by_api).total_seconds()
