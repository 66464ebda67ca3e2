"""The forecast of the known automations that will wait for the request budget or lose occurrences."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from scheduler.core.forecast import Forecast, ForecastOccurrence, Polls, find_losers, make_forecast
from scheduler.core.instants import JUST_BEFORE, to_text_seconds
from scheduler.core.policy import CatchUp, compute_start_within
from scheduler.core.quantities import describe_span, pluralize
from scheduler.doctor.checks.automations import RecurringAutomation
from scheduler.settings.models import TargetSection

MAX_OCCURRENCES: Final = 20_000
"""The largest number of simulated occurrences; the simulation takes some seconds.

On a day with more occurrences, only a stretch around the busiest minute or hour is simulated.
"""
_MINUTES_BEFORE: Final = 60
"""The largest number of simulated minutes before the minute in question.

The requests of these minutes still count against requests_per_hour.
"""
_MAX_BEFORE: Final = MAX_OCCURRENCES // 4
_MAX_EXAMPLES: Final = 3
_NOTABLE_SECONDS: Final = 1.0  # seconds


def choose_stretch(fires: Sequence[int], crowded: range) -> range:
    """Return the minutes to simulate.

    ``fires``: the number of occurrences in each minute of the day. ``crowded``: the minutes in question. The
    result is the whole day, or a stretch with the busiest minute of ``crowded``. This minute is simulated
    whatever the number of its occurrences.
    """
    if sum(fires) <= MAX_OCCURRENCES:
        return range(len(fires))
    minute = max(crowded, key=fires.__getitem__)
    begin, played = minute, 0
    while begin > max(0, minute - _MINUTES_BEFORE) and played + fires[begin - 1] <= _MAX_BEFORE:
        begin -= 1
        played += fires[begin]
    end, played = minute + 1, played + fires[minute]
    while end < len(fires) and played + fires[end] <= MAX_OCCURRENCES:
        played += fires[end]
        end += 1
    return range(begin, end)


def forecast_stretch(
    automations: Sequence[RecurringAutomation],
    polls: Polls,
    target: TargetSection,
    begin: datetime,
    end: datetime,
) -> Forecast:
    """Return the forecast for the occurrences that come due from ``begin`` on and before ``end``."""
    longest = max((automation.offset for automation in automations), default=timedelta(0))
    earliest, latest = begin - longest - JUST_BEFORE, end + timedelta(hours=1)
    instants = {
        schedule: tuple(schedule.iterate_between(earliest, latest))
        for schedule in {automation.schedule for automation in automations}
    }
    dues = [
        due
        for automation in automations
        for due in _list_dues(automation, instants[automation.schedule], begin, end)
    ]
    dues.sort(key=lambda due: due.at)
    per_minute, per_hour = target.requests_per_minute, target.requests_per_hour
    return make_forecast(dues, polls, per_minute=per_minute, per_hour=per_hour)


def _list_dues(
    automation: RecurringAutomation, instants: Sequence[datetime], begin: datetime, end: datetime
) -> Iterator[ForecastOccurrence]:
    """Yield the occurrences of an automation that come due within a stretch.

    A waiting occurrence is lost at its deadline, or when the next occurrence comes due and coalesces it.
    With ``catch_up = "all"``, nothing is coalesced: only the deadline counts.
    """
    policies, length = automation.policies, (end - begin).total_seconds()
    for instant, following in pairwise((*instants, None)):
        assert instant is not None, "only the last one has nothing that follows"
        to_the_next = None if following is None else following - instant
        at = (instant + automation.offset - begin).total_seconds()
        patience = compute_start_within(policies, to_the_next)
        if to_the_next is not None and policies.catch_up is not CatchUp.ALL:
            patience = min(patience, to_the_next)
        if 0 <= at < length:
            until = at + patience.total_seconds()
            yield ForecastOccurrence(at, until, automation.id, reads=automation.needs_reading)


def describe_shortage(result: Forecast, names: dict[str, str], polls: Polls, begin: datetime) -> str | None:
    """Describe the waits, lost occurrences and late polls of a forecast; None when all are in time."""
    lost = find_losers(result)
    waits = (forecast.longest_wait for forecast in result.automation_forecasts.values())
    late = [wait for wait in waits if wait > _NOTABLE_SECONDS]
    parts = []
    if late and result.binds_at is not None:
        since = to_text_seconds(begin + timedelta(seconds=int(result.binds_at)))
        waiting = pluralize(len(late), "automation waits", "automations wait")
        parts.append(f"from {since} on {waiting}, up to {describe_span(max(late), exact=True)}")
    if lost:
        examples = _format_examples([(names[id_], loser.lost, loser.due) for id_, loser in lost.items()])
        parts.append(f"{pluralize(len(lost), 'loses', 'lose')} occurrences ({examples})")
    if result.longest_gap > polls.interval + _NOTABLE_SECONDS:
        parts.append(f"polls come up to {describe_span(result.longest_gap, exact=True)} apart")
    return ", ".join(parts) or None


def _format_examples(lost: Sequence[tuple[str, int, int]]) -> str:
    named = "; ".join(f"{name}: {count:,} of {due:,}" for name, count, due in lost[:_MAX_EXAMPLES])
    return named + ("; …" if len(lost) > _MAX_EXAMPLES else "")
