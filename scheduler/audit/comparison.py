"""The differences between the record and the implied occurrences, and a finding for each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.audit.evaluation import Evaluation
from scheduler.audit.expectation import AuditExpectation, PeriodsByAutomation
from scheduler.audit.findings import KEEP_ADVICE, AuditFinding, FindingKind
from scheduler.audit.versions import find_period_at
from scheduler.core.backlog_decisions import measure_extent
from scheduler.core.command_line import format_command
from scheduler.core.instants import JUST_BEFORE, to_text_seconds
from scheduler.core.model import Definition, Gap
from scheduler.core.quantities import pluralize
from scheduler.ledger.audit_queries import OccurrenceSpan, Tally

MAX_ZONE_SHIFT: Final = timedelta(days=1)
"""Maximum distance by which other zone data move an occurrence: a clock shift, or an omitted day."""


@dataclass(frozen=True, slots=True, order=True)
class Discrepancy:
    """An occurrence with a wrong number of rows.

    `missing`: implied, without a row. `unexplained`: a row, not implied. `double`: two rows.
    """

    scheduled_for: datetime
    automation_id: str
    kind: FindingKind
    fate: str = ""  # outcome and reason, or state, of the row


def find_differing_instants(
    expectation: AuditExpectation, counted: Mapping[datetime, Tally]
) -> list[datetime]:
    """Find the instants at which the rows differ from the expected rows, by count or weight."""
    tally = expectation.tally
    return sorted(
        instant
        for instant in tally.keys() | counted.keys()
        if tally.get(instant, (0, 0)) != counted.get(instant, (0, 0))
    )


def split_off_gaps(
    instants: Sequence[datetime], gaps: Sequence[Gap]
) -> tuple[list[datetime], list[datetime]]:
    """Split the instants into instants outside all gaps and instants inside a gap.

    An occurrence without a row inside a gap is not decided yet.
    """
    undecided = [instant for instant in instants if any(gap.since < instant <= gap.until for gap in gaps)]
    return sorted(set(instants) - set(undecided)), undecided


def count_missing_rows(
    instants: Sequence[datetime], expectation: AuditExpectation, counted: Mapping[datetime, Tally]
) -> int:
    """Count the rows missing at these instants, compared with the expectation."""
    return sum(
        max(expectation.tally.get(instant, (0, 0))[0] - counted.get(instant, (0, 0))[0], 0)
        for instant in instants
    )


def find_discrepancies(
    expectation: AuditExpectation, instant: datetime, rows: Mapping[str, str]
) -> Iterator[Discrepancy]:
    """Yield the discrepancies at one instant.

    ``rows`` maps an automation to the fate of the row that begins at the instant: a row for a single
    occurrence, or a span.
    """
    covered = expectation.find_span_fates(instant)
    required = expectation.find_required_automations(instant)
    for automation_id in sorted(required - rows.keys() - covered.keys()):
        if not any(gap.may_contain(automation_id, instant) for gap in expectation.gaps):
            yield Discrepancy(instant, automation_id, FindingKind.MISSING)
    for automation_id in sorted(rows.keys() & covered.keys()):
        yield Discrepancy(instant, automation_id, FindingKind.DOUBLE, rows[automation_id])
    for automation_id, fate in sorted((covered | dict(rows)).items()):
        if automation_id not in required and not expectation.find_tolerated_instants(
            automation_id, instant - JUST_BEFORE, instant
        ):
            yield Discrepancy(instant, automation_id, FindingKind.UNEXPLAINED, fate)


def find_miscounted_spans(expectation: AuditExpectation) -> Iterator[tuple[OccurrenceSpan, int]]:
    """Yield the spans with a wrong count, each with the right count.

    Only spans beginning in the stretch are checked. The instants of a span with intervals are compared one by
    one elsewhere. Here only the count of such a span is compared with the intervals.
    """
    for span in expectation.spans:
        if not expectation.begin < span.first <= expectation.end:
            continue
        if span.intervals is not None:
            if span.count != (covered := 1 + sum(times for _, times in span.intervals)):
                yield span, covered
            continue
        since = span.first - JUST_BEFORE
        if span.schedule is not None:
            extent = measure_extent(span.schedule, since, span.last)  # once for each shared schedule
            if span.count != (implied := 0 if extent is None else extent.count):
                yield span, implied
            continue
        required = set(expectation.list_required_instants(span.automation_id, since, span.last))
        if span.count != len(required):
            most = len(required | expectation.find_tolerated_instants(span.automation_id, since, span.last))
            if not len(required) <= span.count <= most:
                yield span, len(required)


class Judge:
    """Turns the discrepancies of one target into findings."""

    def __init__(
        self, target: str, periods: PeriodsByAutomation, evaluation: Evaluation, evaluator: tuple[str, str]
    ) -> None:
        self._target = target
        self._periods = periods
        self._evaluation = evaluation
        self._evaluator = evaluator  # the versions of croniter and of the zone data in this audit

    def judge(self, discrepancies: Sequence[Discrepancy]) -> list[AuditFinding]:
        """Make one finding for each discrepancy.

        Two discrepancies become one finding when other zone data moved a single occurrence.
        """
        by_automation: dict[str, list[Discrepancy]] = {}
        for discrepancy in sorted(discrepancies):
            by_automation.setdefault(discrepancy.automation_id, []).append(discrepancy)
        return [finding for own in by_automation.values() for finding in self._judge_automation(own)]

    def judge_miscounted_span(self, span: OccurrenceSpan, implied: int) -> AuditFinding:
        """Make the finding for a span with a wrong count."""
        counted = pluralize(span.count, "occurrence")
        text = f"a span up to {to_text_seconds(span.last)} stands for {counted}"
        text += f", and its definitions imply {implied:,}"
        kind = FindingKind.MISSING if span.count < implied else FindingKind.UNEXPLAINED
        if self._was_evaluated_otherwise(span.first):
            kind, text = FindingKind.DIFFERENTLY, f"{text}; {self._describe_evaluators(span.first)}"
        discrepancy = Discrepancy(span.first, span.automation_id, kind)
        return self._make_finding(discrepancy, text, f"nothing of it was sent; {KEEP_ADVICE}")

    def _judge_automation(self, discrepancies: list[Discrepancy]) -> Iterator[AuditFinding]:
        missing, extra, double = (
            [discrepancy for discrepancy in discrepancies if discrepancy.kind is kind]
            for kind in (FindingKind.MISSING, FindingKind.UNEXPLAINED, FindingKind.DOUBLE)
        )
        for moved, recorded in self._pair_moved_occurrences(missing, extra):
            missing.remove(moved)
            extra.remove(recorded)
            yield self._make_moved_finding(moved, recorded)
        yield from map(self._make_missing_finding, missing)
        yield from map(self._make_unexplained_finding, extra)
        for discrepancy in double:
            text = f"has a row of its own ({discrepancy.fate}), and lies in a span too"
            yield self._make_finding(discrepancy, text, KEEP_ADVICE)

    def _pair_moved_occurrences(
        self, missing: Iterable[Discrepancy], extra: Iterable[Discrepancy]
    ) -> list[tuple[Discrepancy, Discrepancy]]:
        unpaired, pairs = list(extra), []
        for discrepancy in missing:
            distances = [abs(other.scheduled_for - discrepancy.scheduled_for) for other in unpaired]
            nearest = min(distances, default=timedelta.max)
            if nearest <= MAX_ZONE_SHIFT and self._was_evaluated_otherwise(discrepancy.scheduled_for):
                pairs.append((discrepancy, unpaired.pop(distances.index(nearest))))
        return pairs

    def _was_evaluated_otherwise(self, instant: datetime) -> bool:
        return self._evaluation.find_rules_at(instant).evaluator != self._evaluator

    def _describe_evaluators(self, instant: datetime) -> str:
        then, now = self._evaluation.find_rules_at(instant).evaluator, self._evaluator
        return f"then evaluated by croniter {then[0]} with zone data {then[1]}, now by {now[0]} with {now[1]}"

    def _make_moved_finding(self, discrepancy: Discrepancy, recorded: Discrepancy) -> AuditFinding:
        instead = f"on record at {to_text_seconds(recorded.scheduled_for)} instead ({recorded.fate})"
        text = f"{instead}: {self._describe_evaluators(discrepancy.scheduled_for)}"
        advice = "nothing: it happened once, by the rules and versions of that time"
        return self._make_finding(replace(discrepancy, kind=FindingKind.DIFFERENTLY), text, advice)

    def _make_missing_finding(self, discrepancy: Discrepancy) -> AuditFinding:
        definition = self._find_definition(discrepancy)
        text = "implied, and not on record"
        if definition is not None:
            text = f"implied by {definition.cron_expression!r} in {definition.timezone}, and not on record"
        advice = f"run it: `{_format_command('fire', discrepancy)}`; {KEEP_ADVICE}"
        return self._make_finding_unless_uncertain(discrepancy, text, advice)

    def _make_unexplained_finding(self, discrepancy: Discrepancy) -> AuditFinding:
        text = f"on record ({discrepancy.fate}), and no definition that was in force implies it"
        advice = f"see what is known: `{_format_command('why', discrepancy)}`"
        return self._make_finding_unless_uncertain(discrepancy, text, advice)

    def _make_finding_unless_uncertain(
        self, discrepancy: Discrepancy, text: str, advice: str
    ) -> AuditFinding:
        """Make a finding, or a finding without loss when the rules of that time are uncertain.

        A daemon that starts with other rules decides by the new rules about occurrences that came due before
        the start and were not decided yet.
        """
        definition, instant = self._find_definition(discrepancy), discrepancy.scheduled_for
        if definition is not None and self._evaluation.is_uncertain(definition, instant):
            discrepancy, advice = replace(discrepancy, kind=FindingKind.DIFFERENTLY), "nothing"
            text = f"{text} by the rules of then; a start with other rules decided it"
        if self._was_evaluated_otherwise(instant):
            text = f"{text}; {self._describe_evaluators(instant)}"
        return self._make_finding(discrepancy, text, advice)

    def _find_definition(self, discrepancy: Discrepancy) -> Definition | None:
        periods = self._periods.get(discrepancy.automation_id, ())
        period = find_period_at(periods, discrepancy.scheduled_for)
        return None if period is None else period.version.firing_definition

    def _make_finding(self, discrepancy: Discrepancy, text: str, advice: str) -> AuditFinding:
        id_, instant = discrepancy.automation_id, discrepancy.scheduled_for
        periods = self._periods.get(id_)
        name = periods[-1].version.name if periods else id_
        return AuditFinding(self._target, id_, name, instant, discrepancy.kind, text, advice)


def _format_command(name: str, discrepancy: Discrepancy) -> str:
    return format_command(f"{name} {discrepancy.automation_id} {to_text_seconds(discrepancy.scheduled_for)}")
