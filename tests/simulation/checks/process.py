"""The daemon itself: it raises nothing, ends when it is told to and not before, and leaves nothing open for
ever.
"""

from collections.abc import Iterator
from datetime import timedelta

from scheduler.core.events import DaemonStarted, DaemonStopping, DeliveryFailed
from tests.simulation.evidence import Check, Evidence
from tests.simulation.violation import Violation
from tests.simulation.world import Looked

_RECENT = timedelta(seconds=400)
_SHOWN_AFTER = timedelta(seconds=20)
"""A standstill shows after fifteen seconds, and claims are made a second ahead."""
_RECOVERY = timedelta(seconds=150)
"""The longest hold of a target, or back-off, and what follows it."""


def no_fault_of_ours(evidence: Evidence) -> Check:
    """No process ends by an exception, and none has to survive one."""
    world = evidence.world
    stopped = {told.process for told in world.events if isinstance(told.event, DaemonStopping)}
    for process in world.processes:
        if process.fault is not None:
            yield Violation("fault", f"process {process.number} ended by {process.fault!r}")
        elif not process.alive and not process.killed and process.number not in stopped:
            yield Violation("fault", f"process {process.number} ended, and nobody had told it to")
    for told in world.events:
        if isinstance(told.event, DeliveryFailed):
            yield Violation(
                "fault",
                f"{told.event.error!r}",
                told.event.occurrence.automation_id,
                told.event.occurrence.scheduled_for,
            )


def everything_settles(evidence: Evidence) -> Check:
    """After the calm nothing is open that came due before its last minutes, and nothing was unknown for
    longer than promised.
    """
    ended = evidence.world.ended
    assert ended is not None
    assert _RECENT.total_seconds() < evidence.world.setting.calm
    for row in evidence.rows:
        if row.outcome is None and row.due < ended - _RECENT:
            yield Violation(
                "open", f"{row.fate} after the calm, {row.attempts}", row.automation_id, row.scheduled_for
            )


def readiness_is_true(evidence: Evidence) -> Check:
    """Whoever asks a process hears that it is ready while all is well, and that it is not while something due
    is not planned.
    """
    for looked in evidence.world.looks:
        is_quiet = all(
            evidence.quiet(target, looked.at - _RECOVERY, looked.at) for target in evidence.world.links
        )
        if looked.problems and is_quiet:
            yield Violation("readiness", f"not ready at {looked.at}: {looked.problems}, and nothing is wrong")
        if not looked.problems:
            for automation_id in _find_unplanned(evidence, looked):
                yield Violation(
                    "readiness", f"ready at {looked.at}, and something due is not planned", automation_id
                )


def _find_unplanned(evidence: Evidence, looked: Looked) -> Iterator[str]:
    """Find the automations of which the process should have planned something, and had not."""
    began = min(
        each.at
        for each in evidence.world.events
        if each.process == looked.process and isinstance(each.event, DaemonStarted)
    )
    for (target, automation_id), versions in evidence.versions.items():
        known = [each for each in versions if each.observed_at <= looked.at - _SHOWN_AFTER]
        decided = looked.decided.get((target, automation_id), began)
        if known and evidence.implied(known[-1].schedule, max(began, decided), looked.at - _SHOWN_AFTER)[0]:
            yield automation_id
