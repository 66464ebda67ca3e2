"""Counters and histograms of events, for Prometheus. `gauges` reads the state of the daemon.

Each counter exists with 0 from the start, for every target and every label value known beforehand. Without
this, an alert on an increase would miss the first event. No label contains a prompt, a repository or an error
text.
"""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from itertools import product
from typing import Final, TypeVar

from prometheus_client import (  # noqa: TID251  this module keeps the metrics
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from scheduler.core import events
from scheduler.core.events import Event
from scheduler.core.model import FAILURES, REASONS, AttemptResult, Outcome, RunStatus

_M = TypeVar("_M", Counter, Histogram)

KINDS: Final = ("on_time", "catch_up", "retry")
POLLS: Final = ("ok", "error", "disagreed")
ENDPOINTS: Final = ("list", "retrieve", "create", "update", "delete", "run")
CODES: Final = frozenset({"unreachable", "timeout", "broken"} | {str(status.value) for status in HTTPStatus})
"""The possible ends of a request.

A status that is not registered is replaced by its class, such as ``5xx``: a server must not be able to create
series.
"""
THROTTLED: Final = "429"
DIRECTIONS: Final = ("forward", "backward", "suspend")
RUN_ENDS: Final = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)
"""The final statuses of a run."""
TIMED_ENDS: Final = (RunStatus.SUCCESS, RunStatus.FAILED)
"""The final statuses of a run for which the instant of the end is known."""
OPERATIONS: Final = (
    *("attempt", "claim", "conclude", "ended", "fire", "lock", "note", "observe", "open", "origin"),
    *("overdue", "pauses", "prune", "runs", "state", "throttle", "unsend", "withdraw"),
)
"""The operations of the ledger, as `LedgerFailed` names them."""

_LATENESS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_NETWORK_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RUN_BUCKETS: Final = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(slots=True)
class AutomationMetrics:
    """The facts about an automation that have metrics of their own.

    ``accepted_at`` is the instant of the last acceptance. ``succeeded_at`` is the instant at which the end of
    the last successful run was seen. ``duration`` has the seconds of the newest run whose end this process
    saw. ``runs`` counts the runs that ended since the start of this process.
    """

    accepted_at: datetime | None = None
    succeeded_at: datetime | None = None
    duration: float | None = None
    runs: Counts[RunStatus] = field(default_factory=Counts)


_NO_METRICS: Final = AutomationMetrics()


