"""The budget of requests, set against what polls and the coming day's fires need of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.forecast import Polls
from scheduler.core.instants import to_text_seconds
from scheduler.core.plural import pluralize
from scheduler.core.policy import Concurrency, jitter
from scheduler.doctor.demand import Group, Load, demand
from scheduler.doctor.facts import ApiFacts, Facts, Known, TargetFacts
from scheduler.doctor.findings import Check, Finding
from scheduler.doctor.interval import interval
from scheduler.doctor.paused import Paused
from scheduler.doctor.shortage import Recurring, choose_stretch, describe, foresee
from scheduler.settings import Settings, Target
from scheduler.settings.durations import format_duration

BUDGET: Final = Check("rate budget")
_CLOUD: Final = ("posthog.com", 480, 4800)
"""What a key may do there in a minute and in an hour."""
_SHARE: Final = 0.5
"""Of each limit that polls may use; the rest is kept for fires."""
_ROWS: Final = 1000  # of a page, when the API could not be asked
_SHORTEST: Final = 1.0  # seconds between two polls; more of them in a minute are not told apart


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the budget of every target whose automations are known."""
    for target in facts.targets:
        yield from _published(target.settings)
        automations = facts.automations(target)
        if automations is not None:
            yield from _of(target, facts, list(_recurring(facts, automations)), _polls(facts, target, automations))


