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
from scheduler.doctor.checks.automations import find_interval, find_pause_sources
from scheduler.doctor.facts import Facts, KnownAutomation, TargetFacts
from scheduler.doctor.findings import Check, CheckFinding, split_advice
from scheduler.settings.durations import format_duration

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
            yield SCHEDULES.notice(
                subject,
                "its automations are not known: the API could not be read, and the ledger has none",
                "correct this first",
            )
            continue
        if target.snapshot is None:
            yield _report_recorded(facts, subject, target)
        yield from _check_unidentified(subject, target)
        yield from _check_consistency(subject, target)
        found = [finding for each in automations for finding in _check_automation(facts, each)]
        yield from found
        yield from _report_not_fired(facts, subject, automations)
        yield SCHEDULES.ok(
            subject,
            f"automations: {len(automations):,}, of which {len({each.subject for each in found}):,} "
            "are named here",
        )


def _check_unidentified(subject: str, target: TargetFacts) -> Iterator[CheckFinding]:
    if target.snapshot is not None and target.snapshot.unidentified:
        count, named = target.snapshot.unidentified, "; ".join(target.snapshot.anonymous)
        yield SCHEDULES.fault(
            subject,
            "objects in its list that cannot be identified, so that they never fire and nothing "
            f"can be removed: {count:,} ({named})",
            "look at them at the API: each needs a UUID as its id",
        )


def _check_consistency(subject: str, target: TargetFacts) -> Iterator[CheckFinding]:
    if target.snapshot is not None and not target.snapshot.complete:
        yield SCHEDULES.warning(
            subject,
            f"its list contradicts itself, in three successive readings: {target.snapshot.disagreement}",
            "find out at the API why; meanwhile, a deletion is noticed when the automation is due",
        )


def _report_recorded(facts: Facts, subject: str, target: TargetFacts) -> CheckFinding:
    recorded = facts.record.targets if facts.record else ()
    at = next((each.snapshot_at for each in recorded if each.name == target.settings.name), None)
    taken = f", of {to_text_seconds(at)}" if at else ""
    return SCHEDULES.notice(
        subject,
        f"the API could not be read: its automations are those of the ledger's last snapshot{taken}",
        "correct this first",
    )


def _check_automation(facts: Facts, each: KnownAutomation) -> Iterator[CheckFinding]:
    subject = f"automation {each.name} ({each.id})"
    if each.broken is not None:
        yield SCHEDULES.fault(
            subject,
            f"the API's object is broken, and the automation never fires: {each.broken}",
            "edit or delete it at the API",
        )
        return
    rules = facts.settings.schedule
    try:
        schedule = Schedule.parse(
            each.cron_expression, each.timezone, dst_gap=rules.dst_gap, dst_repeat=rules.dst_repeat
        )
    except InvalidSchedule as error:
        yield _report_invalid(subject, each, error)
        return
    if each.enabled:
        yield from (replace(found, subject=subject) for found in _check_schedule(schedule, facts.now))
        yield from _check_policies(subject, facts, each, schedule)


def _report_invalid(subject: str, each: KnownAutomation, error: InvalidSchedule) -> CheckFinding:
    finding, advice = split_advice(error.reason, "edit it at the API")
    if each.enabled:
        return SCHEDULES.fault(subject, f"it never fires: {finding}", advice)
    return SCHEDULES.notice(subject, f"disabled, and invalid: {finding}", advice)


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
        yield SCHEDULES.warning(
            _NO_SUBJECT,
            f"'{schedule.expression}' fires {when}",
            "check whether day of month, month and day of week belong together; else edit it",
        )


def _check_meaning(schedule: Schedule) -> Iterator[CheckFinding]:
    """Yield a warning for each surprising difference, and one notice for all other differences.

    The other differences are only different readings in other crons. The notice describes the first of these
    differences and counts the rest. Ranges that croniter misreads come first.
    """
    found = [each for each in find_differences(schedule) if each.code not in _USUAL_CODES]
    cron, timezone = shlex.quote(schedule.expression), shlex.quote(schedule.timezone)
    more = f"`{format_command(f'explain --cron {cron} --timezone {timezone}')}`"
    for each in found:
        if each.code in _SURPRISING_CODES:
            instead = f"write {each.instead}" if each.instead else f"edit it; see {more}"
            yield SCHEDULES.warning(
                _NO_SUBJECT,
                f"'{schedule.expression}': {each.here}",
                f"nothing, if you want this; else {instead}",
            )
    ordered = sorted(found, key=lambda difference: difference.code not in _MISREAD_CODES)
    others = [difference.words for difference in ordered if difference.code not in _SURPRISING_CODES]
    if others:
        further = f"; and {len(others) - 1} more" if len(others) > 1 else ""
        yield SCHEDULES.notice(
            _NO_SUBJECT,
            f"'{schedule.expression}': {others[0]}{further}",
            f"nothing, if it was written for this API; else see {more}",
        )


def _check_policies(
    subject: str, facts: Facts, each: KnownAutomation, schedule: Schedule
) -> Iterator[CheckFinding]:
    jitter = facts.settings.find_policies(each.id, each.name).jitter
    if not jitter:
        return
    apart = find_interval(schedule, facts.now)
    if apart is not None and jitter > apart / 2:
        yield SCHEDULES.warning(
            subject,
            f"jitter of {format_duration(jitter)} is too much for {format_duration(apart)} between "
            "two fires: it is cut to half of that",
            "give it less jitter, by an [[override]] of its own",
        )


def _report_not_fired(
    facts: Facts, subject: str, automations: Sequence[KnownAutomation]
) -> Iterator[CheckFinding]:
    states = Counter(
        "disabled" if not each.enabled else "paused"
        for each in automations
        if not each.enabled or find_pause_sources(facts, each)
    )
    if states:
        counts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
        yield SCHEDULES.notice(
            subject,
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
