"""Signs that the same automations are fired elsewhere: by another scheduler, daemon or configured target."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import Final

from scheduler.core.command_line import format_command
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.quantities import pluralize
from scheduler.doctor.facts import LOOK_BACK, ApiFacts, Facts, KnownAutomation, TargetFacts
from scheduler.doctor.findings import Check, CheckFinding
from scheduler.ledger.summary import ForeignRunSummary

OTHER_SCHEDULERS: Final = Check("other schedulers")
_START_DELAY: Final = timedelta(seconds=90)
"""A run that began within this time after a scheduled instant was most likely started for the instant."""
_MIN_INTERVAL: Final = timedelta(minutes=10)
"""Schedules with shorter intervals are ignored: nearly every run is close to a scheduled instant."""
_TOLERANCE: Final = timedelta(seconds=1)
_MAX_NAMES: Final = 3


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the signs of other schedulers."""
    found = [*_check_recorded(facts), *_check_unrecorded(facts), *_check_duplicates(facts)]
    yield from found
    if not found and (facts.record is not None or any(each.snapshot for each in facts.targets)):
        yield OTHER_SCHEDULERS.ok("automations", "no sign of another scheduler")


def _check_recorded(facts: Facts) -> Iterator[CheckFinding]:
    for each in facts.record.foreign_runs if facts.record else ():
        subject = f"automation {each.name} ({each.automation_id})"
        pause = format_command(f"pause {each.automation_id}", target=each.target)
        advice = f"switch off the other scheduler, or pause the automation here: `{pause}`"
        if each.doubles:
            yield OTHER_SCHEDULERS.fault(
                subject,
                f"fired twice: {_describe_runs(each, each.doubles)} within a minute of an instant "
                "of its schedule",
                advice,
            )
        else:
            yield OTHER_SCHEDULERS.warning(
                subject,
                f"{_describe_runs(each, each.count)}",
                f"nothing, if a person started them; else {advice}",
            )


def _describe_runs(each: ForeignRunSummary, number: int) -> str:
    return (
        f"{pluralize(number, 'run')} in the last {LOOK_BACK.days} days that "
        f"this scheduler did not start, the newest at {to_text_seconds(each.newest)}"
    )


def _check_unrecorded(facts: Facts) -> Iterator[CheckFinding]:
    """Warn of runs that began at a scheduled instant and are not in the ledger.

    Such a run began before the ledger existed, or while no daemon ran.
    """
    for target in facts.targets:
        if not isinstance(target.api, ApiFacts) or target.snapshot is None:
            continue
        ahead = timedelta(seconds=target.api.clock_offset[0] if target.api.clock_offset else 0.0)
        restored_at = _find_restored_at(facts, target)
        suspects = [
            automation
            for automation in facts.list_automations(target) or ()
            if _is_suspect(facts, automation, ahead)
            and not _is_before_restore(restored_at, automation, ahead)
        ]
        if suspects:
            names = ", ".join(each.name for each in suspects[:_MAX_NAMES]) + (
                ", …" if len(suspects) > _MAX_NAMES else ""
            )
            yield OTHER_SCHEDULERS.warning(
                f"target {target.settings.name}",
                "newest runs that began by their schedules and that the ledger does not know, of "
                f"{len(suspects):,}: {names}",
                "if another scheduler is at work, as the hosted service's own, switch it off before "
                "this one fires too",
            )


def _find_restored_at(facts: Facts, target: TargetFacts) -> datetime | None:
    recorded = facts.record.targets if facts.record else ()
    return next((each.restored_at for each in recorded if each.name == target.settings.name), None)


def _is_before_restore(restored_at: datetime | None, automation: KnownAutomation, ahead: timedelta) -> bool:
    """Return whether the newest run began before the ledger was restored.

    A restored ledger does not contain the daemon's own runs between the backup and the restore.
    """
    return (
        restored_at is not None and automation.run_at is not None and automation.run_at - ahead <= restored_at
    )


def _is_suspect(facts: Facts, each: KnownAutomation, ahead: timedelta) -> bool:
    if (
        each.run_at is None
        or not each.enabled
        or each.broken is not None
        or facts.now - each.run_at > LOOK_BACK
    ):
        return False
    known = facts.record.newest_runs.get(each.id) if facts.record else None
    if known is not None and each.run_at - known < _TOLERANCE:
        return False
    try:
        schedule = Schedule.parse(each.cron_expression, each.timezone)
    except InvalidSchedule:
        return False
    began = each.run_at - ahead
    fire = schedule.find_next(began - _START_DELAY)
    if fire is None or fire > began:
        return False
    following = schedule.find_next(fire)
    return following is None or following - fire >= _MIN_INTERVAL


def _check_duplicates(facts: Facts) -> Iterator[CheckFinding]:
    for one, other in combinations(facts.targets, 2):
        common = _list_ids(one) & _list_ids(other)
        if common:
            yield OTHER_SCHEDULERS.fault(
                f"targets {one.settings.name} and {other.settings.name}",
                f"they are one project by two addresses: {len(common):,} automations are in both, "
                "and are fired by both",
                "remove one of them from the configuration",
            )


def _list_ids(target: TargetFacts) -> frozenset[str]:
    return frozenset(target.snapshot.automations) if target.snapshot else frozenset()
