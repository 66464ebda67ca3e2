"""Which instants a definition implied, by the rules of the time: those that read expressions, and those for clock changes.

croniter and the zone data are those of now; which ones evaluated then is on record, so that a difference can be told from a loss.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, cast

from scheduler.audit.versions import FOREVER
from scheduler.core.cron import GapPolicy, InvalidSchedule, RepeatPolicy, Schedule
from scheduler.core.model import Definition

_JUST_BEFORE: Final = timedelta(microseconds=1)

Transition = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class EvaluationRules:
    """What schedules were evaluated with after ``since``."""

    since: datetime
    croniter: str
    tzdata: str
    dst_gap: str
    dst_repeat: str
    rules_version: int  # of the scheduler's own rules for reading expressions

    @property
    def evaluator(self) -> tuple[str, str]:
        """The versions of croniter and of the zone data."""
        return self.croniter, self.tzdata

    @property
    def settings(self) -> tuple[str, str, int]:
        """Everything beside the versions that decides which instants a definition implies."""
        return self.dst_gap, self.dst_repeat, self.rules_version

    def parse_schedule(self, definition: Definition) -> Schedule:
        """Raises `InvalidSchedule`: by the zone data of now, for one."""
        gap, repeat = cast("GapPolicy", self.dst_gap), cast("RepeatPolicy", self.dst_repeat)
        return Schedule.parse(
            definition.cron_expression, definition.timezone, dst_gap=gap, dst_repeat=repeat, rules_version=self.rules_version
        )


class _Key(NamedTuple):
    expression: str
    timezone: str
    rules: int


class Evaluation:
    """Evaluates definitions by the recorded ``rules``, oldest first. Within a `set_window` each unique schedule is evaluated once.

    ``transitions``: stretches after one instant and up to another one that were decided by the rules before or after a change of rules.
    """

    def __init__(self, rules: Sequence[EvaluationRules], transitions: Sequence[Transition] = ()) -> None:
        self._rules = rules
        self._transitions = transitions
        self._starts = [each.since for each in rules]
        self._distinct_rules = {each.settings: each for each in rules}.values()
        self._memo: dict[_Key, tuple[datetime, ...]] = {}
        self._window = (FOREVER, FOREVER)

    def set_window(self, begin: datetime, end: datetime) -> None:
        """What is asked for next lies after ``begin`` and not after ``end``."""
        self._window = (begin, end)
        self._memo.clear()

    def find_rules_at(self, instant: datetime) -> EvaluationRules:
        """The rules by which it was decided whether something was scheduled at this instant."""
        return self._rules[self._find_index(instant - _JUST_BEFORE)]

    def list_instants(self, definition: Definition, begin: datetime, end: datetime) -> tuple[datetime, ...]:
        """The scheduled instants after ``begin`` and up to ``end``; none of a definition that is no schedule by now."""
        if self._window[0] <= begin and end <= self._window[1]:
            found = tuple(each for number in self._list_indexes(*self._window) for each in self._get_cached_instants(definition, number))
            return found if (begin, end) == self._window else found[bisect_right(found, begin) : bisect_right(found, end)]
        return tuple(each for number in self._list_indexes(begin, end) for each in self._evaluate(definition, number, begin, end))

    def implies(self, definition: Definition, instant: datetime) -> bool:
        """Whether it is scheduled at exactly this instant."""
        return bool(self.list_instants(definition, instant - _JUST_BEFORE, instant))

    def is_uncertain(self, definition: Definition, instant: datetime) -> bool:
        """Whether the instant lies in a transition, and not all rules agree whether the definition is scheduled there."""
        if not any(begin < instant <= end for begin, end in self._transitions):
            return False
        try:
            return len({rules.parse_schedule(definition).is_fire_time(instant) for rules in self._distinct_rules}) > 1
        except InvalidSchedule:
            return False

    def _find_index(self, instant: datetime) -> int:
        return max(bisect_right(self._starts, instant) - 1, 0)

    def _list_indexes(self, begin: datetime, end: datetime) -> range:
        return range(self._find_index(begin), self._find_index(end - _JUST_BEFORE) + 1)

    def _get_cached_instants(self, definition: Definition, number: int) -> tuple[datetime, ...]:
        key = _Key(definition.cron_expression, definition.timezone, number)
        if key not in self._memo:
            self._memo[key] = tuple(self._evaluate(definition, number, *self._window))
        return self._memo[key]

    def _evaluate(self, definition: Definition, number: int, begin: datetime, end: datetime) -> Iterator[datetime]:
        until = self._starts[number + 1] if number + 1 < len(self._starts) else FOREVER
        since = self._starts[number] if number else begin
        try:
            return self._rules[number].parse_schedule(definition).iterate_between(max(begin, since), min(end, until))
        except InvalidSchedule:
            return iter(())
