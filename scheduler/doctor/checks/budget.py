"""The request budget, compared with the needs of the polls and of the coming day's fires."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.forecast import Polls
from scheduler.core.instants import to_text_seconds
from scheduler.core.quantities import pluralize
from scheduler.doctor.checks.automations import RecurringAutomation, list_recurring
from scheduler.doctor.checks.request_forecast import RequestLoad, forecast_requests, list_hours
from scheduler.doctor.checks.shortage import choose_stretch, describe_shortage, forecast_stretch
from scheduler.doctor.facts import ApiFacts, Facts, TargetFacts
from scheduler.doctor.findings import CheckFinding, Subject
from scheduler.ledger.automations import AutomationRow
from scheduler.settings.models import Settings, TargetSection
from scheduler.settings.units import format_duration

_CLOUD: Final = ("posthog.com", 480, 4800)
"""The domain of the hosted service, and its limits for one key in a minute and in an hour."""
_POLL_SHARE: Final = 0.5
"""The share of a limit that polls and readings may need at most; the rest is for fires."""
_ROWS_PER_PAGE: Final = 1000  # assumed when the API could not be asked
_MIN_POLL_INTERVAL: Final = 1.0  # seconds between two polls; shorter intervals count as this interval


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the request budget of every target with known automations."""
    for target in facts.targets:
        yield from _check_cloud_limits(target.settings)
        automations = facts.list_automations(target)
        if automations is not None:
            recurring = list(list_recurring(facts, automations))
            yield from _check_target(target, facts, recurring, _make_polls(facts, target, automations))


def _make_polls(facts: Facts, target: TargetFacts, automations: Sequence[AutomationRow]) -> Polls:
    schedule = facts.settings.schedule
    interval = max(schedule.poll_interval.total_seconds(), _MIN_POLL_INTERVAL)
    pages = target.api.requests if isinstance(target.api, ApiFacts) else 0
    pages = pages or -(-len(automations) // _ROWS_PER_PAGE)
    return Polls(interval, schedule.fresh_for.total_seconds(), max(pages, 1))


# ---------------------------------------------------------------- findings


def _check_cloud_limits(target: TargetSection) -> Iterator[CheckFinding]:
    domain, per_minute, per_hour = _CLOUD
    host = urlsplit(target.url).hostname or ""
    if host != domain and not host.endswith(f".{domain}"):
        return
    if target.requests_per_minute > per_minute or target.requests_per_hour > per_hour:
        requests = pluralize(target.requests_per_minute, "request")
        finding = f"it may be sent {requests} a minute and {target.requests_per_hour:,} an hour"
        allowed = f"the cloud allows a key {per_minute:,} and {per_hour:,}"
        advice = "lower requests_per_minute and requests_per_hour; leave room for other users of the key"
        yield Subject(f"target {target.name}").warning(f"{finding}; {allowed}", advice)


def _check_target(
    target: TargetFacts, facts: Facts, automations: Sequence[RecurringAutomation], polls: Polls
) -> Iterator[CheckFinding]:
    subject, limits = Subject(f"target {target.settings.name}"), target.settings
    minutes = forecast_requests(automations, polls, facts.now)
    minute, hour = (max(loads, key=attrgetter("requests")) for loads in (minutes, list_hours(minutes)))
    problems = [*_check_minute(limits, minute), *_check_hour(limits, hour, facts.settings)]
    stretches = [_find_stretch(minutes, load) for load, _, _ in problems]
    foreseen = {
        stretch: _describe_forecast(limits, automations, polls, minutes, stretch)
        for stretch in set(stretches)
    }
    for (_, finding, advice), stretch in zip(problems, stretches, strict=True):
        yield subject.warning(f"{finding}: {foreseen[stretch]}", advice)
    if not problems:
        of_minute, of_hour = limits.requests_per_minute, limits.requests_per_hour
        busiest = f"the busiest minute of the coming day needs {minute.requests:,} of {of_minute:,} requests"
        yield subject.ok(f"{busiest}, the busiest hour {hour.requests:,} of {of_hour:,}")
    crowded = max(minutes, key=attrgetter("fires"))
    if crowded.fires > limits.max_in_flight:
        due = f"{crowded.fires:,} automations are due in the minute of {to_text_seconds(crowded.at)}"
        attempts = pluralize(limits.max_in_flight, "attempt goes", "attempts go")
        finding = f"{due}, and {attempts} at the same time: the others wait for their turn"
        advice = "spread them with jitter, or raise max_in_flight if the API takes more"
        yield subject.notice(finding, advice)


def _find_stretch(minutes: Sequence[RequestLoad], load: RequestLoad) -> range:
    first = (load.at - minutes[0].at) // timedelta(minutes=1)
    return choose_stretch([minute.fires for minute in minutes], range(first, first + load.minutes))


def _describe_forecast(
    limits: TargetSection,
    automations: Sequence[RecurringAutomation],
    polls: Polls,
    minutes: Sequence[RequestLoad],
    stretch: range,
) -> str:
    """Describe the effect of the budget on a stretch of the day, by the budget's own arithmetic.

    The text names the stretch when the stretch is not the whole day.
    """
    begin, end = minutes[stretch[0]].at, minutes[stretch[-1]].at + timedelta(minutes=1)
    result = forecast_stretch(automations, polls, limits, begin, end)
    names = {automation.id: automation.name for automation in automations}
    shortage = describe_shortage(result, names, polls, begin)
    effect = shortage or "all fires are in time, because polls give way"
    if len(stretch) == len(minutes):
        return effect
    covered = f"from {to_text_seconds(begin)} to {to_text_seconds(end)}"
    return f"{effect} (forecast {covered}, not of the rest of the day)"


def _check_minute(limits: TargetSection, minute: RequestLoad) -> Iterator[tuple[RequestLoad, str, str]]:
    limit = limits.requests_per_minute
    if minute.requests > limit:
        needs = f"the minute of {to_text_seconds(minute.at)} needs {_describe_needs(minute)}"
        more = "raise requests_per_minute as far as the API allows"
        advice = f"spread starts with jitter, edit some of the schedules, or {more}"
        yield minute, f"{needs}, and requests_per_minute is {limit:,}", advice


def _check_hour(
    limits: TargetSection, hour: RequestLoad, settings: Settings
) -> Iterator[tuple[RequestLoad, str, str]]:
    limit, when = limits.requests_per_hour, f"the hour from {to_text_seconds(hour.at)} on"
    shorter = f"raise poll_interval ({format_duration(settings.schedule.poll_interval)})"
    if hour.requests > limit:
        advice = f"{shorter}, edit some of the schedules, or raise requests_per_hour as far as the API allows"
        yield hour, f"{when} needs {_describe_needs(hour)}, and requests_per_hour is {limit:,}", advice
    elif hour.readings > _POLL_SHARE * limit:
        half = f"of requests_per_hour, {limit:,}, half is for polls and readings"
        advice = f"{shorter}, or raise requests_per_hour as far as the API allows"
        yield hour, f"{when} needs {_describe_needs(hour)}; {half}", advice


def _describe_needs(load: RequestLoad) -> str:
    return f"{pluralize(load.fires, 'fire')} and {pluralize(load.readings, 'reading')}"
