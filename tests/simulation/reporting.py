"""What is printed: the trace of a failing seed, and the summary of many."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime, timedelta

from scheduler.core.events import (
    AutomationAdded,
    AutomationChanged,
    AutomationRemoved,
    ClockJumped,
    DaemonStarted,
    DaemonStopped,
    OccurrenceConcluded,
    RunDoubled,
    RunForeign,
    TargetHeld,
    TargetReleased,
)
from tests.simulation.api import Shape
from tests.simulation.evidence import Evidence
from tests.simulation.judging import Judged
from tests.simulation.script import Script
from tests.simulation.violation import Violation
from tests.simulation.world import Told, World

_TOLD = (DaemonStarted, DaemonStopped, ClockJumped, TargetHeld, TargetReleased)
_OF_AUTOMATION = (AutomationAdded, AutomationChanged, AutomationRemoved, RunForeign, RunDoubled)


def replay(seed: int) -> str:
    """The command that plays a seed again."""
    return f"python -m tests.simulation {seed}"


def trace(script: Script, world: World | None, found: Sequence[Violation]) -> Iterator[str]:
    """What is left of a script, and what was seen of the first occurrence in question."""
    setting = script.setting
    yield (
        f"seed {script.seed}, from {setting.begin:%Y-%m-%d %H:%M:%SZ}, {setting.span / 60:.0f} min, "
        f"schedule {dict(setting.schedule)}"
    )
    for plan in setting.targets:
        yield f"  {plan}"
    for number, automation in enumerate(setting.automations):
        yield (
            f"  automation {number}: {automation.expression!r} in {automation.timezone}, "
            f"{dict(setting.policies.get(number, {}))}"
        )
    for action in script.actions:
        at = setting.begin + timedelta(seconds=action.at)
        says = ", ".join(
            f"{each.name}={getattr(action, each.name)}"
            for each in fields(action)
            if each.name not in {"at", "policies"}
        )
        yield f"  {at:%d %H:%M:%S.%f} {type(action).__name__}: {says}"
    for violation in found[:5]:
        yield f"VIOLATED {violation}"
    if world is not None and found and found[0].automation_id is not None:
        yield from _seen(Evidence(world), found[0])


def _seen(evidence: Evidence, violation: Violation) -> Iterator[str]:
    """All that touches the automation, in the order of the true clock, around the instant if there is one."""
    about, lines = violation.scheduled_for, list(_lines(evidence, violation.automation_id or ""))
    near = timedelta(minutes=20)
    yield "what was seen of it:"
    for at, line in sorted(lines, key=lambda each: each[0]):
        if about is None or abs(at - about) < near:
            yield f"  {at:%d %H:%M:%S.%f} {line}"


def _lines(evidence: Evidence, automation_id: str) -> Iterator[tuple[datetime, str]]:
    for lines in (_ledger_lines, _api_lines, _process_lines):
        yield from lines(evidence, automation_id)


def _ledger_lines(evidence: Evidence, automation_id: str) -> Iterator[tuple[datetime, str]]:
    for row in evidence.rows:
        if row.automation_id == automation_id:
            attempts = [(each.number, _clock(each.written_at), each.result) for each in row.attempts]
            span = f"row {row.scheduled_for:%H:%M:%S}..{row.last:%H:%M:%S} ({row.count})"
            yield (
                row.scheduled_for,
                f"{span} {row.fate} run {row.run_id} due {row.due:%H:%M:%S} attempts {attempts}",
            )
    for (_, of), versions in evidence.versions.items():
        for version in versions if of == automation_id else ():
            yield (
                version.observed_at,
                f"version {version.schedule} in force from {version.effective_from:%d %H:%M:%S.%f}",
            )


def _api_lines(evidence: Evidence, automation_id: str) -> Iterator[tuple[datetime, str]]:
    for link in evidence.world.links.values():
        for sent in (each for each in link.sent if each.automation_id == automation_id):
            came = (
                f"{sent.fault}, arrived {_clock(sent.arrived)}, HTTP {sent.status}, "
                f"ended {_clock(sent.ended)}"
            )
            yield sent.at, f"process {sent.process} sent {sent.key[:8]}, {came}"
        for run in (each for each in link.api.runs if each.automation_id == automation_id):
            yield run.at, f"run {run.id} for {run.key[:8] or 'nobody'}"
        for shape in link.api.shapes.get(automation_id, ()):
            yield shape.at, f"the API has {_shape(shape)}"


def _process_lines(evidence: Evidence, automation_id: str) -> Iterator[tuple[datetime, str]]:
    for process in evidence.world.processes:
        yield process.began, f"process {process.number} begins"
        if process.ended_at is not None:
            yield process.ended_at, f"process {process.number} {'was killed' if process.killed else 'ended'}"
    for told in evidence.world.events:
        if isinstance(told.event, _TOLD) or _is_of(told, automation_id):
            yield told.at, f"process {told.process} tells {_told(told)}"


def _clock(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%H:%M:%S.%f}"


def _shape(shape: Shape) -> str:
    document = shape.document
    if document is None:
        return "nothing"
    return (
        f"{shape.fires}, name {document['name']!r}, "
        f"run {document['last_task_run_id']} {document['last_run_status']}"
    )


def _told(told: Told) -> str:
    event = told.event
    shown = {
        each.name: getattr(event, each.name)
        for each in fields(event)
        if each.name not in {"occurrence", "automation_id", "target"}
    }
    if isinstance(event, OccurrenceConcluded):
        shown["scheduled_for"] = f"{event.occurrence.scheduled_for:%H:%M:%S}"
    return f"{type(event).__name__} " + ", ".join(
        f"{name}={value}" for name, value in shown.items() if value is not None
    )


def _is_of(told: Told, automation_id: str) -> bool:
    event = told.event
    if isinstance(event, OccurrenceConcluded):
        return event.occurrence.automation_id == automation_id
    return isinstance(event, _OF_AUTOMATION) and event.automation_id == automation_id


def describe_story(name: str, judged: Judged, seconds: float) -> Iterator[str]:
    """Describe what came of one story: its figures, and the first violation of each rule."""
    outcomes = ", ".join(f"{count} {what}" for what, count in judged.outcomes.most_common())
    yield f"{name}: {judged.occurrences} occurrences in {seconds:.0f} s: {outcomes}"
    polls = [judged.polls[hour] for hour in range(max(judged.polls, default=-1) + 1)]
    yield f"  readings of the list in each hour: {polls[:12]}"
    rules = Counter(text.partition(":")[0] for _, text in judged.violations)
    for rule, count in rules.items():
        first = next(text for _, text in judged.violations if text.startswith(f"{rule}:"))
        yield f"  VIOLATED {count} times: {first[:300]}"


def summary(judged: Judged, seconds: float) -> Iterator[str]:
    """The figures of many seeds."""
    yield (
        f"{judged.seeds} seeds, {judged.occurrences} occurrences, {judged.runs} runs, "
        f"{judged.seconds / 86400:.0f} days of virtual time"
    )
    rate, speed = judged.occurrences / max(seconds, 0.001), judged.seconds / max(seconds, 0.001)
    yield f"{seconds:.0f} s, {rate:.0f} occurrences/s, {speed:.0f} times as fast as time"
    for title, counted in (("what became of them", judged.outcomes), ("what happened", judged.kinds)):
        yield f"{title}:"
        yield from (
            f"  {count:8} {what}" for what, count in sorted(counted.items(), key=lambda each: -each[1])
        )
    seeds = sorted({seed for seed, _ in judged.violations})
    yield f"violations: {len(judged.violations)}, in {len(seeds)} seeds"
    for seed in seeds[:30]:
        first = next(text for each, text in judged.violations if each == seed)
        yield f"  {replay(seed)}    # {first[:300]}"
