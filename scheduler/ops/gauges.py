"""The state of the daemon as gauges, read at each scrape, and all metrics as text.

`metrics` receives events; this module reads the state. The module reads on the loop, where no other
thread changes the state. Another thread makes the text: a thousand automations take some ten milliseconds,
and no slow work may delay a due occurrence.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from platform import python_version
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric  # noqa: TID251  shows the metrics of metrics.py
from prometheus_client.exposition import choose_encoder  # noqa: TID251  the same

from scheduler.core.cron.schedule import read_versions
from scheduler.core.model import State
from scheduler.core.status import AUTOMATION_STATES, AutomationDetails, DaemonStatus, TargetStatus
from scheduler.ops.metrics import RUN_ENDS, AutomationMetrics
from scheduler.ops.page_sources import PageSources

_T = TypeVar("_T")

MAX_DETAILED: Final = 1_000
"""The largest number of automations for which ``auto`` keeps metrics of each automation."""
_BATCH: Final = 500
"""Automations to read before other tasks run: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class _AutomationState:
    """An automation with metrics of its own. ``is_failing`` is None while no run of its target is known."""

    details: AutomationDetails
    facts: AutomationMetrics
    is_failing: bool | None


@dataclass(frozen=True, slots=True)
class _Scrape:
    """The state of the daemon, as read for one scrape, in the form of a registry for the library.

    ``failing`` contains, by target, the ids of the automations that fire and whose newest finished run failed
    or was lost. A target without known runs is left out.
    """

    sources: PageSources
    status: DaemonStatus
    last_beat: datetime
    failing: Mapping[str, Collection[str]]
    automations: Sequence[AutomationDetails]

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Called on a thread."""
        yield from self.sources.metrics.registry.collect()
        yield from _make_process_gauges(self.status, self.last_beat, self.sources.ledger_size())
        yield from _make_target_gauges(self.status.targets)
        failing = (((target,), len(automations)) for target, automations in self.failing.items())
        yield _make_family(_FAILING, _FAILING_TEXT, ("target",), failing)
        yield from _make_automation_metrics([self._add_facts(details) for details in self.automations])

    def _add_facts(self, details: AutomationDetails) -> _AutomationState:
        failing = self.failing.get(details.target)
        facts = self.sources.metrics.get_automation(details.target, details.id)
        return _AutomationState(details, facts, None if failing is None else details.id in failing)


async def render_metrics(sources: PageSources, accept: str) -> tuple[bytes, str]:
    """Return all metrics as text for Prometheus, with the Content-Type.

    The format is OpenMetrics when the ``Accept`` header asks for OpenMetrics.
    """
    encode, content_type = choose_encoder(accept)
    return await sources.worker.run(encode, await _collect_state(sources)), content_type


async def _collect_state(sources: PageSources) -> _Scrape:
    status = sources.status()
    automations = [
        automation
        for target in (status.targets if _is_per_automation(sources, status) else ())
        async for automation in _iterate_in_batches(sources.targets()[target.name].iterate_details())
    ]
    failing = {target.name: await _find_failing(sources, target.name) for target in status.targets}
    known = {name: ids for name, ids in failing.items() if ids is not None}
    return _Scrape(sources, status, sources.last_beat(), known, automations)


async def _find_failing(sources: PageSources, name: str) -> Collection[str] | None:
    """Return the ids of the failing automations that fire, or None without known runs."""
    failing, target = sources.metrics.find_failing(name), sources.targets()[name]
    if failing is None:
        return None
    details = (target.find_details(automation_id) for automation_id in list(failing))
    return {each.id async for each in _iterate_in_batches(details) if each and each.state == "enabled"}


def _is_per_automation(sources: PageSources, status: DaemonStatus) -> bool:
    if sources.per_automation == "auto":
        return sum(sum(target.automations.values()) for target in status.targets) <= MAX_DETAILED
    return sources.per_automation


async def _iterate_in_batches(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield all items. Other tasks run after every batch."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _BATCH == 0:
            await asyncio.sleep(0)


# ------------------------------------------------------------ the gauges


@dataclass(frozen=True, slots=True)
class _Gauge(Generic[_T]):
    """The help text of a gauge, and the function that reads its value.

    A value of None has no sample, since no number would be true.
    """

    text: str
    read: Callable[[_T], float | datetime | None]


_TARGET_GAUGES: Final[Mapping[str, _Gauge[TargetStatus]]] = {
    "scheduler_attempts_in_flight": _Gauge(
        "Attempts without an answer so far", lambda target: target.in_flight
    ),
    "scheduler_occurrences_overdue": _Gauge(
        "Occurrences that should have started already", lambda target: target.overdue_count
    ),
    "scheduler_automations_recovering": _Gauge(
        "Automations with undecided occurrences in the past",
        lambda target: target.recovering.automations if target.recovering else 0,
    ),
    "scheduler_next_fire_timestamp_seconds": _Gauge(
        "Time of the next scheduled fire", lambda target: target.next_fire
    ),
    "scheduler_snapshot_timestamp_seconds": _Gauge(
        "Time of the newest snapshot of all automations; 0: none yet", lambda target: target.snapshot_at or 0
    ),
    "scheduler_attempts_waiting": _Gauge(
        "Attempts that wait for permission to send", lambda target: target.places.waiting
    ),
    "scheduler_attempts_hanging": _Gauge(
        "Requests without an answer for a second or longer", lambda target: target.places.hanging
    ),
    "scheduler_request_budget_exhausted_timestamp_seconds": _Gauge(
        "Beginning of the time in which the request budget delays occurrences or polls; 0: no delay",
        lambda target: target.places.exhausted_since or 0,
    ),
    "scheduler_target_saturated_timestamp_seconds": _Gauge(
        "Beginning of the time in which as many requests hang as max_waiting allows; 0: fewer hang",
        lambda target: target.places.saturated_since or 0,
    ),
    "scheduler_target_held": _Gauge(
        "1: held, nothing is sent until a person removes the cause; 0: not held",
        lambda target: target.held is not None,
    ),
    "scheduler_target_throttled_until_timestamp_seconds": _Gauge(
        "End of the wait that the API asked for; 0: no wait", lambda target: target.throttled_until or 0
    ),
    "scheduler_clock_offset_seconds": _Gauge(
        "API clock minus local clock", lambda target: target.clock_offset
    ),
    "scheduler_automations_unidentified": _Gauge(
        "Objects in the list with an unreadable id", lambda target: target.unidentified
    ),
    "scheduler_automations_absent": _Gauge(
        "Automations that the list lacks and that are not removed yet", lambda target: target.absent
    ),
}
_AUTOMATION_GAUGES: Final[Mapping[str, _Gauge[_AutomationState]]] = {
    "scheduler_automation_next_fire_timestamp_seconds": _Gauge(
        "Time of the next scheduled fire of the automation", lambda automation: automation.details.next_fire
    ),
    "scheduler_automation_last_accepted_timestamp_seconds": _Gauge(
        "Time of the last accepted occurrence of the automation",
        lambda automation: automation.facts.accepted_at,
    ),
    "scheduler_automation_last_success_timestamp_seconds": _Gauge(
        "Time at which the newest successful run was seen", lambda automation: automation.facts.succeeded_at
    ),
    "scheduler_automation_last_run_duration_seconds": _Gauge(
        "Duration of the newest run with a known end", lambda automation: automation.facts.duration
    ),
    "scheduler_automation_failing": _Gauge(
        "1: the automation fires and its newest finished run failed or was lost; 0: otherwise",
        lambda automation: automation.is_failing,
    ),
}


_FAILING: Final = "scheduler_automations_failing"
_FAILING_TEXT: Final = "Automations that fire, with a newest finished run that failed or was lost"


def _make_gauges(
    gauges: Mapping[str, _Gauge[_T]], labels: Sequence[str], subjects: Mapping[tuple[str, ...], _T]
) -> Iterator[Metric]:
    """Yield each gauge, with a sample for each subject under the values of its labels."""
    for name, gauge in gauges.items():
        samples = ((values, gauge.read(subject)) for values, subject in subjects.items())
        yield _make_family(name, gauge.text, labels, samples)


def _make_family(
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float | datetime | None]],
) -> Metric:
    """Return a gauge with samples, each with the values of its labels. None is no sample."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in samples:
        if value is not None:
            family.add_metric(label_values, value.timestamp() if isinstance(value, datetime) else value)
    return family


