"""What all automations of one target implied in a stretch of time.

Each automation has a random weight, and the weights of those that are scheduled for an instant are added up. So SQLite, which counts and
adds up what has a row, can be compared with for each instant instead of for each occurrence: two different sets of automations have the
same count and the same sum once in a million million times. Only where these differ, the occurrences are looked at one by one.
"""

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from scheduler.audit.evaluation import Evaluation
from scheduler.audit.versions import FOREVER, RecordedVersion, VersionPeriod, find_periods
from scheduler.core.model import Gap

if TYPE_CHECKING:
    from scheduler.core.cron import Schedule
    from scheduler.core.model import Definition

_JUST_BEFORE: Final = timedelta(microseconds=1)
_WEIGHT_BITS: Final = 40  # so that a million of them fit into SQLite's integers when they are added up

Tally = tuple[int, int]
"""How many automations, and the sum of their weights."""
PeriodsByAutomation = Mapping[str, Sequence[VersionPeriod]]
"""By automation, its versions in force."""


def group_periods(versions: Iterable[RecordedVersion]) -> PeriodsByAutomation:
    """From the versions of any number of automations, those of each in the order of recording."""
    of_each: defaultdict[str, list[RecordedVersion]] = defaultdict(list)
    for version in versions:
        of_each[version.automation_id].append(version)
    return {automation_id: find_periods(recorded) for automation_id, recorded in of_each.items()}


def draw_weights(automations: Iterable[str]) -> dict[str, int]:
    """A weight for each automation, the same ones for the same automations."""
    draw = random.Random(0)  # noqa: S311 -- nobody is to be kept from guessing them
    return {each: draw.getrandbits(_WEIGHT_BITS) + 1 for each in sorted(automations)}


