"""Signs that the same automations are fired elsewhere: by another scheduler, daemon or configured target."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import Final

from scheduler.core.command_line import format_command
from scheduler.core.cron.schedule import InvalidSchedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.quantities import pluralize
from scheduler.doctor.checks.automations import parse_schedule
from scheduler.doctor.facts import LOOK_BACK, ApiFacts, Facts, TargetFacts
from scheduler.doctor.findings import CheckFinding, Subject
from scheduler.ledger.automations import AutomationRow

_START_DELAY: Final = timedelta(seconds=90)
"""A run that began within this time after a scheduled instant was most likely started for the instant."""
_MIN_INTERVAL: Final = timedelta(minutes=10)
"""Schedules with shorter intervals are ignored: nearly every run is close to a scheduled instant."""
_TOLERANCE: Final = timedelta(seconds=1)
_MAX_NAMES: Final = 3


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the signs of other schedulers."""
    findings = [*_check_recorded_runs(facts), *_check_unrecorded_runs(facts), *_check_duplicates(facts)]
    yield from findings
    if not findings and (facts.record is not None or any(target.snapshot for target in facts.targets)):
        yield Subject("automations").ok("no sign of another scheduler")


def _check_recorded_runs(facts: Facts) -> Iterator[CheckFinding]:
    for runs in facts.record.foreign_runs if facts.record else ():
        subject = Subject(f"automation {runs.name} ({runs.automation_id})")
        pause = format_command(f"pause {runs.automation_id}", target=runs.target)
        advice = f"switch off the other scheduler, or pause the automation here: `{pause}`"
        newest = f", the newest at {to_text_seconds(runs.newest)}" if runs.newest else ""
        count = pluralize(runs.doubled or runs.count, "run")
        text = f"{count} in the last {LOOK_BACK.days} days that this scheduler did not start{newest}"
        if runs.doubled:
            finding = f"fired twice: {text} within a minute of an instant of its schedule"
            yield subject.fault(finding, advice)
        else:
            yield subject.warning(text, f"nothing, if a person started them; else {advice}")


def _check_unrecorded_runs(facts: Facts) -> Iterator[CheckFinding]:
    """Warn of runs that began at a scheduled instant and are not in the ledger.

    Such a run began before the ledger existed, or while no daemon ran.
    """
    for target in facts.targets:
        if not isinstance(target.api, ApiFacts) or target.snapshot is None:
            continue
        ahead = timedelta(seconds=target.api.clock_offset[0] if target.api.clock_offset else 0.0)
        recorded = facts.find_recorded_target(target.settings.name)
        restored_at = recorded.restored_at if recorded else None
        suspects = [
            automation.name
            for automation in facts.list_automations(target) or ()
            if _is_suspect(facts, automation, ahead, restored_at)
        ]
        if suspects:
            names = ", ".join([*suspects[:_MAX_NAMES], *(["…"] if len(suspects) > _MAX_NAMES else [])])
            runs = "newest runs that began by their schedules and that the ledger does not know"
            off = "switch it off before this one fires too"
            advice = f"if another scheduler is at work, as the hosted service's own, {off}"
            subject = Subject(f"target {target.settings.name}")
            yield subject.warning(f"{runs}, of {len(suspects):,}: {names}", advice)


def _is_suspect(
    facts: Facts, automation: AutomationRow, ahead: timedelta, restored_at: datetime | None
) -> bool:
    """Return whether the newest run began by the schedule, and is not in the ledger.

    A ledger restored at ``restored_at`` lacks the daemon's own runs between the backup and the restore.
    """
    run_at = automation.run_at
    if run_at is None or not automation.enabled or automation.broken is not None:
        return False
    known = facts.record.newest_runs.get(automation.automation_id) if facts.record else None
    if known is not None and run_at - known < _TOLERANCE:
        return False
    if facts.now - run_at > LOOK_BACK or (restored_at is not None and run_at - ahead <= restored_at):
        return False
    try:
        schedule = parse_schedule(automation, facts.settings)
    except InvalidSchedule:
        return False
    fire = schedule.find_next(run_at - ahead - _START_DELAY)
    if fire is None or fire > run_at - ahead:
        return False
    following = schedule.find_next(fire)
    return following is None or following - fire >= _MIN_INTERVAL


def _check_duplicates(facts: Facts) -> Iterator[CheckFinding]:
    for one, other in combinations(facts.targets, 2):
        common = _list_ids(one) & _list_ids(other)
        if common:
            finding = f"they are one project by two addresses: {len(common):,} automations are in both"
            subject = Subject(f"targets {one.settings.name} and {other.settings.name}")
            advice = "remove one of them from the configuration"
            yield subject.fault(f"{finding}, and are fired by both", advice)


def _list_ids(target: TargetFacts) -> frozenset[str]:
    return frozenset(target.snapshot.automations) if target.snapshot else frozenset()
