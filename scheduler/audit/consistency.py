"""Check each occurrence's own record, without its definitions: contradicting runs and unknown outcomes."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from scheduler.audit.findings import KEEP_ADVICE, AuditFinding, FindingKind
from scheduler.core.command_line import format_command
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import Automation, Outcome
from scheduler.ledger.audit_queries import InconsistentRow, LateDouble, OpenRow

GRACE: Final = timedelta(minutes=5)
"""The time after the deadline within which an occurrence may still get its outcome."""
RECONCILE_LIMIT: Final = timedelta(hours=25)
"""The longest time to reconcile an unknown attempt: a day, and the time for the last reading."""
CLOCK_TOLERANCE: Final = timedelta(minutes=2)
"""A run that is older than the newest snapshot by this time must be in the snapshot. Two clocks may differ by
less.
"""


def make_inconsistent_finding(target: str, wrong: InconsistentRow) -> AuditFinding:
    """Make the finding for a row of `audit_queries.find_inconsistent_rows`."""
    kind, text, advice = _judge(target, wrong)
    return AuditFinding(target, wrong.automation_id, wrong.name, wrong.scheduled_for, kind, text, advice)


def _judge(target: str, wrong: InconsistentRow) -> tuple[FindingKind, str, str]:
    if wrong.answered_attempts > 1:
        text = f"{wrong.answered_attempts} of its attempts were answered with a run"
        return FindingKind.DOUBLE, text, f"stop one of the runs; {KEEP_ADVICE}"
    if wrong.outcome == Outcome.UNRESOLVED:
        error = wrong.error or "it could not be found out whether a run was started"
        run = format_command(f"automations run {wrong.automation_id}", target=target)
        advice = f"look at its runs at the API; if there is none, start one: `{run}`"
        return FindingKind.UNEXPLAINED, f"unresolved: {wrong.reason}: {error}", advice
    if wrong.outcome != Outcome.ACCEPTED:
        text = f"{wrong.outcome or 'open'}, and run {wrong.linked_run_id} is on record as its own"
        return FindingKind.DOUBLE, text, KEEP_ADVICE
    if wrong.run_recorded_for is None:
        text = f"accepted with run {wrong.run_id}, which is not on record as its own"
        return FindingKind.UNEXPLAINED, text, KEEP_ADVICE
    text = f"accepted with run {wrong.run_id}, which is that of {wrong.run_recorded_for}"
    return FindingKind.DOUBLE, f"{text}: one run for two occurrences", KEEP_ADVICE


def make_double_finding(target: str, double: LateDouble, name: str) -> AuditFinding:
    """A late double that the daemon has noticed."""
    begun = f"begun {double.started_at or 'nobody knows when'}"
    text = f"a second run, {double.run_id}, {begun}, is most likely a late attempt for it"
    advice = "stop one of the two runs; if that happens again, raise settle_time and request_timeout"
    kind, instant = FindingKind.DOUBLE, double.scheduled_for
    return AuditFinding(target, double.automation_id, name, instant, kind, text, advice)


def make_open_finding(target: str, row: OpenRow, now: datetime, patience: timedelta) -> AuditFinding | None:
    """Make the finding for an occurrence that is open for too long; None when it may still be open.

    ``patience``: the time after due during which the occurrence may wait for the run before it.
    """
    if row.state in {"unknown", "in_flight"} and row.tried_at is not None:
        until = row.tried_at + RECONCILE_LIMIT
    else:
        until = max(row.deadline, row.due + patience) + GRACE
    if now <= until:
        return None
    text = f"open ({row.state}), and should have had its outcome by {to_text_seconds(until)}"
    advice = f"start the daemon if it does not run; else see what keeps it: `{format_command('status')}`"
    kind = FindingKind.UNEXPLAINED
    return AuditFinding(target, row.automation_id, row.name, row.scheduled_for, kind, text, advice)


def find_unknown_runs(
    target: str, shown: Iterable[Automation], known: Collection[str], snapshot_at: datetime | None
) -> Iterator[AuditFinding]:
    """Find runs that the newest snapshot must have shown and that are not on record.

    ``shown`` are automations with their newest runs, as the API shows them; the instants are on our clock.
    ``known`` are the ids of the runs on record.
    """
    if snapshot_at is None:
        return
    advice, kind = f"find out who starts its runs; {KEEP_ADVICE}", FindingKind.UNEXPLAINED
    for automation in shown:
        run_at = automation.run_at
        is_in_snapshot = run_at is None or run_at < snapshot_at - CLOCK_TOLERANCE
        if is_in_snapshot and automation.run_id not in known:
            began = "" if run_at is None else f", begun {to_text(run_at)}"
            text = f"the API shows run {automation.run_id}{began}, which the ledger does not know"
            yield AuditFinding(target, automation.id, automation.name, None, kind, text, advice)
