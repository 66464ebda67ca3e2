"""Which automations will wait for the request budget, or lose occurrences: the forecast, on the automations that are known."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from scheduler.core.cron import Schedule
from scheduler.core.forecast import Due, Forecast, Polls, forecast, losers
from scheduler.core.instants import to_text_seconds
from scheduler.core.policy import CatchUp, Concurrency, Policies, start_within
from scheduler.settings import Target
from scheduler.settings.durations import format_duration

DAY: Final = timedelta(days=1)
MOST: Final = 20_000
"""Occurrences that are played: some seconds. When the day has more, the first hours stand for it."""
_NAMED: Final = 3
_NOTABLE: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Recurring:
    """An automation that fires by a schedule, each time so much later than scheduled."""

    id: str
    name: str
    schedule: Schedule
    offset: timedelta
    policies: Policies


def foresee(automations: Iterable[Recurring], polls: Polls, target: Target, begin: datetime) -> tuple[Forecast, int]:
    """Return the forecast from ``begin`` on, and how many occurrences it rests on."""
    merged = heapq.merge(*(_dues(each, begin) for each in automations), key=lambda due: due.at)
    dues = list(islice(merged, MOST))
    return forecast(dues, polls, per_minute=target.requests_per_minute, per_hour=target.requests_per_hour), len(dues)


def _dues(automation: Recurring, begin: datetime) -> Iterator[Due]:
    """Yield the occurrences of a day. One that waits is lost at its deadline, or when the next one comes due and coalesces it."""
    policies, offset = automation.policies, automation.offset.total_seconds()
    instants = automation.schedule.between(begin - automation.offset - timedelta(microseconds=1), begin + DAY + timedelta(hours=1))
    for instant, following in pairwise((*instants, None)):
        assert instant is not None, "only the last one has nothing that follows"
        to_the_next = None if following is None else following - instant
        at = (instant - begin).total_seconds() + offset
        patience = start_within(policies, to_the_next)
        if to_the_next is not None and policies.catch_up is not CatchUp.ALL:
            patience = min(patience, to_the_next)
        if 0 <= at < DAY.total_seconds():
            yield Due(at, at + patience.total_seconds(), automation.id, reads=policies.concurrency is not Concurrency.ALLOW)


def describe(result: Forecast, names: dict[str, str], polls: Polls, begin: datetime) -> str | None:
    """Say what will wait and what will be lost; None when all goes in time."""
    lost = losers(result)
    late = [each.longest_wait for each in result.prospects.values() if each.longest_wait > _NOTABLE]
    parts = []
    if late and result.binds_at is not None:
        since = to_text_seconds(begin + timedelta(seconds=int(result.binds_at)))
        parts.append(f"from {since} on {len(late):,} automations wait, up to {_span(max(late))}")
    if lost:
        parts.append(f"{len(lost):,} lose occurrences ({_examples([(names[id_], each.lost, each.due) for id_, each in lost.items()])})")
    if result.longest_gap > polls.interval + _NOTABLE:
        parts.append(f"polls come up to {_span(result.longest_gap)} apart")
    return ", ".join(parts) or None


def _examples(lost: Sequence[tuple[str, int, int]]) -> str:
    named = "; ".join(f"{name}: {count:,} of {due:,}" for name, count, due in lost[:_NAMED])
    return named + ("; …" if len(lost) > _NAMED else "")


def _span(seconds: float) -> str:
    return format_duration(timedelta(seconds=max(1, round(seconds))))
