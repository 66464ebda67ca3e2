"""What an answer means: was a run started, and what follows.

`judge` is the table for the answer to an attempt, `reconcile` the one for a reading after an attempt whose outcome is unknown.
Both are pure: facts in, a verdict out. Instants are seconds on the clock that counts suspend and that nobody sets: between an attempt and
the reading that tells of it, the wall clock may have been set, and the API's too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from scheduler.core.model import AttemptResult, Automation, RunStatus

# ---------------------------------------------------------------- what came back


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left: no connection, no name, no TLS. Nothing was started."""

    error: str


@dataclass(frozen=True, slots=True)
class NoResponse:
    """The request may have been carried out: it timed out, was cut off, or its answer was unusable."""

    error: str


@dataclass(frozen=True, slots=True)
class AttemptResponse:
    """A complete answer. ``automation`` is the body when it is one; ``error`` is the body's own words, shortened."""

    status: int
    automation: Automation | None = None
    retry_after: float | None = None
    location: str | None = None
    missing_scope: bool = False
    error: str | None = None


# ---------------------------------------------------------------- what it means


@dataclass(frozen=True, slots=True)
class AttemptAccepted:
    """Started: the run is this automation's newest one."""

    automation: Automation
    result = AttemptResult.ANSWERED


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Nothing was started: to be tried again with back-off."""

    error: str
    result = AttemptResult.NOT_SENT


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was started, and the whole target waits: ``retry_after`` seconds, or with back-off when None."""

    error: str
    retry_after: float | None
    result = AttemptResult.THROTTLED


@dataclass(frozen=True, slots=True)
class MaybeStarted:
    """It may have been started: find out, and neither ask nor send for ``retry_after`` seconds."""

    error: str
    retry_after: float | None = None
    result = AttemptResult.UNKNOWN


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing was started, nor will anything be on this target until somebody mends it."""

    error: str
    result = AttemptResult.HELD


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused this occurrence for good."""

    error: str
    result = AttemptResult.REFUSED


@dataclass(frozen=True, slots=True)
class AutomationNotFound:
    """The API does not know the automation here: the list says whether it is gone or the target is wrong."""

    error: str
    result = AttemptResult.REFUSED


AttemptVerdict = AttemptAccepted | NotStarted | Throttled | MaybeStarted | Held | Rejected | AutomationNotFound

_FINISHED: Final = frozenset({RunStatus.SUCCESS, RunStatus.FAILED})
_MAYBE_CARRIED_OUT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


def judge(came_back: AttemptResponse | NotSent | NoResponse, *, automation_id: str, taken: Callable[[str], bool]) -> AttemptVerdict:
    """The verdict on an attempt for ``automation_id``; ``taken`` says that a run is known already: the baseline, or somebody else's."""
    match came_back:
        case NotSent(error=error):
            return NotStarted(error)
        case NoResponse(error=error):
            return MaybeStarted(error)
        case AttemptResponse(status=status) if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _judge_success(came_back, automation_id, taken)
        case _:
            return _judge_refusal(came_back)


def _judge_success(answer: AttemptResponse, automation_id: str, taken: Callable[[str], bool]) -> AttemptVerdict:
    automation = answer.automation
    if automation is None:
        return MaybeStarted(f"HTTP {answer.status} without the automation: {answer.error}", answer.retry_after)
    if automation.id != automation_id:
        return MaybeStarted(f"HTTP {answer.status} with another automation, {automation.id}", answer.retry_after)
    if automation.run_id is None:
        return MaybeStarted(f"HTTP {answer.status} without a run", answer.retry_after)
    if taken(automation.run_id):
        return MaybeStarted(f"HTTP {answer.status} with a run that was there before, {automation.run_id}", answer.retry_after)
    return AttemptAccepted(automation)


