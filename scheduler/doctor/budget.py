"""The budget of requests, set against what polls and the coming day's fires need of it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.instants import to_text_seconds
from scheduler.core.policy import Concurrency, jitter
from scheduler.doctor.demand import Demand, Group, Load, Polling, demand
from scheduler.doctor.facts import ApiFacts, Facts, Known, TargetFacts
from scheduler.doctor.findings import Check, Finding
from scheduler.doctor.interval import interval
from scheduler.doctor.paused import Paused
from scheduler.settings import Settings, Target
from scheduler.settings.durations import format_duration

BUDGET: Final = Check("rate budget")
_CLOUD: Final = ("posthog.com", 480, 4800)
"""What a key may do there in a minute and in an hour."""
_SHARE: Final = 0.75
"""Of each limit that polls may use; the rest is kept for fires."""
_ROWS: Final = 1000  # of a page, when the API could not be asked
_SHORTEST: Final = 1.0  # seconds between two polls; more of them in a minute are not told apart


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the budget of every target whose automations are known."""
    for target in facts.targets:
        yield from _published(target.settings)
        automations = facts.automations(target)
        if automations is not None:
            yield from _of(target, _demand(facts, target, automations), facts.settings)


def _demand(facts: Facts, target: TargetFacts, automations: Sequence[Known]) -> Demand:
    schedule = facts.settings.schedule
    pages = target.api.requests if isinstance(target.api, ApiFacts) and target.api.requests else -(-len(automations) // _ROWS)
    polling = Polling(max(schedule.poll_interval.total_seconds(), _SHORTEST), schedule.fresh_for.total_seconds(), max(pages, 1))
    return demand(_groups(facts, automations), polling, facts.now)


def _groups(facts: Facts, automations: Sequence[Known]) -> Iterator[Group]:
    """The automations that fire, those of one schedule together."""
    paused = Paused(facts)
    fires, reads = defaultdict[Schedule, Counter[int]](Counter), defaultdict[Schedule, Counter[int]](Counter)
    for each in automations:
        schedule = None if paused.covers(each) else _schedule(each, facts.settings)
        if schedule is None:
            continue
        policies = facts.settings.policies(each.id, each.name)
        after = jitter(policies, each.target, each.id, interval(schedule, facts.now)) if policies.jitter else timedelta(0)
        offset = int(after.total_seconds())
        fires[schedule][offset] += 1
        reads[schedule][offset] += policies.concurrency is not Concurrency.ALLOW
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
            f"it may be sent {target.requests_per_minute:,} requests a minute and {target.requests_per_hour:,} an hour; "
            f"the cloud allows a key {per_minute:,} and {per_hour:,}",
            "lower requests_per_minute and requests_per_hour; leave room for whatever else uses the key",
        )


def _of(target: TargetFacts, needed: Demand, settings: Settings) -> Iterator[Finding]:
    subject, limits, minute, hour = f"target {target.settings.name}", target.settings, needed.minute, needed.hour
    problems = [*_minute(limits, minute), *_hour(limits, hour, settings)]
    for finding, advice in problems:
        yield BUDGET.warning(subject, finding, advice)
    if not problems:
        of_minute, of_hour = limits.requests_per_minute, limits.requests_per_hour
        busiest = f"the busiest minute of the coming day needs {minute.requests:,} of {of_minute:,} requests"
        yield BUDGET.ok(subject, f"{busiest}, the busiest hour {hour.requests:,} of {of_hour:,}")
    crowded = needed.most_fires
    if crowded.fires > limits.max_in_flight:
        due = f"{crowded.fires:,} automations are due in the minute of {to_text_seconds(crowded.at)}"
        yield BUDGET.notice(
            subject,
            f"{due}, and {limits.max_in_flight} attempts go at the same time: the others wait for their turn",
            "spread them with jitter, or raise max_in_flight if the API takes more",
        )


def _minute(limits: Target, minute: Load) -> Iterator[tuple[str, str]]:
    limit = limits.requests_per_minute
    if minute.requests > limit:
        needs = f"the minute of {to_text_seconds(minute.at)} needs {_needs(minute)}, and requests_per_minute is {limit:,}"
        late = -(-minute.requests // limit) - 1
        advice = "spread starts with jitter, edit some of the schedules, or raise requests_per_minute as far as the API allows"
        yield f"{needs}: the last leaves about {late} min late", advice


def _hour(limits: Target, hour: Load, settings: Settings) -> Iterator[tuple[str, str]]:
    limit, when = limits.requests_per_hour, f"the hour from {to_text_seconds(hour.at)} on"
    shorter = f"raise poll_interval ({format_duration(settings.schedule.poll_interval)})"
    if hour.requests > limit:
        then = "not everything can start within start_within" if hour.fires > limit else "polls come late"
        advice = f"{shorter}, edit some of the schedules, or raise requests_per_hour as far as the API allows"
        yield f"{when} needs {_needs(hour)}, and requests_per_hour is {limit:,}: {then}", advice
    elif hour.readings > _SHARE * limit:
        advice = f"{shorter}, or raise requests_per_hour as far as the API allows"
        yield f"{when} needs {_needs(hour)}; of requests_per_hour, {limit:,}, three quarters are for readings: polls come late", advice


def _needs(load: Load) -> str:
    return f"{load.fires:,} fires and {load.readings:,} readings"
