"""The cancellation of runs of the embedded API by a command.

The command marks the runs in the database, and waits until the server has ended the runs. The module is
separate from the command, which selects the runs.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import find_automation
from scheduler.cli.output import make_progress_printer, print_line
from scheduler.cli.run_lookup import advise_run_list, identify_run, make_embedded_collection
from scheduler.cli.times import now
from scheduler.core.command_line import format_api_command
from scheduler.core.errors import Unreachable
from scheduler.core.quantities import pluralize
from scheduler.core.terminal_text import to_printable
from scheduler.database import Database
from scheduler.localapi.early_ends import count_waiting
from scheduler.localapi.runs import RunQueue

_LOOK_INTERVAL: Final = 0.2  # seconds
CANCEL_TIMEOUT: Final = 20.0
"""Seconds within which a cancelled run must end: the run's command has 10 s to end after the signal."""


async def cancel_runs(database: Database, run_ids: Sequence[str]) -> None:
    """Cancel the runs, and print how each run ended.

    Raises `AnswerIsNo` for unknown runs, after the cancellation of the other runs.
    """
    queue = RunQueue(database, now)
    unknown: list[str] = []
    cancelled: list[str] = []
    for run_id in dict.fromkeys([await identify_run(database, text) for text in run_ids]):
        if await queue.cancel(run_id):
            cancelled.append(run_id)
        elif run := await queue.get_run(run_id):
            print_line(f"has ended already: {run_id}: {run['status']}")
        else:
            unknown.append(f"there is no run {run_id}; {advise_run_list()}")
    await _wait(lambda: queue.count_unfinished_among(cancelled), len(cancelled))
    for run_id in cancelled:
        run = await queue.get_run(run_id)
        assert run is not None
        print_line(f"{run['status']}: {run_id}: {to_printable(run['error'] or '')}")
    if unknown:
        raise AnswerIsNo("; ".join(unknown))


async def cancel_all(database: Database, automation: str | None, *, ask: bool) -> None:
    """Cancel all unfinished runs, or the unfinished runs of an automation, and print the number.

    ``automation`` is an id or a name; None: all automations. With ``ask`` a person must agree first. Raises
    `AnswerIsNo` when no automation matches, or several match.
    """
    queue, automation_id = RunQueue(database, now), None
    if automation is not None:
        automation_id = await database.browse(
            lambda connection: find_automation(make_embedded_collection(connection), automation).id
        )
    if ask and not await _confirm(queue):
        raise AnswerIsNo("nothing was cancelled")
    cancelled = await queue.cancel_all(automation_id)
    total = cancelled.waiting + len(cancelled.running)
    if not total:
        print_line("nothing to cancel: no run waits or is in progress")
        return

    async def count_remaining() -> int:
        waiting = await database.read(count_waiting, automation_id, cancelled.up_to)
        return waiting + await queue.count_unfinished_among(cancelled.running)

    await _wait(count_remaining, total)
    parts = [(cancelled.waiting, "waiting"), (len(cancelled.running), "in progress")]
    counts = ", ".join(f"{count:,} {state}" for count, state in parts if count)
    print_line(f"cancelled {pluralize(total, 'run')}: {counts}")


async def _confirm(queue: RunQueue) -> bool:
    count = await queue.count_unfinished()
    if not count or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    runs = "the 1 run that waits or is" if count == 1 else f"all {count:,} runs that wait or are"
    return click.confirm(f"Cancel {runs} in progress?", err=True)


async def _wait(count_left: Callable[[], Awaitable[int]], total: int) -> None:
    """Wait until all runs have ended. Raises `Unreachable` when no run ends for `CANCEL_TIMEOUT`."""
    clock = asyncio.get_running_loop().time
    show = make_progress_printer("cancelled")
    left, deadline = total, clock() + CANCEL_TIMEOUT
    while (count := await count_left()) > 0:
        if count < left:
            left, deadline = count, clock() + CANCEL_TIMEOUT
        if clock() > deadline:
            show(1.0)
            runs = "1 run has" if count == 1 else f"{count:,} runs have"
            effect = f"takes effect when the embedded API runs: `{format_api_command()}` starts it"
            raise Unreachable(f"{runs} not ended yet. The cancellation stands, and {effect}")
        show(1 - count / total)
        await asyncio.sleep(_LOOK_INTERVAL)
    show(1.0)
