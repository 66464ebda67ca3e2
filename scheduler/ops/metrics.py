"""Counters and histograms of events, for Prometheus. `gauges` reads the state of the daemon.

Each counter exists with 0 from the start, for every target and every label value known beforehand. Without
this, an alert on an increase would miss the first event. No label contains a prompt, a repository or an error
text.
"""

from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

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
    *(
        "attempt",
        "claim",
        "conclude",
        "ended",
        "fire",
        "lock",
        "note",
        "observe",
        "open",
        "origin",
        "overdue",
    ),
    *("pauses", "prune", "runs", "state", "throttle", "unsend", "withdraw"),
)
"""The operations of the ledger, as `LedgerFailed` names them."""

_LATENESS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_NETWORK_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RUN_BUCKETS: Final = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

AutomationLabels = tuple[str, str]
"""An automation among all targets: the name of its target, and its id."""


_NO_RUNS: Final[Mapping[RunStatus, int]] = Counts()


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
        self._accepted: dict[AutomationLabels, float] = {}
        self._succeeded: dict[AutomationLabels, float] = {}
        self._run_counts: dict[AutomationLabels, Counts[RunStatus]] = {}
        self._durations: dict[AutomationLabels, float] = {}
        # by target: the automations whose newest finished run failed or was lost
        self._failing: dict[str, set[str]] = {}
        self._per_automation: tuple[dict[AutomationLabels, Any], ...] = (
            self._accepted,
            self._succeeded,
            self._run_counts,
            self._durations,
        )
        self._make_occurrence_metrics()
        self._make_target_metrics()
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
        self.add_targets(targets)

    def observe(self, event: Event) -> None:
        """Count an event."""
        if (observer := self._observers.get(type(event))) is not None:
            observer(event)

    def add_targets(self, targets: Iterable[str]) -> None:
        """Create the series of these targets. New series begin at 0."""
        for target in targets:
            for outcome, reasons in REASONS.items():
                for reason in reasons:
                    self._occurrences.labels(target, outcome, reason)
            _create_series(self._lateness, target, KINDS)
            _create_series(self._attempts, target, AttemptResult)
            _create_series(self._runs, target, RUN_ENDS)
            _create_series(self._run_durations, target, TIMED_ENDS)
            _create_series(self._polls, target, POLLS)
            _create_series(self._request_durations, target, ENDPOINTS)
            for endpoint in ENDPOINTS:
                # an alert watches the first 429; other codes are unknown beforehand
                self._requests.labels(target, endpoint, THROTTLED)
            for metric in (
                self._attempt_durations,
                self._poll_durations,
                self._foreign,
                self._doubles,
                self._disappearances,
            ):
                metric.labels(target)

    def recall(
        self,
        accepted: Mapping[AutomationLabels, datetime],
        succeeded: Mapping[AutomationLabels, datetime],
        failing: Mapping[str, Iterable[str]] = MappingProxyType({}),
    ) -> None:
        """Continue from the facts in the ledger.

        ``accepted`` is the instant at which each automation was last accepted. ``succeeded`` is the instant
        at which the end of each automation's last successful run was seen. ``failing`` contains, for each
        target, the ids of the automations whose newest finished run failed or was lost.
        """
        for kept, known in ((self._accepted, accepted), (self._succeeded, succeeded)):
            kept.update({of: max(at.timestamp(), kept.get(of, 0.0)) for of, at in known.items()})
        self._failing.update({target: set(automations) for target, automations in failing.items()})

    def get_last_accepted(self, target: str, automation_id: str) -> float | None:
        """Return the Unix time of the automation's last acceptance, None if unknown."""
        return self._accepted.get((target, automation_id))

    def get_last_success(self, target: str, automation_id: str) -> float | None:
        """Return the Unix time at which the end of the last successful run was seen, None if unknown."""
        return self._succeeded.get((target, automation_id))

    def find_failing(self, target: str) -> Collection[str] | None:
        """Return the ids of the automations whose newest finished run failed or was lost.

        Return None before the ledger was read.
        """
        return self._failing.get(target)

    def count_runs(self, target: str, automation_id: str, status: RunStatus) -> int:
        """Return the number of the automation's runs with this final status.

        Only runs that ended since the start of this process count.
        """
        return self._run_counts.get((target, automation_id), _NO_RUNS)[status]

    def get_last_duration(self, target: str, automation_id: str) -> float | None:
        """Return the duration in seconds of the automation's newest run whose end this process saw.

        Return None without such a run.
        """
        return self._durations.get((target, automation_id))

    # ------------------------------------------------------------ the metrics

    def _make_occurrence_metrics(self) -> None:
        self._occurrences = self._make_counter(
            "scheduler_occurrences", "Occurrences by outcome", "target", "outcome", "reason"
        )
        self._lateness = self._make_histogram(
            "scheduler_fire_lateness_seconds",
            "Time from due to the first byte of the attempt that counts",
            _LATENESS_BUCKETS,
            "target",
            "kind",
        )
        self._attempts = self._make_counter("scheduler_attempts", "Attempts by result", "target", "result")
        self._attempt_durations = self._make_histogram(
            "scheduler_attempt_duration_seconds",
            "Time from the first byte of an attempt to its answer or its end",
            _NETWORK_BUCKETS,
            "target",
        )
        self._runs = self._make_counter("scheduler_runs", "Ended runs", "target", "status")
        self._run_durations = self._make_histogram(
            "scheduler_run_duration_seconds",
            "Time from the beginning of a run to the reading that showed its end",
            _RUN_BUCKETS,
            "target",
            "status",
        )
        self._foreign = self._make_counter("scheduler_foreign_runs", "Foreign runs", "target")
        self._doubles = self._make_counter(
            "scheduler_late_doubles",
            "Foreign runs that most likely belong to an attempt taken for not started",
            "target",
        )

    def _make_target_metrics(self) -> None:
        self._polls = self._make_counter(
            "scheduler_polls", "Polls: readings of the list of automations", "target", "result"
        )
        self._poll_durations = self._make_histogram(
            "scheduler_poll_duration_seconds", "Duration of a poll", _NETWORK_BUCKETS, "target"
        )
        self._disappearances = self._make_counter(
            "scheduler_mass_disappearances",
            "Disappearances of more than half of the automations from the list",
            "target",
        )
        self._requests = self._make_counter(
            "scheduler_target_requests", "Requests to the API", "target", "endpoint", "code"
        )
        self._request_durations = self._make_histogram(
            "scheduler_target_request_duration_seconds",
            "Duration of a request",
            _NETWORK_BUCKETS,
            "target",
            "endpoint",
        )

    def _make_process_metrics(self) -> None:
        self._jumps = self._make_counter(
            "scheduler_clock_jumps", "Steps of the wall clock, and suspends", "direction"
        )
        for direction in DIRECTIONS:
            self._jumps.labels(direction)
        self._commits = self._make_histogram(
            "scheduler_ledger_commit_duration_seconds", "Duration of a commit", _COMMIT_BUCKETS
        )
        self._ledger_errors = self._make_counter(
            "scheduler_ledger_errors", "Failed writes and reads of the ledger", "operation"
        )
        for operation in OPERATIONS:
            self._ledger_errors.labels(operation)
        self._reloaded = Gauge(
            "scheduler_config_last_reload_successful",
            "1: the last reading of the configuration succeeded; 0: it failed",
            registry=self.registry,
        )
        self._reloaded.set(1)

    def _make_counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _make_histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    # ------------------------------------------------------------ the events

    def _count_conclusion(self, event: events.OccurrenceConcluded) -> None:
        target = event.occurrence.target
        self._occurrences.labels(target, event.outcome, event.reason).inc(event.count)
        if event.lateness is not None and event.kind is not None:
            self._lateness.labels(target, event.kind).observe(event.lateness)
        if event.outcome is Outcome.ACCEPTED:
            self._accepted[target, event.occurrence.automation_id] = self._now().timestamp()

    def _count_attempt(self, event: events.AttemptEnded) -> None:
        target = event.occurrence.target
        self._attempts.labels(target, event.result).inc()
        self._attempt_durations.labels(target).observe(event.seconds)

    def _count_run(self, event: events.RunFinished) -> None:
        automation = event.target, event.automation_id
        self._runs.labels(event.target, event.status).inc()
        if event.gone:
            return
        self._run_counts.setdefault(automation, Counts())[event.status] += 1
        if event.duration is not None:
            self._run_durations.labels(event.target, event.status).observe(event.duration)
            self._durations[automation] = event.duration
        if event.status is RunStatus.SUCCESS:
            self._succeeded[automation] = self._now().timestamp()
        self._note_result(event)

    def _note_result(self, event: events.RunFinished | events.EarlierRunSeen) -> None:
        failing = self._failing.get(event.target, set())
        if event.status in FAILURES:
            failing.add(event.automation_id)
        elif event.status is RunStatus.SUCCESS:
            failing.discard(event.automation_id)

    def _forget_automation(self, event: events.AutomationRemoved) -> None:
        kept: dict[AutomationLabels, object]
        for kept in self._per_automation:
            kept.pop((event.target, event.automation_id), None)
        self._failing.get(event.target, set()).discard(event.automation_id)

    def _count_poll(self, event: events.SnapshotTaken | events.SnapshotFailed, result: str) -> None:
        self._polls.labels(event.target, result).inc()
        self._poll_durations.labels(event.target).observe(event.seconds)

    def _count_request(self, event: events.RequestEnded) -> None:
        self._requests.labels(event.target, event.endpoint, _limit_code(event.code)).inc()
        self._request_durations.labels(event.target, event.endpoint).observe(event.seconds)

    def _count_clock_jump(self, event: events.ClockJumped) -> None:
        self._jumps.labels(
            "suspend" if event.suspended else "forward" if event.seconds > 0 else "backward"
        ).inc()


def _limit_code(code: str) -> str:
    if code in CODES:
        return code
    return f"{code[0]}xx" if code[:1].isdigit() else "other"


def _create_series(metric: Counter | Histogram, target: str, values: Iterable[str]) -> None:
    for value in values:
        metric.labels(target, value)
