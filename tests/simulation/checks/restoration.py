"""A ledger that was restored from a backup: what ran since is known as such, and nothing of it runs again."""

from datetime import timedelta

from scheduler.core.events import LedgerRestored, RunDoubled, RunForeign
from tests.simulation.evidence import Check, Evidence
from tests.simulation.network import Link
from tests.simulation.violation import Violation
from tests.simulation.world import Restoration

_CLOCKS = timedelta(seconds=50)
"""How far the API's clock is off at most, with room."""
_SHOWN_WITHIN = timedelta(seconds=60)
_BEFORE = timedelta(seconds=3)
"""Claims are made a second ahead of the instant, and a backup takes its time."""


def what_ran_since_the_backup_alarms_nobody(evidence: Evidence) -> Check:
    """No run that began before the restoration is told as foreign or as a double after it."""
    for restoration in evidence.world.restorations:
        for told in evidence.world.events:
            event = told.event
            if told.at > restoration.restored and isinstance(event, RunForeign | RunDoubled):
                run = evidence.runs[event.target, event.run_id]
                if run.at < restoration.restored - _CLOCKS:
                    yield Violation(
                        "restored", f"{event.name} told of run {run.id} of {run.at}", run.automation_id
                    )


def a_restoration_is_told_once(evidence: Evidence) -> Check:
    """One event tells how many automations had runs since the backup. A run that may belong to an attempt of
    the backup is told in an event of its own, as soon as its origin is known.
    """
    for restoration in evidence.world.restorations:
        for target, link in evidence.world.links.items():
            told = [
                each.event.runs
                for each in evidence.world.events
                if isinstance(each.event, LedgerRestored)
                and each.event.target == target
                and each.at > restoration.restored
            ]
            if len(told) > 1 + _count_unclear(evidence, restoration, target):
                yield Violation("restored", f"told {len(told)} times for {target}")
            is_quiet = evidence.quiet(
                target, restoration.restored + _SHOWN_WITHIN, restoration.restored + 2 * _SHOWN_WITHIN
            )
            expected = _count_unknown(evidence, restoration, target, link)
            if is_quiet and expected is not None and sum(told) != expected:
                yield Violation(
                    "restored",
                    f"{expected} automations of {target} had runs since the backup, and {told} were told",
                )


def _count_unclear(evidence: Evidence, restoration: Restoration, target: str) -> int:
    """Count the automations with an attempt in the backup whose occurrence was still open after the
    restoration.
    """
    return len(
        {
            row.automation_id
            for row in evidence.rows
            if row.target == target
            and any(attempt.written_at < restoration.backed_up for attempt in row.attempts)
            and (row.finished_at is None or row.finished_at > restoration.restored)
        }
    )


def _count_unknown(evidence: Evidence, restoration: Restoration, target: str, link: Link) -> int | None:
    """Count the automations whose newest run at the restoration began since the backup; None when a clock may
    tell otherwise.
    """
    newest = {run.automation_id: run for run in link.api.runs if run.at <= restoration.restored}
    times = [run.at for run in newest.values()]
    if (
        any(
            abs(at - edge) < _CLOCKS for at in times for edge in (restoration.backed_up, restoration.restored)
        )
        or evidence.was_set
    ):
        return None
    there = {
        each
        for each in newest
        if (shape := link.api.shape(each, restoration.restored)) is not None and shape.document is not None
    }
    known = {automation_id for name, automation_id in evidence.versions if name == target}
    return sum(
        run.at > restoration.backed_up
        for automation_id, run in newest.items()
        if automation_id in there & known
    )


def nothing_runs_again_after_a_restoration(evidence: Evidence) -> Check:
    """What started a run before the restoration is not sent after it."""
    for restoration in evidence.world.restorations:
        for link in evidence.world.links.values():
            for key, runs in link.api.by_key.items():
                again = [sent for sent in evidence.sent.get(key, ()) if sent.at > restoration.restored]
                if again and any(run.at < restoration.restored for run in runs):
                    yield Violation(
                        "restored",
                        f"sent at {again[0].at}, and its run began at {runs[0].at}",
                        again[0].automation_id,
                    )


def what_was_due_since_the_backup_is_skipped(evidence: Evidence) -> Check:
    """The restored ledger records it as paused until somebody resumes, or as too late by then, and nothing of
    it is fired.
    """
    for restoration in evidence.world.restorations:
        begin, end = restoration.backed_up + _BEFORE, restoration.restored - _BEFORE
        for row in evidence.rows:
            is_new = (row.target, row.automation_id, row.scheduled_for) not in restoration.known
            if (
                is_new
                and begin < row.scheduled_for
                and row.due < end  # jitter may make it due after the restoration
                and row.outcome != "skipped"
                and not evidence.was_set
            ):
                yield Violation("restored", f"{row.fate}", row.automation_id, row.scheduled_for)
