"""Signs that somebody else fires the same automations: another scheduler, another daemon, another target of ours."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import Final

from scheduler.core.command_line import command_line
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.plural import pluralize
from scheduler.doctor.facts import LATELY, ApiFacts, Facts, ForeignRuns, Known, TargetFacts
from scheduler.doctor.findings import Check, Finding

STRANGERS: Final = Check("other schedulers")
_PROMPT: Final = timedelta(seconds=90)
"""A run that began so soon after a scheduled instant was most likely started for it."""
_CLOSE: Final = timedelta(minutes=10)
"""Of schedules with shorter intervals nearly every run is as near to an instant as that."""
_SAME: Final = timedelta(seconds=1)
_NAMED: Final = 3


def examined(facts: Facts) -> Iterator[Finding]:
    """What signs there are."""
    found = [*_recorded(facts), *_unrecorded(facts), *_alike(facts)]
    yield from found
    if not found and (facts.record is not None or any(each.snapshot for each in facts.targets)):
        yield STRANGERS.ok("automations", "no sign that anybody else fires them")


def _recorded(facts: Facts) -> Iterator[Finding]:
    for each in facts.record.foreign if facts.record else ():
        subject = f"automation {each.name} ({each.automation_id})"
        pause = command_line(f"pause {each.automation_id}", target=each.target)
        advice = f"switch off the other scheduler, or pause the automation here: `{pause}`"
        if each.doubles:
            yield STRANGERS.fault(
                subject, f"fired twice: {_runs(each, each.doubles)} within a minute of an instant of its schedule", advice
            )
        else:
            yield STRANGERS.warning(subject, f"{_runs(each, each.count)}", f"nothing, if somebody started that by hand; else {advice}")


def _runs(each: ForeignRuns, number: int) -> str:
    return (
        f"{pluralize(number, 'run')} in the last {LATELY.days} days that nobody here started, the newest at {to_text_seconds(each.newest)}"
    )


def _unrecorded(facts: Facts) -> Iterator[Finding]:
    """Runs that began when a schedule said so, and that the ledger does not know: from before it was begun, or while nobody ran."""
    for target in facts.targets:
        if not isinstance(target.api, ApiFacts) or target.snapshot is None:
            continue
        ahead = timedelta(seconds=target.api.clock[0] if target.api.clock else 0.0)
        restored_at = _restored_at(facts, target)
        suspects = [
            automation
            for automation in facts.automations(target) or ()
            if _is_suspect(facts, automation, ahead) and not _began_before(restored_at, automation, ahead)
        ]
        if suspects:
            names = ", ".join(each.name for each in suspects[:_NAMED]) + (", …" if len(suspects) > _NAMED else "")
            yield STRANGERS.warning(
                f"target {target.settings.name}",
                f"newest runs that began by their schedules and that the ledger does not know, of {len(suspects):,}: {names}",
                "if another scheduler is at work, as the hosted service's own, switch it off before this one fires too",
            )


def _restored_at(facts: Facts, target: TargetFacts) -> datetime | None:
    recorded = facts.record.targets if facts.record else ()
    return next((each.restored_at for each in recorded if each.name == target.settings.name), None)


def _began_before(restored_at: datetime | None, automation: Known, ahead: timedelta) -> bool:
    """Return whether the newest run began before the ledger was restored: our own work since the backup is on no record."""
    return restored_at is not None and automation.run_at is not None and automation.run_at - ahead <= restored_at


def _is_suspect(facts: Facts, each: Known, ahead: timedelta) -> bool:
    if each.run_at is None or not each.enabled or each.broken is not None or facts.now - each.run_at > LATELY:
        return False
    known = facts.record.newest_runs.get(each.id) if facts.record else None
    if known is not None and each.run_at - known < _SAME:
        return False
    try:
        schedule = Schedule.parse(each.cron_expression, each.timezone)
    except InvalidSchedule:
        return False
    began = each.run_at - ahead
    fire = schedule.next(began - _PROMPT)
    if fire is None or fire > began:
        return False
    following = schedule.next(fire)
    return following is None or following - fire >= _CLOSE


def _alike(facts: Facts) -> Iterator[Finding]:
    for one, other in combinations(facts.targets, 2):
        common = _ids(one) & _ids(other)
        if common:
            yield STRANGERS.fault(
                f"targets {one.settings.name} and {other.settings.name}",
                f"they are one project by two addresses: {len(common):,} automations are in both, and are fired by both",
                "remove one of them from the configuration",
            )


def _ids(target: TargetFacts) -> frozenset[str]:
    return frozenset(target.snapshot.automations) if target.snapshot else frozenset()
