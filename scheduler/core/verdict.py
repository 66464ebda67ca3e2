"""The meaning of an answer: whether a run was started, and the next action.

`judge` is the table for the answer to an attempt. `reconcile` is the table for a reading after an unknown
attempt. Both are pure: they turn facts into a verdict. Instants are seconds on the clock that counts suspend
and cannot be set. Between an attempt and the reading about its run, the wall clock and the API's clock may
have been set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from scheduler.core.model import AttemptResult, Automation, RunStatus

# ---------------------------------------------------------------- results of a request


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was never sent: no connection, no name, no TLS. Nothing was started."""

    error: str


@dataclass(frozen=True, slots=True)
class NoResponse:
    """The API may have executed the request: a time-out, a cut connection, or an unusable answer."""

    error: str


@dataclass(frozen=True, slots=True)
class AttemptResponse:
    """A complete answer.

    ``automation`` is the body if the body is an automation. ``error`` is the body's own text, shortened.
    ``retry_after`` is in seconds.
    """

    status: int
    automation: Automation | None = None
    retry_after: float | None = None
    location: str | None = None
    missing_scope: bool = False
    error: str | None = None


# ---------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class AttemptAccepted:
    """A run was started: the automation's newest run."""

    automation: Automation
    result = AttemptResult.ANSWERED


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Nothing was started: try again with back-off."""

    error: str
    result = AttemptResult.NOT_SENT


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was started, and the whole target waits ``retry_after`` seconds, or with back-off for None."""

    error: str
    retry_after: float | None
    result = AttemptResult.THROTTLED


@dataclass(frozen=True, slots=True)
class MaybeStarted:
    """A run may have been started: reconcile, and neither read nor send for ``retry_after`` seconds."""

    error: str
    retry_after: float | None = None
    result = AttemptResult.UNKNOWN


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing was started, and the target starts nothing until an operator removes the cause."""

    error: str
    result = AttemptResult.HELD


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API refused this occurrence for good."""

    error: str
    result = AttemptResult.REFUSED


@dataclass(frozen=True, slots=True)
class AutomationNotFound:
    """The API does not know the automation. The list shows whether it is gone or the target is wrong."""

    error: str
    result = AttemptResult.REFUSED


AttemptVerdict = (
    AttemptAccepted | NotStarted | Throttled | MaybeStarted | Held | Rejected | AutomationNotFound
)

_FINISHED: Final = frozenset({RunStatus.SUCCESS, RunStatus.FAILED})
_MAYBE_CARRIED_OUT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


def judge(
    came_back: AttemptResponse | NotSent | NoResponse, *, automation_id: str, taken: Callable[[str], bool]
) -> AttemptVerdict:
    """Return the verdict on an attempt for ``automation_id``.

    ``taken`` returns whether a run is known already: the baseline, or a run with another known origin.
    """
    match came_back:
        case NotSent(error=error):
            return NotStarted(error)
        case NoResponse(error=error):
            return MaybeStarted(error)
        case AttemptResponse(status=status) if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _judge_success(came_back, automation_id, taken)
        case _:
            return _judge_refusal(came_back)


def _judge_success(
    answer: AttemptResponse, automation_id: str, taken: Callable[[str], bool]
) -> AttemptVerdict:
    automation = answer.automation
    if automation is None:
        return MaybeStarted(
            f"HTTP {answer.status} without the automation: {answer.error}", answer.retry_after
        )
    if automation.id != automation_id:
        return MaybeStarted(
            f"HTTP {answer.status} with another automation, {automation.id}", answer.retry_after
        )
    if automation.run_id is None:
        return MaybeStarted(f"HTTP {answer.status} without a run", answer.retry_after)
    if taken(automation.run_id):
        return MaybeStarted(
            f"HTTP {answer.status} with a run that was there before, {automation.run_id}", answer.retry_after
        )
    return AttemptAccepted(automation)


def _judge_refusal(answer: AttemptResponse) -> AttemptVerdict:
    status = answer.status
    error = f"HTTP {status}" + (f": {answer.error}" if answer.error else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(error, answer.retry_after)
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and answer.missing_scope):
        return Held(error)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Held(
            f"HTTP {status}: a redirect to {answer.location}; set the target's url to where the API really is"
        )
    if status == HTTPStatus.NOT_FOUND:
        return AutomationNotFound(error)
    if (
        HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status not in _MAYBE_CARRIED_OUT
    ):
        return Rejected(error)
    return MaybeStarted(error, answer.retry_after)


def is_finished(run_status: str | None) -> bool:
    """Return whether the API's run status is success or failed; an unknown status is not an end."""
    return run_status in _FINISHED


# ---------------------------------------------------------------- reconcile


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
    ``sent_by_api`` is the API's clock at ``sent``, None if unknown.
    """

    baseline: str | None
    sent: float
    ended: float
    settle_time: float
    sent_by_api: datetime | None = None

    @property
    def settles_at(self) -> float:
        """Instant after which the API no longer starts a run for this attempt, and a reading may say no."""
        return self.ended + self.settle_time


@dataclass(frozen=True, slots=True)
class FoundRun:
    """The attempt started this run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Covered:
    """A later run is the newest run: it may hide the attempt's run, because the API shows only the newest."""

    run_id: str


@dataclass(frozen=True, slots=True)
class NothingStarted:
    """Two readings agree, the second after the settle time: the attempt started nothing."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The readings do not decide yet."""


ReconcileResult = FoundRun | Covered | NothingStarted | Undecided


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
            return Undecided()
        if max(began) >= doubt.sent - margin:
            ours = any(doubt.sent - margin <= each <= doubt.settles_at + margin for each in began)
            return FoundRun(reading.run_id) if ours and not taken(reading.run_id) else Covered(reading.run_id)
    if earlier is not None and earlier.run_id == reading.run_id and reading.begun >= doubt.settles_at:
        return NothingStarted()
    return Undecided()


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
