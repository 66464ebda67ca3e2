"""The steps of an occurrence that its attempts do not show: waits, recovery, and requests for a backfill.

Steps are separate from `model` because no decision depends on them: they explain an occurrence afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from scheduler.core.model import Occurrence


class Cause(StrEnum):
    """The cause of a wait of an occurrence, or an event at an instant. `WAITS_FOR` has the waits.

    `DUE`, `ANSWER` and `OUTCOME` are shown while they last and never recorded as steps: the row and its
    attempts show them.
    """

    DUE = "due"  # the jitter of the occurrence has not passed yet
    ANSWER = "answer"  # the request was sent and has no answer yet
    OUTCOME = "outcome"  # the attempt is unknown until readings show whether a run was started
    ABSENT = "absent"  # no daemon ran at the due instant
    LEDGER = "ledger"  # the ledger could not be written
    UNCONFIRMED = "unconfirmed"  # no good poll since the start, or the newest good poll lacked the automation
    STALE = "stale"  # no good poll for longer than `stale_limit`
    CLOCK = "clock"  # the clock had stepped forward, and no API had confirmed the clock
    HELD = "held"  # the target was held
    THROTTLED = "throttled"  # the API had asked the daemon to send nothing
    BACK_OFF = "back_off"  # an attempt of the same occurrence had failed
    IN_FLIGHT = "in_flight"  # as many requests were under way as `max_in_flight` allows
    BUDGET = "budget"  # the request budget had no place
    READING = "reading"  # no reading showed whether the run before was finished
    QUEUED = "queued"  # the run before was not finished
    TURN = "turn"  # an earlier occurrence of the automation was open
    ADOPTED = "adopted"  # a new process recovered the occurrence
    NOTHING_STARTED = "nothing_started"  # an unknown attempt was found to have started nothing
    REOPENED = "reopened"  # the occurrence had an outcome, from ``at`` until an operator asked for a backfill


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
"""Words for the wait of each cause; they continue "waits for" and "waited for"."""

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
"""Words for the wait of several occurrences, by cause; they continue "wait for"."""

RECORDED_CAUSES: Final = frozenset(Cause) - {Cause.DUE, Cause.ANSWER, Cause.OUTCOME}
"""The causes allowed in recorded steps."""
MIN_WAIT: Final = 1.0
"""Seconds. A shorter wait is not recorded."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step from ``at`` to ``until``, or at one instant without ``until``.

    ``detail`` is an error, an instant, an outcome or the id of a run. ``by`` is the operator who asked for
    the step.
    """

    at: datetime
    cause: Cause
    until: datetime | None = None
    detail: str | None = None
    by: str | None = None


StepsByOccurrence = Sequence[tuple[Occurrence, Sequence[Step]]]
"""Occurrences with their steps."""
