"""The meaning of an answer to an attempt: whether a run was started, and what follows.

`judge` is the table from an answer to a verdict. It is pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from scheduler.core.model import AttemptResult, Automation

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
