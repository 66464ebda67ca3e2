"""The meaning of each outcome, state, step, attempt and run, in plain sentences for on-call staff."""

from collections.abc import Mapping
from typing import Final

from scheduler.core.model import AttemptResult, Reason, RunStatus, State
from scheduler.core.occurrence_log import WAITS_FOR, Cause

REASONS: Final[Mapping[Reason, str]] = {
    Reason.ANSWERED: "the API answered that it had started a run",
    Reason.FOUND: "the answer was lost; reading the automation showed the run that had been started",
    Reason.MANUAL: "an operator asked for a backfill, and the API started a run",
    Reason.REFUSED: "the API refused the attempt for good; nothing was started",
    Reason.OVERLAP: "the run before it had not ended, and concurrency is forbid; nothing was sent",
    Reason.MISSED: "the decision came too late to start it; nothing was sent",
    Reason.COALESCED: "a newer occurrence was due and took its place; no run was started for this one",
    Reason.DELETED: (
        "the automation had been deleted or disabled, or edited so that it names another time; nothing "
        "was started"
    ),
    Reason.PAUSED: "it was paused; nothing was sent",
    Reason.NOT_STARTED: "nothing was started until its deadline, and then it was too late",
    Reason.UNREADABLE: "for a day, no reading could show whether a run was started; it is not sent again",
    Reason.COVERED: "a later run hides whether one was started; it is not sent again",
    Reason.GONE: "the automation was deleted before a reading could show whether a run was started",
}

STATES: Final[Mapping[State, str]] = {
    State.WAITING: "it waits; no attempt is under way",
    State.CLAIMED: "its first attempt is about to be made",
    State.IN_FLIGHT: "an attempt is being made",
    State.UNKNOWN: "an attempt may have started a run; nothing is sent until a reading shows the run",
}

CAUSES: Final[Mapping[Cause, str]] = {
    **{cause: f"waited for {words}" for cause, words in WAITS_FOR.items()},
    Cause.ABSENT: "no daemon ran, or the machine slept",
    Cause.ADOPTED: "another process took it up",
    Cause.NOTHING_STARTED: "reconciled: nothing had been started",
    Cause.REOPENED: "had an outcome, until an operator asked for a backfill",
}

RESULTS: Final[Mapping[AttemptResult, str]] = {
    AttemptResult.ANSWERED: "answered with a run",
    AttemptResult.NOT_SENT: "not sent: no connection, so nothing was started",
    AttemptResult.THROTTLED: "refused for now (429), so nothing was started",
    AttemptResult.UNKNOWN: "outcome unknown: it may have started a run",
    AttemptResult.REFUSED: "refused, so nothing was started",
    AttemptResult.HELD: "key, scope or URL are wrong, so nothing was started",
}

RUNS: Final[Mapping[RunStatus, str]] = {
    RunStatus.RUNNING: "has not ended yet, as far as is known",
    RunStatus.SUCCESS: "ended well",
    RunStatus.FAILED: "failed",
    RunStatus.SUPERSEDED: "ended unseen: a newer run hides this one, or the automation was deleted",
    RunStatus.LOST: "did not end within run_timeout",
}