@dataclass(frozen=True, slots=True)
class OccurrenceSpan:
    """A row that stands for several consecutive occurrences of an automation, both ends included.

    ``intervals`` says which, in runs of seconds between one and the next and how often. Without them ``schedule`` says which: the
    definition as it was evaluated. A span of the ledger's first version has neither: it stands for what its definitions implied in between.
    """

    automation_id: str
    first: datetime
    last: datetime
    count: int
    outcome: str
    reason: str
    intervals: tuple[tuple[int, int], ...] | None
    schedule: "Schedule | None" = None

    @property
    def fate(self) -> str:
        """What became of all of them."""
        return f"{self.outcome}: {self.reason}"

    def list_instants(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Its instants after ``begin`` and up to ``end``, however many it has before; to be asked of one that knows its intervals."""
        if begin < self.first <= end:
            yield self.first
        at = self.first
        for seconds, times in self.intervals or ():
            step = timedelta(seconds=seconds)
            passed = min(max((begin - at) // step, 0), times)
            for number in range(passed + 1, times + 1):
                if at + number * step > end:
                    return
                if at + number * step > begin:
                    yield at + number * step
            at += times * step


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
    """Instants that spans of one schedule and with the same bounds stand for, with the fate of each automation that has one."""

    instants: tuple[datetime, ...]
    fates: Mapping[str, str]


@dataclass(slots=True)
class AuditExpectation:
    """What was implied after ``begin`` and up to ``end``. What `spans` stand for, except at their first instants, is taken out.

    What lies in the ``gaps`` is implied as well, and need not be on record yet.
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
            self._add_to_tally(due.instants, len(due.members), sum(self.weights[each] for each in due.members))
        by_schedule: defaultdict[tuple[Schedule, datetime, datetime], list[OccurrenceSpan]] = defaultdict(list)
        for span in self.spans:
            if span.schedule is None:
                self._subtract_span(span)
            else:
                by_schedule[span.schedule, span.first, span.last].append(span)
        for spans in by_schedule.values():
            self._subtract_equal_spans(spans)

    def find_span_fates(self, instant: datetime) -> dict[str, str]:
        """By automation, the fate of the span that stands for the instant; not of one that begins at it, and so has a row there."""
        found = {automation_id: fates[instant] for automation_id, fates in self._span_fates.items() if instant in fates}
        for covered in self._span_groups:
            at = bisect_left(covered.instants, instant)
            if at < len(covered.instants) and covered.instants[at] == instant:
                found |= covered.fates
        return found

    def _subtract_equal_spans(self, spans: Sequence[OccurrenceSpan]) -> None:
        """Take out spans of one schedule and with the same bounds: their instants are evaluated once for all of them."""
        schedule, first, last = spans[0].schedule, spans[0].first, spans[0].last
        assert schedule is not None
        instants = tuple(schedule.iterate_between(max(self.begin, first - _JUST_BEFORE), min(self.end, last)))
        self.span_counts.update(dict.fromkeys(spans, len(instants)))
        behind = instants[1:] if instants and instants[0] == first else instants
        self._span_groups.append(_SpanGroup(behind, {span.automation_id: span.fate for span in spans}))
        self._add_to_tally(behind, -len(spans), -sum(self.weights.get(span.automation_id, 0) for span in spans))

    def _subtract_span(self, span: OccurrenceSpan) -> None:
        instants = list(span.list_instants(self.begin, self.end)) if span.intervals is not None else self._derive_span_instants(span)
        self.span_counts[span] = len(instants)
        behind = [each for each in instants if each != span.first]
        self._span_fates[span.automation_id].update(dict.fromkeys(behind, span.fate))
        self._add_to_tally(behind, -1, -self.weights.get(span.automation_id, 0))

    def _derive_span_instants(self, span: OccurrenceSpan) -> list[datetime]:
        return [each for each in self.list_required_instants(span.automation_id, self.begin, self.end) if span.first <= each <= span.last]

    def list_required_instants(self, automation_id: str, begin: datetime, end: datetime) -> list[datetime]:
        """The instants of one automation that must be on record, after ``begin`` and up to ``end``, wherever these lie."""
        return sorted(
            {each for force in self.periods.get(automation_id, ()) for each in self._list_period_instants(force, begin, end, force.end)}
        )

    def find_tolerated_instants(self, automation_id: str, begin: datetime, end: datetime) -> set[datetime]:
        """Those that may be on record: they were implied by a version of which nobody knew yet that it had ended."""
        return {
            each
            for force in self.periods.get(automation_id, ())
            for each in self._list_period_instants(force, begin, end, force.tolerated_until)
        }

    def was_implied_when_sent(self, automation_id: str, instant: datetime, sent_at: datetime) -> bool:
        """Whether a version that the daemon knew at ``sent_at``, on the API's clock, implies the instant.

        A clock that was ahead sends an occurrence before an edit that counts from before the instant; it is then set back.
        """
        forces = [force for force in self.periods.get(automation_id, ()) if force.known_until >= sent_at]
        return any(self._list_period_instants(force, instant - _JUST_BEFORE, instant, FOREVER) for force in forces)

    def find_required_automations(self, instant: datetime) -> set[str]:
        """The automations that must be on record with this instant, those in spans included."""
        return {each for due in self._due_groups if due.has_instant(instant) for each in due.members}

    def _list_period_instants(self, force: VersionPeriod, begin: datetime, end: datetime, until: datetime) -> tuple[datetime, ...]:
        definition, since = force.version.firing_definition, max(begin, force.begin)
        return () if definition is None or since >= min(end, until) else self.evaluation.list_instants(definition, since, min(end, until))

    def _group_due_automations(self) -> None:
        members: defaultdict[tuple[Definition, datetime, datetime], list[str]] = defaultdict(list)
        for automation_id, force in self._list_periods():
            definition, begin, end = force.version.firing_definition, max(self.begin, force.begin), min(self.end, force.end)
            if definition is not None and begin < end:
                members[definition, begin, end].append(automation_id)
        for (definition, begin, end), sharing in members.items():
            self._due_groups.append(_DueGroup(self.evaluation.list_instants(definition, begin, end), sharing))

    def _list_periods(self) -> Iterator[tuple[str, VersionPeriod]]:
        return ((automation_id, force) for automation_id, forces in self.periods.items() for force in forces)

    def _add_to_tally(self, instants: Iterable[datetime], count: int, weight: int) -> None:
        for instant in instants:
            known = self.tally.get(instant, (0, 0))
            self.tally[instant] = known[0] + count, known[1] + weight
