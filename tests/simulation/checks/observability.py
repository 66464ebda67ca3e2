"""What is told agrees with what is so: events, metrics, log lines and history against the ledger.

A kill between a commit and its event takes that event away, and nothing else does.
"""

from collections import Counter
from collections.abc import Set as AbstractSet

from scheduler.core.events import (
    AttemptEnded,
    Event,
    OccurrenceConcluded,
    RunDoubled,
    RunFinished,
    RunForeign,
)
from scheduler.core.model import Outcome
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.ledger import history
from scheduler.ops.metrics import Metrics
from tests.simulation.evidence import Check, Evidence, Row
from tests.simulation.violation import Violation

_AT_ONCE, _FEW = 3, 10
"""Outcomes in one write, unless there are more automations than a few: then a write may hold one of each."""
_ERRORS = {
    "occurrence.unresolved",
    "occurrence.overdue",
    "run.doubled",
    "run.foreign",
    "target.held",
    "ledger.failed",
}
"""What is an error in a log without being a fault of ours."""


def events_agree_with_the_ledger(evidence: Evidence) -> Check:
    """Each outcome was told once, and nothing was told that is not so."""
    rows = {
        (row.occurrence, row.outcome, row.reason): row for row in evidence.rows if row.outcome is not None
    }
    told = Counter(
        (each.event.occurrence, each.event.outcome, each.event.reason)
        for each in evidence.world.events
        if isinstance(each.event, OccurrenceConcluded)
    )
    if not evidence.was_set_back:
        for what, times in told.items():
            if times > 1:
                yield Violation(
                    "told",
                    f"{times} times: {what[1]}: {what[2]}",
                    what[0].automation_id,
                    what[0].scheduled_for,
                )
            if what not in rows:
                yield Violation(
                    "told",
                    f"{what[1]}: {what[2]}, and the ledger says otherwise",
                    what[0].automation_id,
                    what[0].scheduled_for,
                )
    untold = [row for what, row in rows.items() if what not in told and not _was_divided(evidence, row)]
    many = len(evidence.world.setting.automations)
    if len(untold) > evidence.file.unheard * (_AT_ONCE if many <= _FEW else many):
        yield Violation(
            "untold",
            f"{len(untold)} outcomes, and {evidence.file.unheard} writes were unheard of: {untold[:3]}",
        )


def _was_divided(evidence: Evidence, row: Row) -> bool:
    """Whether it was told as part of a span, which what an edit implied within it has divided since."""
    of_it = [
        each
        for each in evidence.rows_of[row.target, row.automation_id]
        if (each.outcome, each.reason) == (row.outcome, row.reason)
    ]
    return any(
        each.scheduled_for < row.scheduled_for and told.event.count > each.count
        for each in of_it
        for told in evidence.conclusions.get(each.occurrence, [])
        if isinstance(told.event, OccurrenceConcluded)
        and (told.event.outcome, told.event.reason) == (row.outcome, row.reason)
    )


def metrics_agree_with_the_events(evidence: Evidence) -> Check:
    """What a life counted is what it told."""
    for process in evidence.world.processes:
        if process.metrics is not None:
            told = Counter[tuple[str, ...]]()
            for each in evidence.world.events:
                if each.process == process.number and (series := _series(each.event)) is not None:
                    told[series] += each.event.count if isinstance(each.event, OccurrenceConcluded) else 1
            counted = _counted(process.metrics, {name for name, *_ in told} | {"scheduler_occurrences_total"})
            if counted != told:
                yield Violation(
                    "metrics",
                    f"process {process.number} counted {counted - told} too many, "
                    f"and {told - counted} too few",
                )


def _series(event: Event) -> tuple[str, ...] | None:
    """The counter that an event belongs to, with its labels in their order."""
    match event:
        case OccurrenceConcluded():
            return "scheduler_occurrences_total", event.occurrence.target, event.outcome, event.reason
        case AttemptEnded():
            return "scheduler_attempts_total", event.occurrence.target, event.result
        case RunFinished():
            return "scheduler_runs_total", event.target, event.status
        case RunForeign():
            return "scheduler_foreign_runs_total", event.target
        case RunDoubled():
            return "scheduler_late_doubles_total", event.target
    return None


def _counted(metrics: Metrics, names: AbstractSet[str]) -> Counter[tuple[str, ...]]:
    samples = (
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in names and sample.value
    )
    return Counter({(sample.name, *sample.labels.values()): int(sample.value) for sample in samples})


def the_log_agrees_with_the_events(evidence: Evidence) -> Check:
    """One line for each outcome, and no error that is nobody's."""
    if not evidence.world.narrates:
        return
    for process in evidence.world.processes:
        lines = Counter(
            name for _, name, _ in process.lines if name.removeprefix("occurrence.") in set(Outcome)
        )
        told = Counter(
            f"occurrence.{each.event.outcome}"
            for each in evidence.world.events
            if each.process == process.number and isinstance(each.event, OccurrenceConcluded)
        )
        if lines != told:
            yield Violation("log", f"process {process.number} logged {lines}, told {told}")
        for level, name, keys in process.lines:
            if level == "error" and name not in _ERRORS:
                yield Violation("log", f"{name}: {keys}")


def history_agrees_with_the_ledger(evidence: Evidence) -> Check:
    """A line for each row; and the end of a run is the one that it had."""
    lines = evidence.file.read(
        lambda connection: history.read_occurrences(connection, OccurrenceQuery(limit=1_000_000))
    )
    if len(lines) != len(evidence.rows) or sum(int(line["count"] or 0) for line in lines) != sum(
        row.count for row in evidence.rows
    ):
        yield Violation("history", f"{len(lines)} lines, and {len(evidence.rows)} rows")
    for line in lines:
        if line["run_status"] in {"success", "failed"}:
            run = evidence.runs.get((str(line["target"]), str(line["task_run_id"])))
            right = "failed" if run is not None and run.number % 5 == 0 else "success"
            if run is None or line["run_status"] != right:
                yield Violation(
                    "history", f"run {line['task_run_id']} {line['run_status']}, and it was {right}"
                )
