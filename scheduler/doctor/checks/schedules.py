"""The schedule of every automation.

The checks ask whether and when the schedule fires, and whether the schedule means the author's likely
intention.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Final

from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.dialect_difference import Code
from scheduler.core.cron.dialects import find_differences
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Snapshot
from scheduler.core.pauses import PauseSource
from scheduler.doctor.checks.automations import find_interval, find_pause_sources, parse_schedule
from scheduler.doctor.facts import Facts, TargetFacts
from scheduler.doctor.findings import CheckFinding, Subject, split_advice
from scheduler.ledger.automations import AutomationRow
from scheduler.settings.units import format_duration

_RARE_AFTER: Final = timedelta(days=366)
_NO_SUBJECT: Final = Subject("")
"""The subject of a finding about a schedule, until the automation is known."""
_SURPRISING_CODES: Final[frozenset[Code]] = frozenset(
    {"day_fields_or", "full_day_field", "ignored_field", "star_in_list"}
)
"""Differences that most authors do not intend, whatever cron the authors have in mind."""
_USUAL_CODES: Final[frozenset[Code]] = frozenset({"numeric_weekday"})
"""Differences that nearly every schedule for working days has, and that nearly every cron reads alike.

`check` leaves these out; `scheduler explain` shows the differences.
"""

_MISREAD_CODES: Final[frozenset[Code]] = frozenset({"wrapping_step", "equal_range"})
"""Ranges that croniter misreads.

These come first, because automations with such a range fire differently than before an upgrade.
"""


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the schedules of every target, as far as the automations are known."""
    for target in facts.targets:
        automations, subject = facts.list_automations(target), Subject(f"target {target.settings.name}")
        if automations is None:
            finding = "its automations are not known: the API could not be read, and the ledger has none"
            yield subject.notice(finding, "correct this first")
            continue
        if target.snapshot is None:
            yield _report_recorded_list(facts, subject, target)
        else:
            yield from _check_snapshot(subject, target.snapshot)
        findings = [finding for automation in automations for finding in _check_automation(facts, automation)]
        yield from findings
        yield from _report_not_fired(facts, subject, automations)
        named = len({finding.subject for finding in findings})
        yield subject.ok(f"automations: {len(automations):,}, of which {named:,} are named here")


def _check_snapshot(subject: Subject, snapshot: Snapshot) -> Iterator[CheckFinding]:
    """Yield a fault for objects without a usable id, and a warning for a list that contradicts itself."""
    if snapshot.unidentified:
        objects = "objects in its list that cannot be identified"
        effect = "so that they never fire and nothing can be removed"
        finding = f"{objects}, {effect}: {snapshot.unidentified:,} ({'; '.join(snapshot.anonymous)})"
        yield subject.fault(finding, "look at them at the API: each needs a UUID as its id")
    if not snapshot.complete:
        finding = f"its list contradicts itself, in three successive readings: {snapshot.disagreement}"
        advice = "find out at the API why; meanwhile, a deletion is noticed when the automation is due"
        yield subject.warning(finding, advice)


def _report_recorded_list(facts: Facts, subject: Subject, target: TargetFacts) -> CheckFinding:
    recorded = facts.find_recorded_target(target.settings.name)
    taken = f", of {to_text_seconds(recorded.snapshot_at)}" if recorded and recorded.snapshot_at else ""
    finding = f"the API could not be read: its automations are those of the ledger's last snapshot{taken}"
    return subject.notice(finding, "correct this first")


def _check_automation(facts: Facts, automation: AutomationRow) -> Iterator[CheckFinding]:
    subject = Subject(f"automation {automation.name} ({automation.automation_id})")
    if automation.broken is not None:
        broken = f"the API's object is broken, and the automation never fires: {automation.broken}"
        yield subject.fault(broken, "edit or delete it at the API")
        return
    try:
        schedule = parse_schedule(automation, facts.settings)
    except InvalidSchedule as error:
        yield _report_invalid(subject, automation, error)
        return
    if automation.enabled:
        for finding in _check_schedule(schedule, facts.now):
            yield replace(finding, subject=subject.name)
        yield from _check_policies(subject, facts, automation, schedule)