def _polls(facts: Facts, target: TargetFacts, automations: Sequence[Known]) -> Polls:
    schedule = facts.settings.schedule
    pages = target.api.requests if isinstance(target.api, ApiFacts) and target.api.requests else -(-len(automations) // _ROWS)
    return Polls(max(schedule.poll_interval.total_seconds(), _SHORTEST), schedule.fresh_for.total_seconds(), max(pages, 1))


def _recurring(facts: Facts, automations: Sequence[Known]) -> Iterator[Recurring]:
    """The automations that fire."""
    paused = Paused(facts)
    for each in automations:
        schedule = None if paused.covers(each) else _schedule(each, facts.settings)
        if schedule is None:
            continue
        policies = facts.settings.policies(each.id, each.name)
        after = jitter(policies, each.target, each.id, interval(schedule, facts.now)) if policies.jitter else timedelta(0)
        yield Recurring(each.id, each.name, schedule, timedelta(seconds=int(after.total_seconds())), policies)


def _groups(automations: Iterable[Recurring]) -> Iterator[Group]:
    """Those of one schedule together."""
    fires, reads = defaultdict[Schedule, Counter[int]](Counter), defaultdict[Schedule, Counter[int]](Counter)
    for each in automations:
        offset = int(each.offset.total_seconds())
        fires[each.schedule][offset] += 1
        reads[each.schedule][offset] += each.policies.concurrency is not Concurrency.ALLOW
    return (Group(schedule, offsets, reads[schedule]) for schedule, offsets in fires.items())


def _schedule(each: Known, settings: Settings) -> Schedule | None:
    if not each.enabled or each.broken is not None:
        return None
    try:
        return Schedule.parse(
            each.cron_expression, each.timezone, dst_gap=settings.schedule.dst_gap, dst_repeat=settings.schedule.dst_repeat
        )
    except InvalidSchedule:
        return None


# ---------------------------------------------------------------- what it means


def _published(target: Target) -> Iterator[Finding]:
    domain, per_minute, per_hour = _CLOUD
    host = urlsplit(target.url).hostname or ""
    if host != domain and not host.endswith(f".{domain}"):
        return
    if target.requests_per_minute > per_minute or target.requests_per_hour > per_hour:
        yield BUDGET.warning(
            f"target {target.name}",
            f"it may be sent {pluralize(target.requests_per_minute, 'request')} a minute and {target.requests_per_hour:,} an hour; "
            f"the cloud allows a key {per_minute:,} and {per_hour:,}",
            "lower requests_per_minute and requests_per_hour; leave room for whatever else uses the key",
        )


def _of(target: TargetFacts, facts: Facts, automations: Sequence[Recurring], polls: Polls) -> Iterator[Finding]:
    subject, limits = f"target {target.settings.name}", target.settings
    needed = demand(_groups(automations), polls, facts.now)
    minute, hour = needed.minute, needed.hour
    problems = [*_minute(limits, minute), *_hour(limits, hour, facts.settings)]
    stretches = [_stretch(needed.minutes, load) for load, _, _ in problems]
    foreseen = {stretch: _foreseen(limits, automations, polls, needed.minutes, stretch) for stretch in set(stretches)}
    for (_, finding, advice), stretch in zip(problems, stretches, strict=True):
        yield BUDGET.warning(subject, f"{finding}: {foreseen[stretch]}", advice)
    if not problems:
        of_minute, of_hour = limits.requests_per_minute, limits.requests_per_hour
        busiest = f"the busiest minute of the coming day needs {minute.requests:,} of {of_minute:,} requests"
        yield BUDGET.ok(subject, f"{busiest}, the busiest hour {hour.requests:,} of {of_hour:,}")
    crowded = needed.most_fires
    if crowded.fires > limits.max_in_flight:
        due = f"{crowded.fires:,} automations are due in the minute of {to_text_seconds(crowded.at)}"
        yield BUDGET.notice(
            subject,
            f"{due}, and {pluralize(limits.max_in_flight, 'attempt goes', 'attempts go')} at the same time: the others wait for their turn",
            "spread them with jitter, or raise max_in_flight if the API takes more",
        )


def _stretch(minutes: Sequence[Load], load: Load) -> range:
    first = (load.at - minutes[0].at) // timedelta(minutes=1)
    return choose_stretch([each.fires for each in minutes], range(first, first + load.minutes))


def _foreseen(limits: Target, automations: Sequence[Recurring], polls: Polls, minutes: Sequence[Load], stretch: range) -> str:
    """What the budget makes of a stretch of the day, by its own arithmetic; a part of the day is named."""
    begin, end = minutes[stretch[0]].at, minutes[stretch[-1]].at + timedelta(minutes=1)
    result = foresee(automations, polls, limits, begin, end)
    said = describe(result, {each.id: each.name for each in automations}, polls, begin) or "all goes in time, since polls give way"
    if len(stretch) == len(minutes):
        return said
    return f"{said} (forecast from {to_text_seconds(begin)} to {to_text_seconds(end)}, not of the rest of the day)"


def _minute(limits: Target, minute: Load) -> Iterator[tuple[Load, str, str]]:
    limit = limits.requests_per_minute
    if minute.requests > limit:
        needs = f"the minute of {to_text_seconds(minute.at)} needs {_needs(minute)}, and requests_per_minute is {limit:,}"
        yield minute, needs, "spread starts with jitter, edit some of the schedules, or raise requests_per_minute as far as the API allows"


def _hour(limits: Target, hour: Load, settings: Settings) -> Iterator[tuple[Load, str, str]]:
    limit, when = limits.requests_per_hour, f"the hour from {to_text_seconds(hour.at)} on"
    shorter = f"raise poll_interval ({format_duration(settings.schedule.poll_interval)})"
    if hour.requests > limit:
        advice = f"{shorter}, edit some of the schedules, or raise requests_per_hour as far as the API allows"
        yield hour, f"{when} needs {_needs(hour)}, and requests_per_hour is {limit:,}", advice
    elif hour.readings > _SHARE * limit:
        advice = f"{shorter}, or raise requests_per_hour as far as the API allows"
        yield hour, f"{when} needs {_needs(hour)}; of requests_per_hour, {limit:,}, half is for polls and readings", advice


def _needs(load: Load) -> str:
    return f"{pluralize(load.fires, 'fire')} and {pluralize(load.readings, 'reading')}"
