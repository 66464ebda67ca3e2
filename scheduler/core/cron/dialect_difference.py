"""The form of a difference between crons, and the names of the crons."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from scheduler.core.cron.description import join_words

Code = Literal[
    "clock_repeats",
    "clock_skips",
    "day_fields_and",
    "day_fields_or",
    "equal_range",
    "full_day_field",
    "ignored_field",
    "large_step",
    "last_day",
    "last_weekday",
    "mixed_range",
    "named_step",
    "nearest_weekday",
    "nth_weekday",
    "numeric_weekday",
    "question_mark",
    "seven_is_sunday",
    "star_in_list",
    "start_with_step",
    "stepped_weekday",
    "sunday_first",
    "uneven_step",
    "utc_only",
    "wrapping_range",
    "wrapping_step",
]


class Cron(StrEnum):
    """Another cron, with its name for people."""

    DEBIAN = "Debian's cron"
    CRONITER = "croniter"
    CRONSIM = "cronsim"
    APSCHEDULER = "APScheduler"
    QUARTZ = "Quartz"
    EVENTBRIDGE = "EventBridge"
    EVENTBRIDGE_RULES = "EventBridge rules"
    EVENTBRIDGE_SCHEDULER = "EventBridge Scheduler"
    KUBERNETES = "Kubernetes"
    GITHUB = "GitHub Actions"
    SYSTEMD = "systemd timers"


class DialectBehaviour(NamedTuple):
    """Crons that share a different behaviour, and a clause about this behaviour."""

    does: str
    dialects: tuple[Cron, ...]


def behave(does: str, *dialects: Cron) -> DialectBehaviour:
    """Return the behaviour of these crons."""
    return DialectBehaviour(does, dialects)


def refuse(*dialects: Cron, why: str = "") -> DialectBehaviour:
    """Return the behaviour of crons that refuse the expression."""
    return DialectBehaviour(f"it is refused{why}", dialects)


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of an expression with another meaning in other crons.

    ``here`` is the meaning in this project, ``elsewhere`` the meaning in other crons. ``instead`` is a
    replacement with the same meaning in all crons.
    """

    code: Code
    here: str
    elsewhere: tuple[DialectBehaviour, ...] = ()
    instead: str | None = None

    @property
    def words(self) -> str:
        """The whole difference in one sentence, without a full stop."""
        others = (f"in {join_words(other.dialects)} {other.does}" for other in self.elsewhere)
        return "; ".join([self.here, *others, *([f"write {self.instead}"] if self.instead else [])])
