"""The state of the daemon as gauges, read at each scrape, and all metrics as text.

`metrics` receives events; this module reads the state. The module reads on the loop, where no other
thread changes the state. Another thread makes the text: a thousand automations take some ten milliseconds,
and no slow work may delay a due occurrence.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from platform import python_version
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric  # noqa: TID251  shows the metrics of metrics.py
from prometheus_client.exposition import choose_encoder  # noqa: TID251  the same

from scheduler.core.cron.schedule import read_versions
from scheduler.core.model import State
from scheduler.core.status import AUTOMATION_STATES, AutomationStatus, DaemonStatus, TargetStatus
from scheduler.ops.metrics import RUN_ENDS, Metrics
from scheduler.ops.page_worker import PageWorker

MAX_DETAILED: Final = 1_000
"""The largest number of automations for which ``auto`` keeps metrics of each automation."""
_BATCH: Final = 500
"""Automations to read before other tasks run: about a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSources:
    """The sources of the gauges.

    All sources are called on the loop, except ``ledger_size``: it is called on a thread, and returns bytes.
    """

    status: Callable[[], DaemonStatus]
    automations: Callable[[str], Iterable[AutomationStatus]]
    # whether an automation, by target and id, exists, is enabled and is not paused
    is_firing: Callable[[str, str], bool]
    per_automation: bool | Literal["auto"]
    ledger_size: Callable[[], int | None]
    progress: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _GaugeState:
    """The state of the daemon, as read for one scrape."""

    status: DaemonStatus
    automations: Mapping[str, Sequence[AutomationStatus]]
    failing: Mapping[str, Collection[str]]
    progress: datetime


