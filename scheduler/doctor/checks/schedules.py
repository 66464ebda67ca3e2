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
from typing import Final

from scheduler.core.command_line import format_command, resume_all
from scheduler.core.cron.dialect_difference import Code
from scheduler.core.cron.dialects import find_differences
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.pauses import PauseSource
from scheduler.doctor.checks.automations import find_interval, find_pause_sources, parse_schedule
from scheduler.doctor.facts import Facts, KnownAutomation, TargetFacts
from scheduler.doctor.findings import Check, CheckFinding, split_advice
from scheduler.settings.units import format_duration

SCHEDULES: Final = Check("schedules")
_RARE_AFTER: Final = timedelta(days=366)
_NO_SUBJECT: Final = ""
"""The subject of a finding about a schedule, until the automation is known."""
_SURPRISING_CODES: Final[frozenset[Code]] = frozenset({"day_fields_or", "ignored_field", "star_in_list"})
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
        automations = facts.list_automations(target)
        subject = f"target {target.settings.name}"
        if automations is None:
            yield SCHEDULES.about(subject).notice(
                "its automations are not known: the API could not be read, and the ledger has none",
                "correct this first",
            )
            continue
        if target.snapshot is None:
            yield _report_recorded_list(facts, subject, target)
        yield from _check_unidentified_objects(subject, target)
        yield from _check_consistency(subject, target)
        findings = [finding for automation in automations for finding in _check_automation(facts, automation)]
        yield from findings
        yield from _report_not_fired(facts, subject, automations)
        named = len({finding.subject for finding in findings})
        yield SCHEDULES.about(subject).ok(
            f"automations: {len(automations):,}, of which {named:,} are named here"
        )


def _check_unidentified_objects(subject: str, target: TargetFacts) -> Iterator[CheckFinding]:
    if target.snapshot is not None and target.snapshot.unidentified:
        count, named = target.snapshot.unidentified, "; ".join(target.snapshot.anonymous)
        yield SCHEDULES.about(subject).fault(
            "objects in its list that cannot be identified, so that they never fire and nothing "
            f"can be removed: {count:,} ({named})",
            "look at them at the API: each needs a UUID as its id",
        )


def _check_consistency(subject: str, target: TargetFacts) -> Iterator[CheckFinding]:
    if target.snapshot is not None and not target.snapshot.complete:
        yield SCHEDULES.about(subject).warning(
            f"its list contradicts itself, in three successive readings: {target.snapshot.disagreement}",
            "find out at the API why; meanwhile, a deletion is noticed when the automation is due",
        )


def _report_recorded_list(facts: Facts, subject: str, target: TargetFacts) -> CheckFinding:
    recorded = facts.find_recorded_target(target.settings.name)
    taken = f", of {to_text_seconds(recorded.snapshot_at)}" if recorded and recorded.snapshot_at else ""
    return SCHEDULES.about(subject).notice(
        f"the API could not be read: its automations are those of the ledger's last snapshot{taken}",
        "correct this first",
    )


def _check_automation(facts: Facts, automation: KnownAutomation) -> Iterator[CheckFinding]:
    subject = f"automation {automation.name} ({automation.id})"
    if automation.broken is not None:
        yield SCHEDULES.about(subject).fault(
            f"the API's object is broken, and the automation never fires: {automation.broken}",
            "edit or delete it at the API",
        )
        return
    try:
        schedule = parse_schedule(automation, facts.settings)
    except InvalidSchedule as error:
        yield _report_invalid(subject, automation, error)
        return
    if automation.enabled:
        yield from (replace(finding, subject=subject) for finding in _check_schedule(schedule, facts.now))
        yield from _check_policies(subject, facts, automation, schedule)


def _report_invalid(subject: str, automation: KnownAutomation, error: InvalidSchedule) -> CheckFinding:
    finding, advice = split_advice(error.reason, "edit it at the API")
    if automation.enabled:
        return SCHEDULES.about(subject).fault(f"it never fires: {finding}", advice)
    return SCHEDULES.about(subject).notice(f"disabled, and invalid: {finding}", advice)


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
        yield SCHEDULES.about(_NO_SUBJECT).warning(
            f"'{schedule.expression}' fires {when}",
            "check whether day of month, month and day of week belong together; else edit it",
        )


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
            yield SCHEDULES.about(_NO_SUBJECT).warning(
                f"'{schedule.expression}': {difference.here}", f"nothing, if you want this; else {instead}"
            )
    ordered = sorted(differences, key=lambda difference: difference.code not in _MISREAD_CODES)
    others = [difference.words for difference in ordered if difference.code not in _SURPRISING_CODES]
    if others:
        further = f"; and {len(others) - 1} more" if len(others) > 1 else ""
        yield SCHEDULES.about(_NO_SUBJECT).notice(
            f"'{schedule.expression}': {others[0]}{further}",
            f"nothing, if it was written for this API; else see {more}",
        )


def _check_policies(
    subject: str, facts: Facts, automation: KnownAutomation, schedule: Schedule
) -> Iterator[CheckFinding]:
    jitter = facts.settings.find_policies(automation.id, automation.name).jitter
    interval = find_interval(schedule, facts.now) if jitter else None
    if interval is not None and jitter > interval / 2:
        yield SCHEDULES.about(subject).warning(
            f"jitter of {format_duration(jitter)} is too much for {format_duration(interval)} between "
            "two fires: it is cut to half of that",
            "give it less jitter, by an [[override]] of its own",
        )


def _report_not_fired(
    facts: Facts, subject: str, automations: Sequence[KnownAutomation]
) -> Iterator[CheckFinding]:
    states = Counter(
        "paused" if automation.enabled else "disabled"
        for automation in automations
        if not automation.enabled or find_pause_sources(facts, automation)
    )
    if states:
        counts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
        yield SCHEDULES.about(subject).notice(
            f"automations that are not fired: {counts}",
            "nothing, if you want this; see "
            f"`{format_command('status')}`{_describe_ends(facts, automations)}",
        )


def _describe_ends(facts: Facts, automations: Sequence[KnownAutomation]) -> str:
    """Describe how to end each kind of pause that covers enabled automations."""
    enabled = [automation for automation in automations if automation.enabled]
    sources = frozenset[PauseSource]().union(
        *(find_pause_sources(facts, automation) for automation in enabled)
    )
    ends = []
    if PauseSource.TARGET in sources:
        ends.append(f"; {resume_all(enabled[0].target)} ends the pause of all")
    if PauseSource.AUTOMATION in sources:
        ends.append(f"; `{format_command('resume AUTOMATION')}` ends the pause of one")
    if PauseSource.CONFIGURATION in sources:
        ends.append("; `paused` in [schedule] and [[override]] pauses by the configuration")
    return "".join(ends)
