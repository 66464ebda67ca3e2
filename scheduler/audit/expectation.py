"""The instants implied by all automations of one target in a stretch of time.

Each automation has a random weight. The weights of all automations scheduled at an instant are added up.
SQLite counts the rows and adds up the weights in the same way. So the comparison takes one step per instant
instead of one step per occurrence. Two different sets of automations have the same count and the same sum
once in a million million times. Only instants with a difference are compared occurrence by occurrence.
"""

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
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


@dataclass(frozen=True, slots=True)
class _DueGroup:
    """Automations with the same schedule, in force in the same part of the stretch."""

    instants: tuple[datetime, ...]
    members: list[str]

    def has_instant(self, instant: datetime) -> bool:
        at = bisect_left(self.instants, instant)
        return at < len(self.instants) and self.instants[at] == instant


@dataclass(frozen=True, slots=True)
class _SpanGroup:
    """The instants of spans with the same schedule and bounds, and the fate for each automation."""

    instants: tuple[datetime, ...]
    fates: Mapping[str, str]


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
    _span_fates: defaultdict[str, dict[datetime, str]] = field(default_factory=partial(defaultdict, dict))
    _span_groups: list[_SpanGroup] = field(default_factory=list)
    _due_groups: list[_DueGroup] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.evaluation.set_window(self.begin, self.end)
        self._group_due_automations()
        for due in self._due_groups:
            self._add_to_tally(
                due.instants, len(due.members), sum(self.weights[member] for member in due.members)
            )
        by_schedule: defaultdict[tuple[Schedule, datetime, datetime], list[OccurrenceSpan]] = defaultdict(
            list
        )
        for span in self.spans:
            if span.schedule is None:
                self._subtract_span(span)
            else:
                by_schedule[span.schedule, span.first, span.last].append(span)
        for spans in by_schedule.values():
            self._subtract_equal_spans(spans)

    def find_span_fates(self, instant: datetime) -> dict[str, str]:
        """Find the fates of the spans with the instant, by automation.

        A span that begins at the instant is left out, because the span has a row there.
        """
        by_automation = {
            automation_id: fates[instant]
            for automation_id, fates in self._span_fates.items()
            if instant in fates
        }
        for covered in self._span_groups:
            at = bisect_left(covered.instants, instant)
            if at < len(covered.instants) and covered.instants[at] == instant:
                by_automation |= covered.fates
        return by_automation

    def _subtract_equal_spans(self, spans: Sequence[OccurrenceSpan]) -> None:
        """Subtract spans with the same schedule and bounds: the instants are evaluated once for all."""
        schedule, first, last = spans[0].schedule, spans[0].first, spans[0].last
        assert schedule is not None
        instants = tuple(schedule.iterate_between(max(self.begin, first - JUST_BEFORE), min(self.end, last)))
        self.span_counts.update(dict.fromkeys(spans, len(instants)))
        behind = instants[1:] if instants and instants[0] == first else instants
        self._span_groups.append(_SpanGroup(behind, {span.automation_id: span.fate for span in spans}))
        self._add_to_tally(
            behind, -len(spans), -sum(self.weights.get(span.automation_id, 0) for span in spans)
        )

    def _subtract_span(self, span: OccurrenceSpan) -> None:
        instants = (
            list(span.list_instants(self.begin, self.end))
            if span.intervals is not None
            else self._derive_span_instants(span)
        )
        self.span_counts[span] = len(instants)
        behind = [instant for instant in instants if instant != span.first]
        self._span_fates[span.automation_id].update(dict.fromkeys(behind, span.fate))
        self._add_to_tally(behind, -1, -self.weights.get(span.automation_id, 0))

    def _derive_span_instants(self, span: OccurrenceSpan) -> list[datetime]:
        return [
            instant
            for instant in self.list_required_instants(span.automation_id, self.begin, self.end)
            if span.first <= instant <= span.last
        ]

    def list_required_instants(self, automation_id: str, begin: datetime, end: datetime) -> list[datetime]:
        """List the instants of an automation required on record, after ``begin`` and up to ``end``.

        ``begin`` and ``end`` may lie outside the stretch.
        """
        return sorted(
            {
                instant
                for period in self.periods.get(automation_id, ())
                for instant in self._list_period_instants(period, begin, end, period.end)
            }
        )

    def find_tolerated_instants(self, automation_id: str, begin: datetime, end: datetime) -> set[datetime]:
        """Find the instants that may be on record.

        The instants are implied by a version in force, or by a version whose end the daemon did not know yet.
        """
        return {
            instant
            for period in self.periods.get(automation_id, ())
            for instant in self._list_period_instants(period, begin, end, period.tolerated_until)
        }

    def was_implied_when_sent(self, automation_id: str, instant: datetime, sent_at: datetime) -> bool:
        """Return whether a version known to the daemon at ``sent_at`` implies the instant.

        ``sent_at`` is on the API's clock. A local clock that is ahead sends an occurrence before an edit,
        although the edit counts from before the instant; later the clock is set back.
        """
        periods = [period for period in self.periods.get(automation_id, ()) if period.known_until >= sent_at]
        return any(
            self._list_period_instants(period, instant - JUST_BEFORE, instant, END_OF_TIME)
            for period in periods
        )

    def find_required_automations(self, instant: datetime) -> set[str]:
        """Find the automations required on record at this instant, automations in spans included."""
        return {member for due in self._due_groups if due.has_instant(instant) for member in due.members}

    def _list_period_instants(
        self, period: VersionPeriod, begin: datetime, end: datetime, until: datetime
    ) -> tuple[datetime, ...]:
        definition, since = period.version.firing_definition, max(begin, period.begin)
        return (
            ()
            if definition is None or since >= min(end, until)
            else self.evaluation.list_instants(definition, since, min(end, until))
        )

    def _group_due_automations(self) -> None:
        members: defaultdict[tuple[Definition, datetime, datetime], list[str]] = defaultdict(list)
        for automation_id, period in self._list_periods():
            definition, begin, end = (
                period.version.firing_definition,
                max(self.begin, period.begin),
                min(self.end, period.end),
            )
            if definition is not None and begin < end:
                members[definition, begin, end].append(automation_id)
        for (definition, begin, end), sharing in members.items():
            self._due_groups.append(_DueGroup(self.evaluation.list_instants(definition, begin, end), sharing))

    def _list_periods(self) -> Iterator[tuple[str, VersionPeriod]]:
        return (
            (automation_id, period) for automation_id, periods in self.periods.items() for period in periods
        )

    def _add_to_tally(self, instants: Iterable[datetime], count: int, weight: int) -> None:
        for instant in instants:
            before = self.tally.get(instant, (0, 0))
            self.tally[instant] = before[0] + count, before[1] + weight
