"""The forecast of the requests to a target in the coming day, minute by minute: fires and their readings.

The forecast is an estimate from above, by the daemon's own rules:

- a poll every ``poll_interval``;
- one more poll shortly before a due instant, when the last poll would then be older than ``fresh_for``;
- a reading after the poll, where ``concurrency`` has to know whether the previous run has ended.

The polls also show the ends of the runs, without further requests.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

from scheduler.core.cron.schedule import Schedule
from scheduler.core.forecast import Polls, predict_polls
from scheduler.core.instants import JUST_BEFORE
from scheduler.doctor.checks.automations import RecurringAutomation

DAY: Final = 24 * 60
"""The length of the forecast in minutes."""
_HOUR: Final = 60
_MAX_SINGLE_READINGS: Final = 8  # automations read alone; for more, the whole list is read


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """The requests within ``minutes`` minutes from ``at`` on."""

    at: datetime
    fires: int
    readings: int
    minutes: int = 1

    @property
    def requests(self) -> int:
        """All requests: fires and readings."""
        return self.fires + self.readings


def forecast_requests(
    automations: Iterable[RecurringAutomation], polling: Polls, now: datetime
) -> list[RequestLoad]:
    """Forecast the requests in each minute of the day that begins with the next full minute."""
    begin = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    fires, reads = _count_due(automations, begin)
    readings = Counter[int]()
    for at in predict_polls(sorted(fires), polling, DAY * 60):
        readings[max(int(at) // 60, 0)] += polling.pages
    for second, number in reads.items():
        readings[second // 60] += min(number, max(_MAX_SINGLE_READINGS, polling.pages))
    by_minute = Counter[int]()
    for second, number in fires.items():
        by_minute[second // 60] += number
    return [
        RequestLoad(begin + timedelta(minutes=minute), by_minute[minute], readings[minute])
        for minute in range(DAY)
    ]


def _count_due(
    automations: Iterable[RecurringAutomation], begin: datetime
) -> tuple[Counter[int], Counter[int]]:
    """Count the fires, and the readings for the fires, by seconds from ``begin`` on."""
    fires, reads = Counter[int](), Counter[int]()
    for schedule, loads in _group_by_schedule(automations).items():
        earliest = begin - timedelta(seconds=max(loads)[0]) - JUST_BEFORE
        instants = [
            int((fire - begin).total_seconds())
            for fire in schedule.iterate_between(earliest, begin + timedelta(minutes=DAY))
        ]
        for (offset, needs_reading), count in loads.items():
            for second in (instant + offset for instant in instants):
                if 0 <= second < DAY * 60:
                    fires[second] += count
                    reads[second] += count if needs_reading else 0
    return fires, +reads


def _group_by_schedule(
    automations: Iterable[RecurringAutomation],
) -> Mapping[Schedule, Counter[tuple[int, bool]]]:
    """Count the automations on each schedule by their offset in seconds and their need of a reading."""
    loads = defaultdict[Schedule, Counter[tuple[int, bool]]](Counter)
    for automation in automations:
        offset = int(automation.offset.total_seconds())
        loads[automation.schedule][offset, automation.needs_reading] += 1
    return loads


def list_hours(minutes: Sequence[RequestLoad]) -> Iterator[RequestLoad]:
    """Yield the load of every span of 60 minutes within the day."""
    fires = [0, *accumulate(minute.fires for minute in minutes)]
    readings = [0, *accumulate(minute.readings for minute in minutes)]
    for begin in range(len(minutes) - _HOUR + 1):
        end = begin + _HOUR
        yield RequestLoad(
            minutes[begin].at, fires[end] - fires[begin], readings[end] - readings[begin], _HOUR
        )
