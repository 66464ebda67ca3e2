"""The meaning of an answer to an attempt: whether a run was started, and what follows.

`judge` is the table from an answer to a verdict. It is pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from scheduler.core.model import AttemptResult, Automation


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


@dataclass(frozen=True, slots=True)
class AttemptAccepted:
    """A run was started: the automation's newest run."""

    automation: Automation
    result = AttemptResult.ANSWERED


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt without a known run. ``error`` is for people."""

    error: str


class NotStarted(_Failure):
    """Nothing was started, because the request was never sent: try again with back-off.

    There was no connection, no name or no TLS.
    """

    result = AttemptResult.NOT_SENT


@dataclass(frozen=True, slots=True)
class Throttled(_Failure):
    """Nothing was started, and the whole target waits ``retry_after`` seconds, or with back-off for None."""

    retry_after: float | None
    result = AttemptResult.THROTTLED


@dataclass(frozen=True, slots=True)
class MaybeStarted(_Failure):
    """A run may have been started: reconcile, and neither read nor send for ``retry_after`` seconds.

    There was a time-out, a cut connection, an unusable answer, or an error of the API.
    """

    retry_after: float | None = None
    result = AttemptResult.UNKNOWN


class Held(_Failure):
    """Nothing was started, and the target starts nothing until an operator removes the cause."""

    result = AttemptResult.HELD


class Rejected(_Failure):
    """The API refused this occurrence for good."""

    result = AttemptResult.REFUSED


class AutomationNotFound(_Failure):
    """The API does not know the automation. The list shows whether it is gone or the target is wrong."""

    result = AttemptResult.REFUSED


AttemptVerdict = (
    AttemptAccepted | NotStarted | Throttled | MaybeStarted | Held | Rejected | AutomationNotFound
)

AttemptAnswer = AttemptResponse | NotStarted | MaybeStarted
"""Result of the request for an attempt."""

_MAYBE_CARRIED_OUT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


def judge(answer: AttemptAnswer, *, automation_id: str, taken: Callable[[str], bool]) -> AttemptVerdict:
    """Return the verdict on an attempt for ``automation_id``.

    ``taken`` returns whether a run is known already: the baseline, or a run with another known origin.
    """
    if not isinstance(answer, AttemptResponse):
        return answer
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return _judge_success(answer, automation_id, taken)
    return _judge_refusal(answer)


def _judge_success(
    answer: AttemptResponse, automation_id: str, taken: Callable[[str], bool]
) -> AttemptVerdict:
    automation = answer.automation
    if automation is None:
        lack = f"without the automation: {answer.error}"
    elif automation.id != automation_id:
        lack = f"with another automation, {automation.id}"
    elif automation.run_id is None:
        lack = "without a run"
    elif taken(automation.run_id):
        lack = f"with a run that was there before, {automation.run_id}"
    else:
        return AttemptAccepted(automation)
    return MaybeStarted(f"HTTP {answer.status} {lack}", answer.retry_after)


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
