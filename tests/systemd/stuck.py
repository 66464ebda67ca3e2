"""The daemon with a planner that can be made to hang: ``python stuck.py FILE ARGUMENT…`` hangs once after
``FILE`` has appeared.

It is carried out on a machine, which has no other module of these tests.
"""

import asyncio
import sys
from pathlib import Path

from scheduler.app import observability
from scheduler.cli import main
from scheduler.daemon.planner import Planner

WHEN = Path(sys.argv.pop(1))
plan = Planner._plan


def is_time() -> bool:
    """Whether it is to hang; once."""
    try:
        WHEN.unlink()
    except FileNotFoundError:
        return False
    return True


async def plan_or_hang(planner: Planner) -> None:
    if is_time():
        await asyncio.Event().wait()
    await plan(planner)


Planner._plan = plan_or_hang  # type: ignore[assignment, method-assign]
observability.STALLED_AFTER = 1.0  # type: ignore[attr-defined]
main()