class Metrics:
    """The observer that counts events.

    ``now`` is the clock, in UTC. All metrics are in ``registry``, not in the default registry of the library.
    """

    def __init__(self, targets: Iterable[str], *, now: Callable[[], datetime]) -> None:
        # The creation times of counters are not needed, and would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._now = now
        self._facts: defaultdict[tuple[str, str], AutomationMetrics] = defaultdict(AutomationMetrics)
        # by target: the automations whose newest finished run failed or was lost
        self._failing: dict[str, set[str]] = {}
        served = tuple(targets)
        self._make_occurrence_metrics(served)
        self._make_target_metrics(served)
        self._make_process_metrics()
        self._observers: Mapping[type[Event], Callable[..., None]] = {
            events.OccurrenceConcluded: self._count_conclusion,
            events.AttemptEnded: self._count_attempt,
            events.RunFinished: self._count_run,
            events.EarlierRunSeen: self._note_result,
            events.RunForeign: lambda event: self._foreign.labels(event.target).inc(),
            events.RunDoubled: lambda event: self._doubles.labels(event.target).inc(),
            events.AutomationRemoved: self._forget_automation,
            events.AutomationsDisappeared: lambda event: self._disappearances.labels(event.target).inc(),
            events.SnapshotTaken: lambda event: self._count_poll(
                event, "disagreed" if event.incomplete else "ok"
            ),
            events.SnapshotFailed: lambda event: self._count_poll(event, "error"),
            events.RequestEnded: self._count_request,
            events.ClockJumped: self._count_clock_jump,
            events.LedgerCommitted: lambda event: self._commits.observe(event.seconds),
            events.LedgerFailed: lambda event: self._ledger_errors.labels(event.operation).inc(),
            events.ConfigReloaded: lambda event: self._reloaded.set(event.error is None),
        }

    def observe(self, event: Event) -> None:
        """Count an event."""
        if (observer := self._observers.get(type(event))) is not None:
            observer(event)

    def recall(
        self, target: str, automation_id: str, accepted_at: datetime | None, succeeded_at: datetime | None
    ) -> None:
        """Continue from the instants in the ledger; see `AutomationMetrics`. A newer instant stays."""
        facts = self._facts[target, automation_id]
        facts.accepted_at = _choose_newer(facts.accepted_at, accepted_at)
        facts.succeeded_at = _choose_newer(facts.succeeded_at, succeeded_at)

    def recall_failing(self, target: str, automation_ids: Iterable[str]) -> None:
        """Continue from the automations in the ledger whose newest finished run failed or was lost."""
        self._failing[target] = set(automation_ids)

    def get_automation(self, target: str, automation_id: str) -> AutomationMetrics:
        """Return the facts about an automation, without a value for unknown facts."""
        return self._facts.get((target, automation_id), _NO_METRICS)

    def find_failing(self, target: str) -> Collection[str] | None:
        """Return the ids of the automations whose newest finished run failed or was lost.

        Return None before the ledger was read.
        """
        return self._failing.get(target)

    # ------------------------------------------------------------ the metrics

    def _make_occurrence_metrics(self, targets: Sequence[str]) -> None:
        self._occurrences = self._make_counter(
            "scheduler_occurrences", "Occurrences by outcome", target=(), outcome=(), reason=()
        )
        for target, (outcome, reasons) in product(targets, REASONS.items()):
            for reason in reasons:
                self._occurrences.labels(target, outcome, reason)
        self._lateness = self._make_histogram(
            "scheduler_fire_lateness_seconds",
            "Time from due to the first byte of the attempt that counts",
            _LATENESS_BUCKETS,
            target=targets,
            kind=KINDS,
        )
        self._attempts = self._make_counter(
            "scheduler_attempts", "Attempts by result", target=targets, result=AttemptResult
        )
        self._attempt_durations = self._make_histogram(
            "scheduler_attempt_duration_seconds",
            "Time from the first byte of an attempt to its answer or its end",
            _NETWORK_BUCKETS,
            target=targets,
        )
        self._runs = self._make_counter("scheduler_runs", "Ended runs", target=targets, status=RUN_ENDS)
        self._run_durations = self._make_histogram(
            "scheduler_run_duration_seconds",
            "Time from the beginning of a run to the reading that showed its end",
            _RUN_BUCKETS,
            target=targets,
            status=TIMED_ENDS,
        )
        self._foreign = self._make_counter("scheduler_foreign_runs", "Foreign runs", target=targets)
        text = "Foreign runs that most likely belong to an attempt taken for not started"
        self._doubles = self._make_counter("scheduler_late_doubles", text, target=targets)

    def _make_target_metrics(self, targets: Sequence[str]) -> None:
        text = "Polls: readings of the list of automations"
        self._polls = self._make_counter("scheduler_polls", text, target=targets, result=POLLS)
        self._poll_durations = self._make_histogram(
            "scheduler_poll_duration_seconds", "Duration of a poll", _NETWORK_BUCKETS, target=targets
        )
        text = "Disappearances of more than half of the automations from the list"
        self._disappearances = self._make_counter("scheduler_mass_disappearances", text, target=targets)
        # an alert watches the first 429; other codes are unknown beforehand
        self._requests = self._make_counter(
            "scheduler_target_requests",
            "Requests to the API",
            target=targets,
            endpoint=ENDPOINTS,
            code=(THROTTLED,),
        )
        self._request_durations = self._make_histogram(
            "scheduler_target_request_duration_seconds",
            "Duration of a request",
            _NETWORK_BUCKETS,
            target=targets,
            endpoint=ENDPOINTS,
        )

    def _make_process_metrics(self) -> None:
        text = "Steps of the wall clock, and suspends"
        self._jumps = self._make_counter("scheduler_clock_jumps", text, direction=DIRECTIONS)
        self._commits = self._make_histogram(
            "scheduler_ledger_commit_duration_seconds", "Duration of a commit", _COMMIT_BUCKETS
        )
        text = "Failed writes and reads of the ledger"
        self._ledger_errors = self._make_counter("scheduler_ledger_errors", text, operation=OPERATIONS)
        self._reloaded = Gauge(
            "scheduler_config_last_reload_successful",
            "1: the last reading of the configuration succeeded; 0: it failed",
            registry=self.registry,
        )
        self._reloaded.set(1)

    def _make_counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        """Make a counter with a series for each combination of the labels' known values."""
        return _create_series(Counter(name, text, labels, registry=self.registry), labels)

    def _make_histogram(
        self, name: str, text: str, buckets: tuple[float, ...], **labels: Iterable[str]
    ) -> Histogram:
        """Make a histogram with a series for each combination of the labels' known values."""
        histogram = Histogram(name, text, labels, buckets=buckets, registry=self.registry)
        return _create_series(histogram, labels)

    # ------------------------------------------------------------ the events

    def _count_conclusion(self, event: events.OccurrenceConcluded) -> None:
        target = event.occurrence.target
        self._occurrences.labels(target, event.outcome, event.reason).inc(event.count)
        if event.lateness is not None and event.kind is not None:
            self._lateness.labels(target, event.kind).observe(event.lateness)
        if event.outcome is Outcome.ACCEPTED:
            self._facts[target, event.occurrence.automation_id].accepted_at = self._now()

    def _count_attempt(self, event: events.AttemptEnded) -> None:
        target = event.occurrence.target
        self._attempts.labels(target, event.result).inc()
        self._attempt_durations.labels(target).observe(event.seconds)

    def _count_run(self, event: events.RunFinished) -> None:
        self._runs.labels(event.target, event.status).inc()
        if event.gone:
            return
        facts = self._facts[event.target, event.automation_id]
        facts.runs[event.status] += 1
        if event.duration is not None:
            self._run_durations.labels(event.target, event.status).observe(event.duration)
            facts.duration = event.duration
        if event.status is RunStatus.SUCCESS:
            facts.succeeded_at = self._now()
        self._note_result(event)

    def _note_result(self, event: events.RunFinished | events.EarlierRunSeen) -> None:
        failing = self._failing.get(event.target, set())
        if event.status in FAILURES:
            failing.add(event.automation_id)
        elif event.status is RunStatus.SUCCESS:
            failing.discard(event.automation_id)

    def _forget_automation(self, event: events.AutomationRemoved) -> None:
        self._facts.pop((event.target, event.automation_id), None)
        self._failing.get(event.target, set()).discard(event.automation_id)

    def _count_poll(self, event: events.SnapshotTaken | events.SnapshotFailed, result: str) -> None:
        self._polls.labels(event.target, result).inc()
        self._poll_durations.labels(event.target).observe(event.seconds)

    def _count_request(self, event: events.RequestEnded) -> None:
        self._requests.labels(event.target, event.endpoint, _limit_code(event.code)).inc()
        self._request_durations.labels(event.target, event.endpoint).observe(event.seconds)

    def _count_clock_jump(self, event: events.ClockJumped) -> None:
        direction = "forward" if event.seconds > 0 else "backward"
        self._jumps.labels("suspend" if event.suspended else direction).inc()


def _limit_code(code: str) -> str:
    if code in CODES:
        return code
    return f"{code[0]}xx" if code[:1].isdigit() else "other"


def _create_series(metric: _M, labels: Mapping[str, Iterable[str]]) -> _M:
    """Return the metric with its series at 0. A metric without labels has its only series already."""
    if labels:
        for values in product(*labels.values()):
            metric.labels(*values)
    return metric


def _choose_newer(known: datetime | None, recalled: datetime | None) -> datetime | None:
    return max((instant for instant in (known, recalled) if instant is not None), default=None)
