"""The daemon itself: it raises nothing, ends when it is told to and not before, and leaves nothing open for ever."""

from datetime import timedelta

from scheduler.core.events import CarryFailed, DaemonStopping
from tests.simulation.evidence import Check, Evidence
from tests.simulation.violation import Violation

_RECENT = timedelta(seconds=400)


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
        if isinstance(told.event, CarryFailed):
            yield Violation("fault", f"{told.event.error!r}", told.event.occurrence.automation_id, told.event.occurrence.scheduled_for)


def everything_settles(evidence: Evidence) -> Check:
    """After the calm nothing is open that came due before its last minutes, and nothing was unknown for longer than promised."""
    ended = evidence.world.ended
    assert ended is not None
    assert _RECENT.total_seconds() < evidence.world.setting.calm
    for row in evidence.rows:
        if row.outcome is None and row.due < ended - _RECENT:
            yield Violation("open", f"{row.fate} after the calm, {row.attempts}", row.automation_id, row.scheduled_for)
