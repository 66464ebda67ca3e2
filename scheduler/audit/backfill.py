"""The decision whether an occurrence may be backfilled, and the request to the daemon. Pure."""

from datetime import datetime

from scheduler.audit.evidence import Evidence
from scheduler.core.backfill import BACKFILL_OUTCOMES, FireRequest
from scheduler.core.command_line import format_command
from scheduler.core.instants import JUST_BEFORE, to_text, to_text_seconds
from scheduler.core.model import Occurrence, Outcome
from scheduler.ledger.occurrence_records import OccurrenceRow


class BackfillRefused(Exception):
    """The occurrence may not be backfilled. The text gives the reason and the next step."""


def make_backfill_request(evidence: Evidence, now: datetime, by: str) -> FireRequest:
    """Return the backfill request for the daemon. Raises `BackfillRefused`."""
    _refuse_removed_automation(evidence)
    if evidence.instant > now:
        raise BackfillRefused("it is still to come")
    if evidence.row is None:
        _refuse_unless_missing(evidence)
    else:
        _refuse_possible_run(evidence, evidence.row)
    occurrence = Occurrence(evidence.target, evidence.automation_id, evidence.instant)
    return FireRequest(occurrence, now, by, _derive_span_instants(evidence, evidence.row))


def _refuse_removed_automation(evidence: Evidence) -> None:
    if not evidence.periods or evidence.periods[-1].version.removed:
        raise BackfillRefused("the automation is gone")


def _refuse_unless_missing(evidence: Evidence) -> None:
    why = f"see `{format_command(f'why {evidence.automation_id} {to_text_seconds(evidence.instant)}')}`"
    if not evidence.is_implied:
        raise BackfillRefused(f"nothing was scheduled for it then; {why}")
    if evidence.pruned_before is not None and evidence.instant < evidence.pruned_before:
        run = format_command(f"automations run {evidence.automation_id}", target=evidence.target)
        removed = (
            f"what was scheduled before {to_text(evidence.pruned_before)} may have been removed for its age"
        )
        unknown = "nobody knows whether it ran"
        raise BackfillRefused(f"{removed}, and {unknown}; start a run without an occurrence: `{run}`")
    if evidence.is_undecided:
        raise BackfillRefused(f"the daemon has not decided about it yet; {why}")


def _refuse_possible_run(evidence: Evidence, row: OccurrenceRow) -> None:
    if row.outcome == Outcome.ACCEPTED:
        raise BackfillRefused(f"it was accepted already ({row.reason}), as run {row.run_id}")
    if row.outcome is None:
        raise BackfillRefused(f"it is open ({row.state}), and will have its outcome")
    if row.outcome not in BACKFILL_OUTCOMES:
        run = format_command(f"automations run {evidence.automation_id}", target=evidence.target)
        look = f"look at its runs at the API, and if there is none, `{run}`"
        raise BackfillRefused(f"it is {row.fate}: a run may have been started; {look}")
    late = next((run.run_id for run in evidence.runs if not run.is_own), None)
    if late is not None:
        raise BackfillRefused(f"run {late} is most likely a late attempt for it")


def _derive_span_instants(evidence: Evidence, row: OccurrenceRow | None) -> tuple[datetime, ...]:
    """Derive all instants of the occurrence's span from the definition versions of that time.

    Return nothing without a span, or when the span itself names its instants. Raises `BackfillRefused` when
    the derived instants do not match the count of the span.
    """
    if row is None or row.count == 1 or row.intervals is not None or row.definition_id is not None:
        return ()
    since, evaluation = row.scheduled_for - JUST_BEFORE, evidence.evaluation
    instants: set[datetime] = set()
    for period in evidence.periods:
        instants.update(evaluation.list_period_instants(period, since, row.last))
    if len(instants) != row.count or evidence.instant not in instants:
        run = format_command(f"automations run {evidence.automation_id}", target=evidence.target)
        raise BackfillRefused(
            f"it lies in a row for {row.count:,} occurrences of which {len(instants):,} can be derived "
            "now: croniter, the zone data or the rules for clock changes were others then; "
            f"start a run without an occurrence: `{run}`"
        )
    return tuple(sorted(instants))
