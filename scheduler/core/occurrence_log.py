"""What happened to an occurrence on its way that its attempts do not tell: what it waited for, who took it up, and who asked for it again.

Apart from `model`, because nothing decides by it: it is written so that somebody can be told afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """What an occurrence waited for, or what happened to it at one instant. `WAITS_FOR` has the waits.

    `DUE`, `ANSWER` and `OUTCOME` are shown while they last and are never recorded as steps: the row and its attempts tell them.
    """

    DUE = "due"  # its jitter has not passed yet
    ANSWER = "answer"  # its request was sent
    OUTCOME = "outcome"  # readings are to tell whether its attempt started a run
    ABSENT = "absent"  # no daemon ran when it came due
    LEDGER = "ledger"  # the ledger could not be written
    UNCONFIRMED = "unconfirmed"  # no good poll yet since the start, or the automation was absent from the newest one
    STALE = "stale"  # no good poll for longer than `stale_limit`
    CLOCK = "clock"  # the clock had stepped forward, and nobody had confirmed it
    HELD = "held"  # the target was held
    THROTTLED = "throttled"  # the API had asked to be left alone
    BACK_OFF = "back_off"  # an attempt of its own had failed
    IN_FLIGHT = "in_flight"  # as many requests were under way as `max_in_flight` allows
    BUDGET = "budget"  # there was no place in the request budget
    READING = "reading"  # it could not be told whether the run before was finished
    QUEUED = "queued"  # the run before was not finished
    TURN = "turn"  # an earlier occurrence of the automation was open
    ADOPTED = "adopted"  # a new process took it up
    NOTHING_STARTED = "nothing_started"  # an attempt of unknown outcome turned out to have started nothing
    REOPENED = "reopened"  # it had an outcome, from then on until somebody asked for it


WAITS_FOR: Final[Mapping[Cause, str]] = {
    Cause.DUE: "its due time",
    Cause.ANSWER: "the answer to its request",
    Cause.OUTCOME: "readings that tell whether its attempt started a run",
    Cause.LEDGER: "the ledger to take a write",
    Cause.UNCONFIRMED: "a good poll that shows its automation",
    Cause.STALE: "a snapshot younger than stale_limit",
    Cause.CLOCK: "an API to confirm the clock after a step forward",
    Cause.HELD: "the release of its held target",
    Cause.THROTTLED: "its throttled target",
    Cause.BACK_OFF: "the next attempt after a failure",
    Cause.IN_FLIGHT: "one of the max_in_flight requests under way to end",
    Cause.BUDGET: "the request budget",
    Cause.READING: "a reading that tells whether the run before has ended",
    Cause.QUEUED: "the end of the run before it",
    Cause.TURN: "the automation's earlier occurrence",
}
"""What an occurrence waits for, by cause, in words that follow "waits for" and "waited for"."""

SEVERAL_WAIT_FOR: Final[Mapping[Cause, str]] = {
    **WAITS_FOR,
    Cause.DUE: "their due time",
    Cause.ANSWER: "the answers to their requests",
    Cause.OUTCOME: "readings that tell whether their attempts started a run",
    Cause.UNCONFIRMED: "a good poll that shows their automations",
    Cause.HELD: "the release of their held target",
    Cause.THROTTLED: "their throttled target",
    Cause.READING: "readings that tell whether the runs before them have ended",
    Cause.QUEUED: "the end of the runs before them",
    Cause.TURN: "earlier occurrences of their automations",
}
"""The same for several occurrences, in words that follow "wait for"."""

RECORDED_CAUSES: Final = frozenset(Cause) - {Cause.DUE, Cause.ANSWER, Cause.OUTCOME}
"""The causes that steps may have."""


@dataclass(frozen=True, slots=True)
class Step:
    """From ``at`` to ``until``, or at one instant. ``detail``: an error, an instant, an outcome, the id of a run; ``by``: whoever asked for it."""

    at: datetime
    cause: Cause
    until: datetime | None = None
    detail: str | None = None
    by: str | None = None