class Exposition:
    """All metrics, as text."""

    def __init__(self, metrics: Metrics, sources: GaugeSources, workbench: PageWorker) -> None:
        self._metrics = metrics
        self._worker = workbench
        self._sources = sources

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text for Prometheus with its Content-Type.

        The format is OpenMetrics when the ``Accept`` header asks for OpenMetrics.
        """
        return await self._worker.run(self._encode, await self._collect_state(), accept)

    async def _collect_state(self) -> _GaugeState:
        sources = self._sources
        status = sources.status()
        shown = status.targets if self._is_per_automation(status) else ()
        automations = {
            target.name: await _collect_statuses(sources.automations(target.name)) for target in shown
        }
        return _GaugeState(status, automations, await self._find_failing(status), sources.progress())

    async def _find_failing(self, status: DaemonStatus) -> Mapping[str, Collection[str]]:
        """Return, by target, the automations that fire and whose newest finished run failed or was lost.

        A target without known runs is left out.
        """
        failing = {target.name: self._metrics.find_failing(target.name) for target in status.targets}
        return {
            name: await self._choose_firing(name, list(automations))
            for name, automations in failing.items()
            if automations is not None
        }

    async def _choose_firing(self, target: str, automations: Sequence[str]) -> Collection[str]:
        """Return the automations that fire. Other tasks run after every batch."""
        firing = set()
        for number, automation_id in enumerate(automations, 1):
            if self._sources.is_firing(target, automation_id):
                firing.add(automation_id)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        return firing

    def _is_per_automation(self, status: DaemonStatus) -> bool:
        if self._sources.per_automation == "auto":
            return sum(sum(target.automations.values()) for target in status.targets) <= MAX_DETAILED
        return self._sources.per_automation

    def _encode(self, state: _GaugeState, accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(_Families(partial(self._make_families, state))), content_type

    def _make_families(self, state: _GaugeState) -> Iterator[Metric]:
        yield from self._metrics.registry.collect()
        yield from _make_process_gauges(state, self._sources.ledger_size())
        yield from _make_target_gauges(state.status.targets)
        yield _make_gauge(
            "scheduler_automations_failing",
            "Automations that fire, with a newest finished run that failed or was lost",
            ("target",),
            [((target,), len(automations)) for target, automations in state.failing.items()],
        )
        yield from _make_automation_gauges(state, self._metrics)


async def _collect_statuses(automations: Iterable[AutomationStatus]) -> Sequence[AutomationStatus]:
    """Return all statuses. Other tasks run after every batch."""
    statuses = []
    for number, automation in enumerate(automations, 1):
        statuses.append(automation)
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    return statuses


@dataclass(frozen=True, slots=True)
class _Families:
    """The metric families in the form of a registry, for the encoders of the library."""

    collect: Callable[[], Iterable[Metric]]


def _make_process_gauges(state: _GaugeState, ledger_size: int | None) -> Iterator[Metric]:
    versions = read_versions()
    built = {
        "version": state.status.version,
        "python": python_version(),
        "croniter": versions.croniter,
        "tzdata": versions.tzdata,
    }
    yield _make_gauge(
        "scheduler_build_info",
        "Versions of the daemon and its parts",
        tuple(built),
        [(tuple(built.values()), 1)],
    )
    yield _make_gauge(
        "scheduler_ready",
        "1: the daemon is ready to fire; 0: a condition is missing",
        (),
        [((), state.status.is_ready)],
    )
    progress = state.progress.timestamp()
    yield _make_gauge(
        "scheduler_loop_progress_timestamp_seconds",
        "Time of the last turn of the event loop",
        (),
        [((), progress)],
    )
    yield _make_gauge("scheduler_ledger_size_bytes", "Size of the ledger's files", (), [((), ledger_size)])


def _make_target_gauges(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    def make_gauge(name: str, text: str, value: Callable[[TargetStatus], float | None]) -> Metric:
        return _make_gauge(name, text, ("target",), [((target.name,), value(target)) for target in targets])

    yield make_gauge(
        "scheduler_attempts_in_flight", "Attempts without an answer so far", lambda target: target.in_flight
    )
    yield make_gauge(
        "scheduler_occurrences_overdue",
        "Occurrences that should have started already",
        lambda target: target.overdue_count,
    )
    yield make_gauge(
        "scheduler_automations_recovering",
        "Automations with undecided occurrences in the past",
        lambda target: 0 if target.recovering is None else target.recovering.automations,
    )
    yield make_gauge(
        "scheduler_next_fire_timestamp_seconds",
        "Time of the next scheduled fire",
        lambda target: _to_unix_time(target.next_fire),
    )
    yield make_gauge(
        "scheduler_snapshot_timestamp_seconds",
        "Time of the newest snapshot of all automations; 0: none yet",
        lambda target: _to_unix_time(target.snapshot_at) or 0,
    )
    yield make_gauge(
        "scheduler_attempts_waiting",
        "Attempts that wait for permission to send",
        lambda target: target.places.waiting,
    )
    yield make_gauge(
        "scheduler_attempts_hanging",
        "Requests without an answer for a second or longer",
        lambda target: target.places.hanging,
    )
    yield make_gauge(
        "scheduler_request_budget_exhausted_timestamp_seconds",
        "Beginning of the time in which the request budget delays occurrences or polls; 0: no delay",
        lambda target: _to_unix_time(target.places.exhausted_since) or 0,
    )
    yield make_gauge(
        "scheduler_target_saturated_timestamp_seconds",
        "Beginning of the time in which as many requests hang as max_waiting allows; 0: fewer hang",
        lambda target: _to_unix_time(target.places.saturated_since) or 0,
    )
    yield make_gauge(
        "scheduler_target_held",
        "1: held, nothing is sent until a person removes the cause; 0: not held",
        lambda target: target.held is not None,
    )
    yield make_gauge(
        "scheduler_target_throttled_until_timestamp_seconds",
        "End of the wait that the API asked for; 0: no wait",
        lambda target: _to_unix_time(target.throttled_until) or 0,
    )
    yield make_gauge(
        "scheduler_clock_offset_seconds",
        "API clock minus local clock",
        lambda target: target.clock_offset,
    )
    yield make_gauge(
        "scheduler_automations_unidentified",
        "Objects in the list with an unreadable id",
        lambda target: target.unidentified,
    )
    yield make_gauge(
        "scheduler_automations_absent",
        "Automations that the list lacks and that are not removed yet",
        lambda target: target.absent,
    )
    yield _make_gauge(
        "scheduler_occurrences_open",
        "Claimed occurrences without an outcome",
        ("target", "state"),
        [((target.name, state), target.open.get(state, 0)) for target in targets for state in State],
    )
    yield _make_gauge(
        "scheduler_automations",
        "Automations by their state",
        ("target", "state"),
        [
            ((target.name, state), target.automations.get(state, 0))
            for target in targets
            for state in AUTOMATION_STATES
        ],
    )


def _make_automation_gauges(state: _GaugeState, metrics: Metrics) -> Iterator[Metric]:
    every = [(target, automation) for target, group in state.automations.items() for automation in group]

    def make_gauge(name: str, text: str, value: Callable[[str, AutomationStatus], float | None]) -> Metric:
        labels = ("target", "automation")
        return _make_gauge(
            name,
            text,
            labels,
            [((target, automation.automation_id), value(target, automation)) for target, automation in every],
        )

    yield _make_gauge(
        "scheduler_automation_info",
        "Name and schedule of an automation",
        ("target", "automation", "name", "cron", "timezone"),
        [
            (
                (
                    target,
                    automation.automation_id,
                    automation.name,
                    automation.cron_expression,
                    automation.timezone,
                ),
                1,
            )
            for target, automation in every
        ],
    )
    yield make_gauge(
        "scheduler_automation_next_fire_timestamp_seconds",
        "Time of the next scheduled fire of the automation",
        lambda _, automation: _to_unix_time(automation.next_fire),
    )
    yield make_gauge(
        "scheduler_automation_last_accepted_timestamp_seconds",
        "Time of the last accepted occurrence of the automation",
        lambda target, automation: metrics.get_last_accepted(target, automation.automation_id),
    )
    yield make_gauge(
        "scheduler_automation_last_success_timestamp_seconds",
        "Time at which the newest successful run was seen",
        lambda target, automation: metrics.get_last_success(target, automation.automation_id),
    )
    yield make_gauge(
        "scheduler_automation_last_run_duration_seconds",
        "Duration of the newest run with a known end",
        lambda target, automation: metrics.get_last_duration(target, automation.automation_id),
    )
    yield make_gauge(
        "scheduler_automation_failing",
        "1: the automation fires and its newest finished run failed or was lost; 0: otherwise",
        lambda target, automation: (
            automation.automation_id in state.failing[target] if target in state.failing else None
        ),
    )
    runs = CounterMetricFamily(
        "scheduler_automation_runs",
        "Ended runs of an automation",
        labels=("target", "automation", "status"),
    )
    for target, automation in every:
        for status in RUN_ENDS:
            runs.add_metric(
                (target, automation.automation_id, status),
                metrics.count_runs(target, automation.automation_id, status),
            )
    yield runs


def _make_gauge(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float | None]]
) -> Metric:
    """Return a gauge with these values. A value of None has no sample, since no number would be true."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _to_unix_time(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()
