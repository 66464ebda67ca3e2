"""What happened to an occurrence on its way that its attempts do not tell: what it waited for, who took it up, and who asked for it again.

Apart from `model`, because nothing decides by it: it is written so that somebody can be told afterwards.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Cause(StrEnum):
    """What a step was about. The first ones are waits, the others happened at one instant, except `REOPENED`."""

    ABSENT = "absent"  # no daemon ran when it came due
    LEDGER = "ledger"  # the ledger could not be written
    UNCONFIRMED = "unconfirmed"  # no good poll yet since the start, or the automation was absent from the newest one
    STALE = "stale"  # no good poll for longer than `stale_limit`
    CLOCK = "clock"  # the clock had stepped forward, and nobody had confirmed it
    HELD = "held"  # the target was held
    THROTTLED = "throttled"  # the API had asked to be left alone
    BACK_OFF = "back_off"  # an attempt of its own had failed
    BUDGET = "budget"  # there was no place in the request budget, or of `max_in_flight`
    READING = "reading"  # it could not be told whether the run before was finished
    QUEUED = "queued"  # the run before was not finished
    TURN = "turn"  # an earlier occurrence of the automation was open
    ADOPTED = "adopted"  # a new process took it up
    NOTHING_STARTED = "nothing_started"  # an attempt of unknown outcome turned out to have started nothing
    REOPENED = "reopened"  # it had an outcome, from then on until somebody asked for it


@dataclass(frozen=True, slots=True)
class Step:
    """From ``at`` to ``until``, or at one instant. ``detail``: an error, an instant, an outcome; ``by``: whoever asked for it."""

    at: datetime
    cause: Cause
    until: datetime | None = None
    detail: str | None = None
    by: str | None = None