def _judge_refusal(answer: AttemptResponse) -> AttemptVerdict:
    status = answer.status
    error = f"HTTP {status}" + (f": {answer.error}" if answer.error else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(error, answer.retry_after)
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and answer.missing_scope):
        return Held(error)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Held(f"HTTP {status}: a redirect to {answer.location}; set the target's url to where the API really is")
    if status == HTTPStatus.NOT_FOUND:
        return AutomationNotFound(error)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _MAYBE_CARRIED_OUT:
        return Rejected(error)
    return MaybeStarted(error, answer.retry_after)


def is_finished(run_status: str | None) -> bool:
    """Whether the API's word for a run's status is one of its two ends; a word that we do not know is none."""
    return run_status in _FINISHED


# ---------------------------------------------------------------- finding out


@dataclass(frozen=True, slots=True)
class RunReading:
    """An automation's newest run as one reading showed it: when the reading was begun, and when the run began, if the API says so.

    ``run_began`` is that by what the API's clock showed at the reading; ``run_at`` is what it showed itself.
    """

    begun: float
    run_id: str | None
    run_began: float | None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnknownAttempt:
    """An attempt whose outcome is unknown: when its first byte left at the earliest, and when it ended.

    ``sent_by_api`` is what the API's clock showed when it left, None if that was not known.
    """

    baseline: str | None
    sent: float
    ended: float
    settle_time: float
    sent_by_api: datetime | None = None

    @property
    def settles_at(self) -> float:
        """When it can no longer be carried out: from then on a reading may say no."""
        return self.ended + self.settle_time


@dataclass(frozen=True, slots=True)
class FoundRun:
    """This run is the attempt's."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Covered:
    """A run that began later is the newest one: ours may lie beneath it, and the API shows only the newest."""

    run_id: str


@dataclass(frozen=True, slots=True)
class NothingStarted:
    """Two readings agree, the second one after the settle time: nothing was started."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Not to be told yet."""


ReconcileResult = FoundRun | Covered | NothingStarted | Undecided


def reconcile(
    doubt: UnknownAttempt, reading: RunReading, earlier: RunReading | None, *, margin: float, taken: Callable[[str], bool]
) -> ReconcileResult:
    """What ``reading`` says of an unknown attempt, given the ``earlier`` reading after it, if any.

    ``margin`` is how far off it may be when the run began, since that is read from the API's clock. The window is widened by the
    margin: a foreign run taken for ours is one run too few, but a run of ours taken for foreign would be sent twice.
    """
    if reading.run_id is not None and reading.run_id != doubt.baseline:
        began = list(_find_run_begins(doubt, reading))
        if not began:
            return Undecided()
        if max(began) >= doubt.sent - margin:
            ours = any(doubt.sent - margin <= each <= doubt.settles_at + margin for each in began)
            return FoundRun(reading.run_id) if ours and not taken(reading.run_id) else Covered(reading.run_id)
    if earlier is not None and earlier.run_id == reading.run_id and reading.begun >= doubt.settles_at:
        return NothingStarted()
    return Undecided()


def has_appeared_late(doubt: UnknownAttempt, reading: RunReading, *, margin: float, taken: Callable[[str], bool]) -> bool:
    """Whether ``reading`` shows a run that began since an attempt which was taken for not started: it was carried out late after all.

    Or somebody else started it just then, which cannot be told apart: one run too few, where sending again may be one too many.
    """
    if reading.run_id in {None, doubt.baseline} or taken(reading.run_id or ""):
        return False
    return max(_find_run_begins(doubt, reading), default=float("-inf")) >= doubt.sent - margin


def _find_run_begins(doubt: UnknownAttempt, reading: RunReading) -> Iterator[float]:
    """When the run began by the API's clock as it is now, and by that clock as it was when the attempt was sent.

    They differ when somebody set that clock, or ours while no daemon ran; then either may be right. When only the clock as it is now is
    known and says that the run begins after the reading that shows it, that clock was set back since: the run began before the reading.
    """
    if reading.run_began is not None:
        yield reading.run_began if doubt.sent_by_api is not None else min(reading.run_began, reading.begun)
    if reading.run_at is not None and doubt.sent_by_api is not None:
        yield doubt.sent + (reading.run_at - doubt.sent_by_api).total_seconds()
