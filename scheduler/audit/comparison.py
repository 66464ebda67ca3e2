"""Where the record and what it implies disagree, and what that means."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.audit.evaluation import Evaluation
from scheduler.audit.expectation import Expectation, Lineages, Span, Tally
from scheduler.audit.findings import Finding, Kind
from scheduler.core.command_line import command_line
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Definition, Gap
from scheduler.core.plural import pluralize
from scheduler.core.recovery import measure

NEAR: Final = timedelta(days=1)
"""How far other zone data can move an occurrence: a shift of the clock, or a day that is left out."""
_JUST_BEFORE: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Discrepancy:
    """An occurrence that is implied and has no row (`missing`), or the reverse; or that has two (`double`)."""

    scheduled_for: datetime
    automation_id: str
    kind: Kind
    fate: str = ""  # of the row


def differing(expectation: Expectation, counted: Mapping[datetime, Tally]) -> list[datetime]:
    """The instants at which the rows are not those that are expected, by their count and weight."""
    tally = expectation.tally
    return sorted(each for each in tally.keys() | counted.keys() if tally.get(each, (0, 0)) != counted.get(each, (0, 0)))


def split_off_gaps(instants: Sequence[datetime], gaps: Sequence[Gap]) -> tuple[list[datetime], list[datetime]]:
    """Those of the instants that lie in no gap, and those that do: what has no row there is not decided yet."""
    undecided = [instant for instant in instants if any(gap.since < instant <= gap.until for gap in gaps)]
    return (list(instants), []) if not undecided else (sorted(set(instants) - set(undecided)), undecided)


def lacking_at(instants: Sequence[datetime], expectation: Expectation, counted: Mapping[datetime, Tally]) -> int:
    """How many rows there are less than expected at these instants, all together."""
    return sum(max(expectation.tally.get(each, (0, 0))[0] - counted.get(each, (0, 0))[0], 0) for each in instants)


def discrepancies(expectation: Expectation, instant: datetime, rows: Mapping[str, str]) -> Iterator[Discrepancy]:
    """What is wrong at one instant. ``rows``: by automation, what became of the occurrence that has a row of its own or begins a span."""
    covered = expectation.covered_at(instant)
    required = expectation.required_at(instant)
    for automation_id in sorted(required - rows.keys() - covered.keys()):
        if not any(gap.holds(automation_id, instant) for gap in expectation.gaps):
            yield Discrepancy(instant, automation_id, Kind.MISSING)
    for automation_id in sorted(rows.keys() & covered.keys()):
        yield Discrepancy(instant, automation_id, Kind.DOUBLE, rows[automation_id])
    for automation_id, fate in sorted((covered | dict(rows)).items()):
        if automation_id not in required and not expectation.tolerated_of(automation_id, instant - _JUST_BEFORE, instant):
            yield Discrepancy(instant, automation_id, Kind.UNEXPLAINED, fate)


def miscounted(expectation: Expectation) -> Iterator[tuple[Span, int]]:
    """Spans that stand for more or fewer occurrences than lie in them, and how many do. Only those that begin in the stretch.

    One that knows its instants is compared instant by instant; here only whether it has as many as it says.
    """
    for span in expectation.spans:
        if not expectation.begin < span.first <= expectation.end:
            continue
        if span.intervals is not None:
            if span.count != (known := 1 + sum(times for _, times in span.intervals)):
                yield span, known
            continue
        since = span.first - _JUST_BEFORE
        if span.schedule is not None:
            extent = measure(span.schedule, since, span.last)  # once for all automations that share the schedule
            if span.count != (implied := 0 if extent is None else extent.count):
                yield span, implied
            continue
        required = set(expectation.required_of(span.automation_id, since, span.last))
        if span.count != len(required):
            most = len(required | expectation.tolerated_of(span.automation_id, since, span.last))
            if not len(required) <= span.count <= most:
                yield span, len(required)


class Judge:
    """Tells what discrepancies of one target mean."""

    def __init__(self, target: str, lineages: Lineages, evaluation: Evaluation, evaluator: tuple[str, str]) -> None:
        self._target = target
        self._lineages = lineages
        self._evaluation = evaluation
        self._evaluator = evaluator  # the versions of croniter and of the zone data that this audit evaluates with

    def judge(self, found: Sequence[Discrepancy]) -> list[Finding]:
        """One finding for each, or for two that are one occurrence which other zone data have moved."""
        by_automation: dict[str, list[Discrepancy]] = {}
        for each in sorted(found):
            by_automation.setdefault(each.automation_id, []).append(each)
        return [finding for own in by_automation.values() for finding in self._of_one(own)]

    def miscounted(self, span: Span, implied: int) -> Finding:
        """A span whose count is not right."""
        counted = pluralize(span.count, "occurrence")
        text = f"a span up to {to_text_seconds(span.last)} stands for {counted}, and its definitions imply {implied:,}"
        kind = Kind.MISSING if span.count < implied else Kind.UNEXPLAINED
        if self._was_evaluated_otherwise(span.first):
            kind, text = Kind.DIFFERENTLY, f"{text}; {self._evaluators(span.first)}"
        return self._finding(span.automation_id, span.first, kind, text, "nothing of it was sent; keep the ledger, and report this")

    def _of_one(self, found: list[Discrepancy]) -> Iterator[Finding]:
        missing = [each for each in found if each.kind is Kind.MISSING]
        extra = [each for each in found if each.kind is Kind.UNEXPLAINED]
        for moved, to in self._moved(missing, extra):
            missing.remove(moved)
            extra.remove(to)
            yield self._differently(moved, to)
        yield from map(self._missing, missing)
        yield from map(self._unexplained, extra)
        yield from (self._double(each) for each in found if each.kind is Kind.DOUBLE)

    def _moved(self, missing: Iterable[Discrepancy], extra: Iterable[Discrepancy]) -> list[tuple[Discrepancy, Discrepancy]]:
        left, pairs = list(extra), []
        for each in missing:
            near = [other for other in left if abs(other.scheduled_for - each.scheduled_for) <= NEAR]
            if near and self._was_evaluated_otherwise(each.scheduled_for):
                nearest = min(near, key=lambda other: abs(other.scheduled_for - each.scheduled_for))
                left.remove(nearest)
                pairs.append((each, nearest))
        return pairs

    def _was_evaluated_otherwise(self, instant: datetime) -> bool:
        return self._evaluation.rules_at(instant).evaluator != self._evaluator

    def _evaluators(self, instant: datetime) -> str:
        then, now = self._evaluation.rules_at(instant).evaluator, self._evaluator
        return f"then evaluated by croniter {then[0]} with zone data {then[1]}, now by {now[0]} with {now[1]}"

    def _differently(self, each: Discrepancy, recorded: Discrepancy) -> Finding:
        text = f"on record at {to_text_seconds(recorded.scheduled_for)} instead ({recorded.fate}): {self._evaluators(each.scheduled_for)}"
        return self._finding(
            each.automation_id, each.scheduled_for, Kind.DIFFERENTLY, text, "nothing: it happened once, by what was known then"
        )

    def _missing(self, each: Discrepancy) -> Finding:
        definition = self._definition(each)
        text = "implied, and not on record"
        if definition is not None:
            text = f"implied by {definition.cron_expression!r} in {definition.timezone}, and not on record"
        advice = f"make up for it: `{_command('fire', each)}`; keep the ledger, and report this"
        return self._unless_by_other_rules(each, text, advice)

    def _unexplained(self, each: Discrepancy) -> Finding:
        text = f"on record ({each.fate}), and no definition that was in force implies it"
        advice = f"see what is known: `{_command('why', each)}`"
        return self._unless_by_other_rules(each, text, advice)

    def _unless_by_other_rules(self, each: Discrepancy, text: str, advice: str) -> Finding:
        """A start with other rules decides by these what came due before it, and was not decided yet."""
        definition, kind = self._definition(each), each.kind
        if definition is not None and self._evaluation.is_uncertain(definition, each.scheduled_for):
            kind, text, advice = Kind.DIFFERENTLY, f"{text} by the rules of then; a start with other rules decided it", "nothing"
        if self._was_evaluated_otherwise(each.scheduled_for):
            text = f"{text}; {self._evaluators(each.scheduled_for)}"
        return self._finding(each.automation_id, each.scheduled_for, kind, text, advice)

    def _double(self, each: Discrepancy) -> Finding:
        text = f"has a row of its own ({each.fate}), and lies in a span too"
        return self._finding(each.automation_id, each.scheduled_for, Kind.DOUBLE, text, "keep the ledger, and report this")

    def _definition(self, each: Discrepancy) -> Definition | None:
        forces = self._lineages.get(each.automation_id, ())
        return next((force.version.fires for force in forces if force.begin < each.scheduled_for <= force.end), None)

    def _finding(self, automation_id: str, instant: datetime, kind: Kind, text: str, advice: str) -> Finding:
        forces = self._lineages.get(automation_id)
        return Finding(self._target, automation_id, forces[-1].version.name if forces else automation_id, instant, kind, text, advice)


def _command(name: str, each: Discrepancy) -> str:
    return command_line(f"{name} {each.automation_id} {to_text_seconds(each.scheduled_for)}")