def _make_process_gauges(
    status: DaemonStatus, last_beat: datetime, ledger_size: int | None
) -> Iterator[Metric]:
    versions = read_versions()
    built = {
        "version": status.version,
        "python": python_version(),
        "croniter": versions.croniter,
        "tzdata": versions.tzdata,
    }
    text = "Versions of the daemon and its parts"
    yield _make_family("scheduler_build_info", text, list(built), [(list(built.values()), 1)])
    yield GaugeMetricFamily(
        "scheduler_ready",
        "1: the daemon is ready to fire; 0: a condition is missing",
        value=not status.problems,
    )
    yield GaugeMetricFamily(
        "scheduler_loop_progress_timestamp_seconds",
        "Time of the last turn of the event loop",
        value=last_beat.timestamp(),
    )
    yield GaugeMetricFamily("scheduler_ledger_size_bytes", "Size of the ledger's files", value=ledger_size)


def _make_target_gauges(targets: Sequence[TargetStatus]) -> Iterator[Metric]:
    yield from _make_gauges(_TARGET_GAUGES, ("target",), {(target.name,): target for target in targets})
    labels = ("target", "state")
    occurrences = (((target.name, state), target.open.get(state, 0)) for target in targets for state in State)
    text = "Claimed occurrences without an outcome"
    yield _make_family("scheduler_occurrences_open", text, labels, occurrences)
    automations = (
        ((target.name, state), target.automations.get(state, 0))
        for target in targets
        for state in AUTOMATION_STATES
    )
    yield _make_family("scheduler_automations", "Automations by their state", labels, automations)


def _make_automation_metrics(automations: Sequence[_AutomationState]) -> Iterator[Metric]:
    by_labels: Mapping[tuple[str, ...], _AutomationState] = {
        (automation.details.target, automation.details.id): automation for automation in automations
    }
    labels = ("target", "automation")
    info = []
    runs = CounterMetricFamily(
        "scheduler_automation_runs", "Ended runs of an automation", labels=(*labels, "status")
    )
    for key, automation in by_labels.items():
        details = automation.details
        cron_expression = details.automation.definition.cron_expression
        info.append(((*key, details.name, cron_expression, details.timezone), 1))
        for status in RUN_ENDS:
            runs.add_metric((*key, status), automation.facts.runs[status])
    text = "Name and schedule of an automation"
    yield _make_family("scheduler_automation_info", text, (*labels, "name", "cron", "timezone"), info)
    yield from _make_gauges(_AUTOMATION_GAUGES, labels, by_labels)
    yield runs
