"""The instants implied by a definition, by the rules of that time.

The rules are the rules for reading expressions and the rules for clock changes. croniter and the zone data
are the present versions. The versions of that time are on record, and distinguish a difference in evaluation
from a loss.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from scheduler.audit.versions import VersionPeriod
from scheduler.core.cron.schedule import InvalidSchedule
from scheduler.core.instants import END_OF_TIME, JUST_BEFORE
from scheduler.core.model import Definition
from scheduler.ledger.versions import EvaluationRules, Transition


class Evaluation:
    """Evaluates definitions by the recorded ``rules``, oldest first.

    Within a window of `set_window` each unique schedule is evaluated once. ``transitions`` are stretches of
    time, exclusive begin and inclusive end, decided by the rules before or after a change of rules.
    """

    def __init__(self, rules: Sequence[EvaluationRules], transitions: Sequence[Transition] = ()) -> None:
        self._rules = rules
        self._transitions = transitions
        self._starts = [rule_set.since for rule_set in rules]
        self._distinct_rules = {rule_set.settings: rule_set for rule_set in rules}.values()
        self._memo: dict[tuple[str, str], tuple[datetime, ...]] = {}  # by expression and time zone
        self._window = (END_OF_TIME, END_OF_TIME)

    def set_window(self, begin: datetime, end: datetime) -> None:
        """Set the window of the next questions: after ``begin`` and up to ``end``."""
        self._window = (begin, end)
        self._memo.clear()

    def find_rules_at(self, instant: datetime) -> EvaluationRules:
        """Return the rules that decided whether an occurrence was scheduled at this instant."""
        return self._rules[self._find_index(instant - JUST_BEFORE)]

    def list_instants(self, definition: Definition, begin: datetime, end: datetime) -> tuple[datetime, ...]:
        """List the scheduled instants after ``begin`` and up to ``end``.

        The result is empty for a definition that cannot be evaluated now.
        """
        if not (self._window[0] <= begin and end <= self._window[1]):
            return self._evaluate(definition, begin, end)
        key = definition.cron_expression, definition.timezone
        if key not in self._memo:
            self._memo[key] = self._evaluate(definition, *self._window)
        instants = self._memo[key]
        if (begin, end) == self._window:
            return instants
        return instants[bisect_right(instants, begin) : bisect_right(instants, end)]

    def list_period_instants(
        self, period: VersionPeriod, begin: datetime, end: datetime, until: datetime | None = None
    ) -> tuple[datetime, ...]:
        """List the instants of a version, while the version is in force, or up to ``until`` instead."""
        definition, begin = period.version.firing_definition, max(begin, period.begin)
        end = min(end, period.end if until is None else until)
        return () if definition is None or begin >= end else self.list_instants(definition, begin, end)

    def implies(self, definition: Definition, instant: datetime) -> bool:
        """Return whether the definition is scheduled at exactly this instant."""
        return bool(self.list_instants(definition, instant - JUST_BEFORE, instant))

    def is_uncertain(self, definition: Definition, instant: datetime) -> bool:
        """Return whether the instant lies in a transition and the rules disagree about the instant."""
        if not any(begin < instant <= end for begin, end in self._transitions):
            return False
        try:
            schedules = [rules.parse_schedule(definition) for rules in self._distinct_rules]
        except InvalidSchedule:
            return False
        return len({schedule.is_fire_time(instant) for schedule in schedules}) > 1

    def _find_index(self, instant: datetime) -> int:
        return max(bisect_right(self._starts, instant) - 1, 0)

    def _evaluate(self, definition: Definition, begin: datetime, end: datetime) -> tuple[datetime, ...]:
        instants: list[datetime] = []
        for number in range(self._find_index(begin), self._find_index(end - JUST_BEFORE) + 1):
            until = self._starts[number + 1] if number + 1 < len(self._starts) else END_OF_TIME
            since = self._starts[number] if number else begin
            with suppress(InvalidSchedule):
                schedule = self._rules[number].parse_schedule(definition)
                instants += schedule.iterate_between(max(begin, since), min(end, until))
        return tuple(instants)