def _report_invalid(subject: Subject, automation: AutomationRow, error: InvalidSchedule) -> CheckFinding:
    finding, advice = split_advice(error.reason, "edit it at the API")
    if automation.enabled:
        return subject.fault(f"it never fires: {finding}", advice)
    return subject.notice(f"disabled, and invalid: {finding}", advice)


@lru_cache(maxsize=4096)
def _check_schedule(schedule: Schedule, now: datetime) -> tuple[CheckFinding, ...]:
    """Return the findings about a schedule, without a subject.

    The findings are cached: a hundred thousand automations may share some hundred schedules.
    """
    return (*_check_rarity(schedule, now), *_check_meaning(schedule))


def _check_rarity(schedule: Schedule, now: datetime) -> Iterator[CheckFinding]:
    fire = schedule.find_next(now)
    if fire is None or fire - now > _RARE_AFTER:
        when = "never again" if fire is None else f"next at {to_text_seconds(fire)}"
        advice = "check whether day of month, month and day of week belong together; else edit it"
        yield _NO_SUBJECT.warning(f"'{schedule.expression}' fires {when}", advice)


def _check_meaning(schedule: Schedule) -> Iterator[CheckFinding]:
    """Yield a warning for each surprising difference, and one notice for all other differences.

    The other differences are only different readings in other crons. The notice describes the first of these
    differences and counts the rest. Ranges that croniter misreads come first.
    """
    differences = [
        difference for difference in find_differences(schedule) if difference.code not in _USUAL_CODES
    ]
    cron, timezone = shlex.quote(schedule.expression), shlex.quote(schedule.timezone)
    more = f"`{format_command(f'explain --cron {cron} --timezone {timezone}')}`"
    for difference in differences:
        if difference.code in _SURPRISING_CODES:
            instead = f"write {difference.instead}" if difference.instead else f"edit it; see {more}"
            finding = f"'{schedule.expression}': {difference.here}"
            yield _NO_SUBJECT.warning(finding, f"nothing, if you want this; else {instead}")
    ordered = sorted(differences, key=lambda difference: difference.code not in _MISREAD_CODES)
    others = [difference.words for difference in ordered if difference.code not in _SURPRISING_CODES]
    if others:
        further = f"; and {len(others) - 1} more" if len(others) > 1 else ""
        finding = f"'{schedule.expression}': {others[0]}{further}"
        yield _NO_SUBJECT.notice(finding, f"nothing, if it was written for this API; else see {more}")


def _check_policies(
    subject: Subject, facts: Facts, automation: AutomationRow, schedule: Schedule
) -> Iterator[CheckFinding]:
    jitter = facts.settings.find_policies(automation.automation_id, automation.name).jitter
    interval = find_interval(schedule, facts.now) if jitter else None
    if interval is not None and jitter > interval / 2:
        finding = f"jitter of {format_duration(jitter)} is too much for {format_duration(interval)}"
        advice = "give it less jitter, by an [[override]] of its own"
        yield subject.warning(f"{finding} between two fires: it is cut to half of that", advice)


def _report_not_fired(
    facts: Facts, subject: Subject, automations: Sequence[AutomationRow]
) -> Iterator[CheckFinding]:
    states = Counter(
        "paused" if automation.enabled else "disabled"
        for automation in automations
        if not automation.enabled or find_pause_sources(facts, automation)
    )
    if states:
        counts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
        advice = f"nothing, if you want this; see `{format_command('status')}`"
        advice += _describe_ends(facts, automations)
        yield subject.notice(f"automations that are not fired: {counts}", advice)


def _describe_ends(facts: Facts, automations: Sequence[AutomationRow]) -> str:
    """Describe how to end each kind of pause that covers enabled automations."""
    enabled = [automation for automation in automations if automation.enabled]
    sources = set(chain.from_iterable(find_pause_sources(facts, automation) for automation in enabled))
    ends = []
    if PauseSource.TARGET in sources:
        ends.append(f"; {resume_all(enabled[0].target)} ends the pause of all")
    if PauseSource.AUTOMATION in sources:
        ends.append(f"; `{format_command('resume AUTOMATION')}` ends the pause of one")
    if PauseSource.CONFIGURATION in sources:
        ends.append("; `paused` in [schedule] and [[override]] pauses by the configuration")
    return "".join(ends)
