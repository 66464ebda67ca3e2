"""The decision whether an occurrence may be backfilled, and the request to the daemon. Pure."""

from datetime import datetime

from scheduler.audit.evidence import Evidence
from scheduler.audit.explanation import is_implied
from scheduler.core.backfill import BACKFILL_OUTCOMES, FireRequest
from scheduler.core.command_line import format_command
from scheduler.core.instants import JUST_BEFORE, to_text, to_text_seconds
from scheduler.core.model import Occurrence, Outcome
from scheduler.ledger.occurrence_records import OccurrenceRow


class BackfillRefused(Exception):
    """The occurrence may not be backfilled. The text gives the reason and the next step."""


def make_backfill_request(account: Evidence, now: datetime, by: str) -> FireRequest:
    """Return the backfill request for the daemon. Raises `BackfillRefused`."""
    _refuse_removed_automation(account)
    if account.instant > now:
        raise BackfillRefused("it is still to come")
    if account.row is None:
        _refuse_unless_missing(account)
    else:
        _refuse_possible_run(account, account.row)
    occurrence = Occurrence(account.target, account.automation_id, account.instant)
    return FireRequest(occurrence, now, by, _derive_span_instants(account, account.row))


def _refuse_removed_automation(account: Evidence) -> None:
    if not account.periods or account.periods[-1].version.removed:
        raise BackfillRefused("the automation is gone")


def _refuse_unless_missing(account: Evidence) -> None:
    why = f"see `{format_command(f'why {account.automation_id} {to_text_seconds(account.instant)}')}`"
    if not is_implied(account, account.instant):
        raise BackfillRefused(f"nothing was scheduled for it then; {why}")
    if account.pruned_before is not None and account.instant < account.pruned_before:
        raise BackfillRefused(
            f"what was scheduled before {to_text(account.pruned_before)} may have been removed for its age, and nobody knows whether it "
            f"ran; start a run without an occurrence: `{format_command(f'automations run {account.automation_id}', target=account.target)}`"
        )
    if account.is_undecided:
        raise BackfillRefused(f"the daemon has not decided about it yet; {why}")


def _refuse_possible_run(account: Evidence, row: OccurrenceRow) -> None:
    if row.outcome == Outcome.ACCEPTED:
        raise BackfillRefused(f"it was accepted already ({row.reason}), as run {row.run_id}")
    if row.outcome is None:
        raise BackfillRefused(f"it is open ({row.state}), and will have its outcome")
    if row.outcome not in BACKFILL_OUTCOMES:
        raise BackfillRefused(
            f"it is {row.fate}: a run may have been started; look at its runs at the API, and if there is none, "
            f"`{format_command(f'automations run {account.automation_id}', target=account.target)}`"
        )
    late = next((run.run_id for run in account.runs if not run.is_own), None)
    if late is not None:
        raise BackfillRefused(f"run {late} is most likely a late attempt for it")


def _derive_span_instants(account: Evidence, row: OccurrenceRow | None) -> tuple[datetime, ...]:
    """Derive all instants of the occurrence's span from the definition versions of that time.

    Return nothing without a span, or when the span itself names its instants. Raises `BackfillRefused` when
    the derived instants do not match the count of the span.
    """
    if row is None or row.count == 1 or row.intervals is not None or row.definition_id is not None:
        return ()
    since, evaluation = row.scheduled_for - JUST_BEFORE, account.evaluation
    found: set[datetime] = set()
    for force in account.periods:
        definition, begin, end = (
            force.version.firing_definition,
            max(since, force.begin),
            min(row.last, force.end),
        )
        if definition is not None and begin < end:
            found.update(evaluation.list_instants(definition, begin, end))
    if len(found) != row.count or account.instant not in found:
        raise BackfillRefused(
            f"it lies in a row for {row.count:,} occurrences of which {len(found):,} can be derived now: croniter, the zone data or the "
            "rules for clock changes were others then; start a run without an occurrence: "
            f"`{format_command(f'automations run {account.automation_id}', target=account.target)}`"
        )
    return tuple(sorted(found))
