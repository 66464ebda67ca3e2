"""The instants implied by all automations of one target in a stretch of time.

Each automation has a random weight. The weights of all automations scheduled at an instant are added up.
SQLite counts the rows and adds up the weights in the same way. So the comparison takes one step per instant
instead of one step per occurrence. Two different sets of automations have the same count and the same sum
once in a million million times. Only instants with a difference are compared occurrence by occurrence.
"""

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Final

from scheduler.audit.evaluation import Evaluation
from scheduler.audit.versions import VersionPeriod, find_periods
from scheduler.core.instants import END_OF_TIME, JUST_BEFORE
from scheduler.core.model import Gap
from scheduler.ledger.audit_queries import OccurrenceSpan, Tally
from scheduler.ledger.versions import RecordedVersion

if TYPE_CHECKING:
    from scheduler.core.cron.schedule import Schedule
    from scheduler.core.model import Definition

_WEIGHT_BITS: Final = 40  # the sum of a million weights fits into an SQLite integer

PeriodsByAutomation = Mapping[str, Sequence[VersionPeriod]]
"""The periods of the definition versions, by automation."""


def group_periods(versions: Iterable[RecordedVersion]) -> PeriodsByAutomation:
    """Group the versions of any number of automations into periods.

    The versions of each automation must be in the order of recording.
    """
    of_each: defaultdict[str, list[RecordedVersion]] = defaultdict(list)
    for version in versions:
        of_each[version.automation_id].append(version)
    return {automation_id: find_periods(recorded) for automation_id, recorded in of_each.items()}


def draw_weights(automations: Iterable[str]) -> dict[str, int]:
    """Draw a weight for each automation. The same automations always get the same weights."""
    draw = random.Random(0)  # noqa: S311 -- the weights are no secret
    return {automation_id: draw.getrandbits(_WEIGHT_BITS) + 1 for automation_id in sorted(automations)}


def _contains(instants: tuple[datetime, ...], instant: datetime) -> bool:
    at = bisect_left(instants, instant)
    return at < len(instants) and instants[at] == instant


@dataclass(slots=True)
class AuditExpectation:
    """The instants implied after ``begin`` and up to ``end``, without the instants of ``spans``.

    The first instant of each span stays in the tally, because the row of the span begins there. Instants in
    the ``gaps`` are implied too, and need not be on record yet.
    """

    periods: PeriodsByAutomation
    weights: Mapping[str, int]
    evaluation: Evaluation
    begin: datetime
    end: datetime
    spans: Sequence[OccurrenceSpan] = ()
    gaps: Sequence[Gap] = ()
    tally: dict[datetime, Tally] = field(default_factory=dict)
    span_counts: Counter[OccurrenceSpan] = field(default_factory=Counter)
    _span_groups: list[tuple[tuple[datetime, ...], Mapping[str, str]]] = field(default_factory=list)
    """The instants of spans with the same schedule and bounds, and the fate for each automation."""
    _due_groups: list[tuple[tuple[datetime, ...], list[str]]] = field(default_factory=list)
    """The instants of automations with the same schedule, in force in the same part of the stretch."""

    def __post_init__(self) -> None:
        self.evaluation.set_window(self.begin, self.end)
        self._group_due_automations()
        for instants, members in self._due_groups:
            self._add_to_tally(instants, members, 1)
        by_schedule: defaultdict[tuple[Schedule, datetime, datetime], list[OccurrenceSpan]] = defaultdict(
            list
        )
        for span in self.spans:
            if span.schedule is None:
                self._subtract_spans([span], self._list_span_instants(span))
            else:
                by_schedule[span.schedule, span.first, span.last].append(span)
        for (schedule, first, last), spans in by_schedule.items():
            begin, end = max(self.begin, first - JUST_BEFORE), min(self.end, last)
            self._subtract_spans(spans, schedule.iterate_between(begin, end))

    def find_span_fates(self, instant: datetime) -> dict[str, str]:
        """Find the fates of the spans with the instant, by automation.

        A span that begins at the instant is left out, because the span has a row there.
        """
        by_automation: dict[str, str] = {}
        for instants, fates in self._span_groups:
            if _contains(instants, instant):
                by_automation |= fates
        return by_automation

    def _subtract_spans(self, spans: Sequence[OccurrenceSpan], listed: Iterable[datetime]) -> None:
        """Subtract spans with the same instants, which are listed once for all."""
        instants = tuple(listed)
        self.span_counts.update(dict.fromkeys(spans, len(instants)))
        behind = instants[1:] if instants[:1] == (spans[0].first,) else instants
        fates = {span.automation_id: span.fate for span in spans}
        self._span_groups.append((behind, fates))
        self._add_to_tally(behind, fates, -1)

    def _list_span_instants(self, span: OccurrenceSpan) -> Iterable[datetime]:
        if span.intervals is not None:
            return span.list_instants(self.begin, self.end)
        required = self.list_required_instants(span.automation_id, self.begin, self.end)
        return (instant for instant in required if span.first <= instant <= span.last)

    def list_required_instants(self, automation_id: str, begin: datetime, end: datetime) -> list[datetime]:
        """List the instants of an automation required on record, after ``begin`` and up to ``end``.

        ``begin`` and ``end`` may lie outside the stretch.
        """
        periods = self.periods.get(automation_id, ())
        return sorted(
            {at for period in periods for at in self.evaluation.list_period_instants(period, begin, end)}
        )

    def find_tolerated_instants(self, automation_id: str, begin: datetime, end: datetime) -> set[datetime]:
        """Find the instants that may be on record.

        The instants are implied by a version in force, or by a version whose end the daemon did not know yet.
        """
        instants: set[datetime] = set()
        for period in self.periods.get(automation_id, ()):
            until = period.tolerated_until
            instants.update(self.evaluation.list_period_instants(period, begin, end, until))
        return instants

    def was_implied_when_written(self, automation_id: str, instant: datetime, row_id: int) -> bool:
        """Return whether a version implies the instant whose end was not recorded before the row ``row_id``.

        A local clock that is ahead sends an occurrence before an edit, although the edit counts from before
        the instant; later the clock is set back. The order of the rows in the ledger does not depend on a
        clock.
        """
        return any(
            self.evaluation.list_period_instants(period, instant - JUST_BEFORE, instant, END_OF_TIME)
            for period in self.periods.get(automation_id, ())
            if period.last_id >= row_id
        )

    def find_required_automations(self, instant: datetime) -> set[str]:
        """Find the automations required on record at this instant, automations in spans included."""
        groups = (members for instants, members in self._due_groups if _contains(instants, instant))
        return set(chain.from_iterable(groups))

    def _group_due_automations(self) -> None:
        members: defaultdict[tuple[Definition, datetime, datetime], list[str]] = defaultdict(list)
        for automation_id, periods in self.periods.items():
            for period in periods:
                definition = period.version.firing_definition
                begin, end = max(self.begin, period.begin), min(self.end, period.end)
                if definition is not None and begin < end:
                    members[definition, begin, end].append(automation_id)
        for key, sharing in members.items():
            self._due_groups.append((self.evaluation.list_instants(*key), sharing))

    def _add_to_tally(self, instants: Iterable[datetime], automations: Collection[str], sign: int) -> None:
        count = sign * len(automations)
        weight = sign * sum(self.weights.get(automation_id, 0) for automation_id in automations)
        for instant in instants:
            before = self.tally.get(instant, (0, 0))
            self.tally[instant] = before[0] + count, before[1] + weight
