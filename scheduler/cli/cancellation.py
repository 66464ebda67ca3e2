"""Cancelling runs of the embedded API from a command: take note in the database, and wait until the server has ended the runs.

Apart from the command, which says which runs are meant.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import Candidate, refuse_ambiguous
from scheduler.cli.output import line, progress
from scheduler.cli.run_lookup import advise_on, identify_run, see_list, widen_automation
from scheduler.cli.times import now
from scheduler.core.command_line import start_api
from scheduler.core.errors import Unreachable
from scheduler.core.model import InvalidAutomation, canonical_id
from scheduler.core.plural import pluralize
from scheduler.core.printable import escaped
from scheduler.database import Database
from scheduler.localapi.runs import Cancelled, RunQueue

_LOOK_EVERY: Final = 0.2  # seconds
CANCELLED_WITHIN: Final = 20.0
"""Seconds in which a run that is to be cancelled has to end: a command has ten to end when it is told to."""


async def cancel_runs(database: Database, run_ids: Sequence[str]) -> None:
    """Cancel these runs, and print how each ended. Raises `AnswerIsNo` for the runs that are not there, after the others were cancelled."""
    queue = RunQueue(database, now)
    unknown: list[str] = []
    cancelled: list[str] = []
    for run_id in dict.fromkeys([await identify_run(queue, text) for text in run_ids]):
        if await queue.cancel(run_id):
            cancelled.append(run_id)
        elif run := await queue.run(run_id):
            line(f"has ended already: {run_id}: {run['status']}")
        else:
            unknown.append(f"there is no run {run_id}; {see_list()}")
    await _wait(lambda: queue.unfinished(cancelled), len(cancelled))
    for run_id in cancelled:
        run = await queue.run(run_id)
        assert run is not None
        line(f"{run['status']}: {run_id}: {escaped(run['error'] or '')}")
    if unknown:
        raise AnswerIsNo("; ".join(unknown))


async def cancel_all(database: Database, automation: str | None, *, ask: bool) -> None:
    """Cancel all runs that have not ended, of the automation with this id or name, or with None all runs; print how many.

    With ``ask`` a person has to agree first. Raises `AnswerIsNo` when no automation, or more than one, is called so.
    """
    queue = RunQueue(database, now)
    automation_id = None if automation is None else await _identify(queue, automation)
    if ask and not await _confirm(queue):
        raise AnswerIsNo("nothing was cancelled")
    cancelled = await queue.cancel_all(automation_id)
    total = cancelled.waiting + len(cancelled.running)
    if not total:
        line("nothing to cancel: no run waits or is in progress")
        return

    async def count_left() -> int:
        return await queue.waiting(automation_id, cancelled.up_to) + await queue.unfinished(cancelled.running)

    await _wait(count_left, total)
    line(f"cancelled {_describe(cancelled)}")


async def _identify(queue: RunQueue, text: str) -> str:
    with suppress(InvalidAutomation):
        text = canonical_id(text)
    text = await widen_automation(queue, text)
    ids = {found["id"]: found["name"] for found in await queue.named(text)}
    if not ids:
        what = f"no automation is called {text!r}, and no run of a deleted one has not ended"
        raise AnswerIsNo(f"{what}; {await advise_on(queue, text)}")
    if len(ids) > 1:
        raise refuse_ambiguous(text, [Candidate(automation_id, str(name)) for automation_id, name in sorted(ids.items())])
    return str(next(iter(ids)))


async def _confirm(queue: RunQueue) -> bool:
    count = await queue.count_unfinished()
    if not count or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    runs = "the 1 run that waits or is" if count == 1 else f"all {count:,} runs that wait or are"
    return click.confirm(f"Cancel {runs} in progress?", err=True)


async def _wait(count_left: Callable[[], Awaitable[int]], total: int) -> None:
    """Wait until none is left, as long as some end. Raises `Unreachable` when nobody ends them."""
    clock = asyncio.get_running_loop().time
    show = progress("cancelled")
    left, deadline = total, clock() + CANCELLED_WITHIN
    while (count := await count_left()) > 0:
        if count < left:
            left, deadline = count, clock() + CANCELLED_WITHIN
        if clock() > deadline:
            show(1.0)
            runs = "1 run is" if count == 1 else f"{count:,} runs are"
            raise Unreachable(
                f"{runs} to be cancelled, but nobody has done so yet; does the embedded API run? "
                f"The cancellation stands, and takes effect when the embedded API runs: `{start_api()}` starts it"
            )
        show(1 - count / total)
        await asyncio.sleep(_LOOK_EVERY)
    show(1.0)


def _describe(cancelled: Cancelled) -> str:
    parts = [(cancelled.waiting, "waiting"), (len(cancelled.running), "in progress")]
    total = sum(count for count, _ in parts)
    return f"{pluralize(total, 'run')}: " + ", ".join(f"{count:,} {what}" for count, what in parts if count)
