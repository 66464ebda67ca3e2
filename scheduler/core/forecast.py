"""Forecast of the effect of the request budget on coming fires.

The forecast gives the waits and the lost occurrences of each automation. This module is pure. The forecast
runs the daemon's own arithmetic, `RequestBudget` and `FairQueue`, on the known fire times. Requests take no
time in the forecast. Unforeseeable requests (retries, unknown attempts) are not counted.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from scheduler.core.fair_queue import FairQueue, Ticket
from scheduler.core.request_budget import HOUR, Purpose, RequestBudget, compute_need

_LEAD: Final = 2.0
"""Seconds from the beginning of a poll to the next due instant."""


@dataclass(frozen=True, slots=True)
class ForecastOccurrence:
    """An occurrence of an automation: its due instant and the instant of its loss, in seconds.

    An occurrence is lost at its deadline, or when the next occurrence of its automation becomes due and
    coalesces it. When ``lost_at`` is later than the next due instant, the next occurrence waits behind this
    occurrence. ``reads``: the occurrence waits for a reading first.
    """

    at: float
    lost_at: float
    automation: str
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Polls:
    """How a target is polled: intervals in seconds, and the number of requests in one poll."""

    interval: float
    fresh_for: float
    pages: int


@dataclass(slots=True)
class AutomationForecast:
    """The forecast for one automation: due occurrences, lost occurrences, and the longest wait in seconds."""

    due: int = 0
    lost: int = 0
    longest_wait: float = 0.0


@dataclass(slots=True)
class Forecast:
    """The forecast for all automations.

    ``longest_gap`` is the longest time between two polls, in seconds. ``binds_at`` is the instant at which a
    fire first waits for the budget.
    """

    automation_forecasts: dict[str, AutomationForecast] = field(default_factory=dict)
    longest_gap: float = 0.0
    binds_at: float | None = None


def make_forecast(
    dues: Sequence[ForecastOccurrence], polls: Polls, *, per_minute: int, per_hour: int
) -> Forecast:
    """Simulate ``dues``, in the order of time, against the limits."""
    return _ForecastSimulation(dues, polls, RequestBudget(per_minute=per_minute, per_hour=per_hour)).run()


def compute_next_poll(last: float, next_due: float | None, polls: Polls) -> float:
    """Return when the next poll begins.

    The poll begins after the interval, or shortly before the next due instant when the last poll would be too
    old by then.
    """
    begins = last + polls.interval
    if next_due is not None and next_due - last > max(polls.fresh_for, _LEAD):
        begins = min(begins, next_due - _LEAD)
    return max(begins, last)


def predict_polls(due: Iterable[float], polls: Polls, until: float) -> Iterator[float]:
    """Yield the beginnings of polls without any delay, for due instants in ascending order."""
    last = -polls.interval
    for at in (*due, until):
        if at > until:
            break
        while (begins := last + polls.interval) < at - _LEAD:
            yield begins
            last = begins
        if at - last > max(polls.fresh_for, _LEAD) and at < until:
            last = at - _LEAD
            yield last


class _ForecastSimulation:
    def __init__(self, dues: Sequence[ForecastOccurrence], polls: Polls, budget: RequestBudget) -> None:
        self._dues = dues
        self._polls = polls
        self._budget = budget
        self._queue = FairQueue()
        self._waiting: dict[str, tuple[ForecastOccurrence, Ticket]] = {}
        # by automation: occurrences behind the waiting occurrence, with catch-up of all
        self._behind = defaultdict[str, deque[ForecastOccurrence]](deque)
        self._ends: list[tuple[float, int, str]] = []  # instants at which waiting occurrences are lost
        self._result = Forecast()
        self._next = 0  # index of the next due
        self._readings = 0
        self._page = 0  # page of the present poll; 0 without a poll
        self._last_poll = -polls.interval

    def run(self) -> Forecast:
        rate = sum(1 for _ in predict_polls([due.at for due in self._dues], self._polls, HOUR)) / HOUR
        self._budget.expect(
            compute_need(poll_interval=self._polls.interval, polls=rate, pages=self._polls.pages), 0.0
        )
        now: float | None = 0.0
        while now is not None:
            self._take_due(now)  # before losses: an occurrence coalesced now passes its waiting time on
            self._lose_expired_occurrences(now)
            instants = self._send_background(now), self._send_fires(now), self._find_next_instant(now)
            now = min(filter(None, instants), default=None)
        return self._result

    def _find_next_instant(self, now: float) -> float | None:
        """Return the instant of the next event independent of the budget, or None at the end."""
        if self._next >= len(self._dues) and not self._waiting:
            return None
        following = [self._dues[self._next].at] if self._next < len(self._dues) else []
        polled = [] if self._page or self._next >= len(self._dues) else [self._compute_next_poll()]
        ends = [end for end, _, _ in self._ends[:1]]
        return min((at for at in (*following, *polled, *ends) if at > now), default=None)

    def _compute_next_poll(self) -> float:
        following = self._dues[self._next].at if self._next < len(self._dues) else None
        return compute_next_poll(self._last_poll, following, self._polls)

    # ------------------------------------------------------------ occurrences

    def _take_due(self, now: float) -> None:
        while self._next < len(self._dues) and self._dues[self._next].at <= now:
            due = self._dues[self._next]
            self._next += 1
            self._readings += due.reads
            self._get_forecast(due).due += 1
            self._behind[due.automation].append(due)
            waiting = self._waiting.get(due.automation)
            if waiting is None:
                self._queue_next(due.automation, now)
            elif waiting[0].lost_at <= due.at:  # coalesced
                self._drop_waiting(due.automation, now, since=waiting[1].since)

    def _queue_next(self, automation: str, now: float, since: float = inf) -> None:
        """Let the automation's next occurrence wait. Record the loss of occurrences already lost.

        ``since`` is the beginning of the wait of the coalesced occurrence.
        """
        behind = self._behind[automation]
        while behind:
            due = behind.popleft()
            if due.lost_at > now:
                ticket = self._queue.join(automation, lost_at=due.lost_at, since=min(since, due.at))
                self._waiting[automation] = due, ticket
                heapq.heappush(self._ends, (due.lost_at, self._next, automation))
                return
            self._record_loss(due)

    def _lose_expired_occurrences(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            end, _, automation = heapq.heappop(self._ends)
            waiting = self._waiting.get(automation)
            if waiting is not None and waiting[0].lost_at == end:
                self._drop_waiting(automation, now)

    def _drop_waiting(self, automation: str, now: float, since: float = inf) -> None:
        due, ticket = self._waiting.pop(automation)
        self._queue.leave(ticket)
        self._queue.record_loss(ticket)
        self._record_loss(due)
        self._queue_next(automation, now, since)

    def _record_loss(self, due: ForecastOccurrence) -> None:
        self._get_forecast(due).lost += 1
        self._record_wait(due, due.lost_at)

    def _get_forecast(self, due: ForecastOccurrence) -> AutomationForecast:
        return self._result.automation_forecasts.setdefault(due.automation, AutomationForecast())

    def _record_wait(self, due: ForecastOccurrence, until: float) -> None:
        prospect = self._get_forecast(due)
        prospect.longest_wait = max(prospect.longest_wait, until - due.at)

    # ------------------------------------------------------------ requests

    def _send_fires(self, now: float) -> float | None:
        """Send all permitted fires.

        Return when the next fire may be sent, or None when no fire waits.
        """
        while self._waiting:
            at = self._budget.find_earliest_fire(now)
            if at > now:
                self._result.binds_at = now if self._result.binds_at is None else self._result.binds_at
                return at
            ticket = self._queue.choose()
            assert ticket is not None, "as many tickets as occurrences wait"
            self._send(now)
            self._queue.record_send(ticket, now)
            self._record_wait(self._waiting.pop(ticket.automation_id)[0], now)
            self._queue_next(ticket.automation_id, now)
        return None

    def _send_background(self, now: float) -> float | None:
        """Send all permitted polls and readings.

        Return when the next request may be sent, or None when no request waits.
        """
        while self._page or self._compute_next_poll() <= now:
            pages = self._polls.pages
            at = self._budget.find_earliest_poll(now, 1 if self._page else pages)
            if at > now:
                return at
            self._send(now, Purpose.POLL, requests=1 if self._page else pages)
            if not self._page:
                if self._last_poll >= 0:
                    self._result.longest_gap = max(self._result.longest_gap, now - self._last_poll)
                self._last_poll = now
            self._page = (self._page + 1) % pages
        while self._readings:
            at = self._budget.find_earliest_reading(now)
            if at > now:
                return at
            self._send(now, Purpose.READING)
            self._readings -= 1
        return None

    def _send(self, now: float, purpose: Purpose = Purpose.FIRE, *, requests: int = 1) -> None:
        self._budget.hold(purpose)
        self._budget.use(now, purpose, requests=requests)


def find_losers(forecast: Forecast) -> Mapping[str, AutomationForecast]:
    """Return the automations with lost occurrences, largest lost part first."""
    found = {automation: each for automation, each in forecast.automation_forecasts.items() if each.lost}
    return dict(sorted(found.items(), key=lambda item: (-item[1].lost / item[1].due, item[0])))
