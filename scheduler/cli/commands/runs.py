"""``scheduler runs``: what the embedded API has carried out."""

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli.completion_values import complete_automations, complete_runs
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import Group, Source, as_json
from scheduler.cli.growing import GrowingFile
from scheduler.cli.local_times import time_columns
from scheduler.cli.outcome_colours import colour_run
from scheduler.cli.output import (
    Cell,
    Column,
    Json,
    Raw,
    detail_column,
    id_column,
    line,
    name_column,
    print_json,
    show,
    styled,
    text_column,
)
from scheduler.cli.times import at_text, now, usable_zone
from scheduler.core.duration import describe_duration
from scheduler.core.instants import from_text
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    from scheduler.database import Database
    from scheduler.localapi.runs import RunQueue

Run = dict[str, Any]
"""A row of the embedded API's runs."""

_UNFINISHED: Final = frozenset({"queued", "running"})
_LOOK_EVERY: Final = 0.2  # seconds
_BEYOND: Final = 64 * 1024
"""Bytes that an output may have beyond its limit: its end, and a line before that. A command may have written more into the file itself."""


@click.group("runs", cls=Group, section="Automations")
def command() -> None:
    """Show and cancel the runs of the embedded API."""


@command.command(
    "list", examples=["scheduler runs list", "scheduler runs list --status failed", "scheduler runs list --automation 'nightly-*' --json"]
)
@click.option(
    "--automation",
    metavar="NAME",
    help="Only this automation's: a name, an id or its first 4 or more characters, or a pattern such as 'nightly-*'.",
    shell_complete=complete_automations,
)
@click.option("--status", type=click.Choice(("queued", "running", "success", "failed")), help="Only runs with this status.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, at most.")
@as_json
@click.pass_obj
def list_(source: Source, *, automation: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """Print the newest runs, the newest first."""
    from scheduler.cli.api_database import carry_out

    path = source.load().settings.api.database.path
    runs = carry_out(path, partial(_list, automation=automation, status=status, limit=limit))
    show(runs, _columns(runs), _json if as_json else None, empty="no runs")


@command.command("show", examples=["scheduler runs show 3f2b8c1e", "scheduler runs show nightly --follow"])
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option("--follow", is_flag=True, help="Go on printing the output until the run ends.")
@as_json
@click.pass_obj
def show_(source: Source, *, run_id: str, follow: bool, as_json: bool) -> None:
    """Print a run: its status, times, command, exit status and output.

    RUN is an id or the first 4 or more characters of an id. The name of an automation, its id or the first characters of its id
    mean its newest run.

    With --follow the exit status is 1 when the run failed.
    """
    from scheduler.cli.api_database import carry_out

    if follow and as_json:
        raise click.UsageError("--follow prints the output as it comes, --json one object; give one of them")
    api = source.load().settings.api
    most = api.runner.output_limit + _BEYOND
    carry_out(api.database.path, partial(_show, run_id=run_id, folder=api.runs_folder, follow=follow, most=most if as_json else None))


_CANCEL_EXAMPLES: Final = [
    "scheduler runs cancel 3f2b8c1e-6a54-4b0e-8a53-0c1d2e3f4a5b",
    "scheduler runs cancel --automation nightly",
    "scheduler runs cancel --all",
]


@command.command("cancel", examples=_CANCEL_EXAMPLES)
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=complete_runs)
@click.option(
    "--automation",
    metavar="NAME",
    help="All runs of this automation that have not ended: its name, its id or the first 4 or more characters of its id.",
    shell_complete=complete_automations,
)
@click.option("--all", "all_runs", is_flag=True, help="All runs that have not ended.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@click.pass_obj
def cancel(source: Source, *, run_ids: tuple[str, ...], automation: str | None, all_runs: bool, yes: bool) -> None:
    """End runs, or take them out of the queue: they have failed then, and say that they were cancelled.

    RUN is an id or the first 4 or more characters of an id. Of a run that has ended already, says so; the exit status is 0.

    Returns when the runs have ended. A queue of any length is cancelled in small steps, beside the server.
    """
    from scheduler.cli.api_database import carry_out
    from scheduler.cli.cancellation import cancel_all, cancel_runs

    if sum((bool(run_ids), automation is not None, all_runs)) != 1:
        raise click.UsageError("name runs, or an automation with --automation, or give --all")
    path = source.load().settings.api.database.path
    if run_ids:
        carry_out(path, partial(cancel_runs, run_ids=run_ids))
    else:
        carry_out(path, partial(cancel_all, automation=automation, ask=all_runs and not yes))


async def _list(database: "Database", *, automation: str | None, status: str | None, limit: int) -> list[Run]:
    from scheduler.cli.run_lookup import widen_automation

    queue = _queue(database)
    wanted = None if automation is None else await widen_automation(queue, automation)
    return await queue.runs(automation=wanted, status=status, limit=limit)


def _queue(database: "Database") -> "RunQueue":
    from scheduler.localapi.runs import RunQueue

    return RunQueue(database, now)


async def _show(database: "Database", *, run_id: str, folder: Path, follow: bool, most: int | None) -> None:
    """``most`` is None for a person, else how many bytes of the output are put into the JSON object."""
    from scheduler.cli.run_lookup import identify_run
    from scheduler.localapi.workspace import Workspace

    run = await _found(database, await identify_run(_queue(database), run_id, by_name=True))
    output = GrowingFile(Workspace.of(folder, run["id"]).output)
    if most is not None:
        text = output.head(most).decode(errors="replace")
        print_json({**_json(run), "prompt": run["prompt"], "output": text})
        return
    for each in _sheet(run):
        line(each)
    if run["command"]:
        line(f"command     {escaped(shlex.join(run['command']))}", is_whole=True)
    if run["error"]:
        line(f"error       {escaped(run['error'])}")
    line()
    raw = Raw()
    if follow:
        run = await _follow(database, run, output, raw)
    raw.print(output.rest())
    if follow and run["status"] == "failed":
        raise AnswerIsNo(f"the run failed: {run['error'] or _exit_text(run)}")


async def _follow(database: "Database", run: Run, output: GrowingFile, raw: Raw) -> Run:
    """Print the output of a run as it comes, until the run has ended. Return the ended run; its last output is left to print."""
    import asyncio

    while run["status"] in _UNFINISHED:
        raw.print(output.rest())
        await asyncio.sleep(_LOOK_EVERY)
        run = await _found(database, run["id"])
    return run


async def _found(database: "Database", run_id: str) -> Run:
    from scheduler.cli.run_lookup import see_list

    run = await _queue(database).run(run_id)
    if run is None:
        raise AnswerIsNo(f"there is no run {run_id}; {see_list()}")
    return run


def _json(run: Run) -> Json:
    return {name: value for name, value in run.items() if name != "prompt"}


def _sheet(run: Run) -> Iterator[str]:
    """A run for people, one line for each thing there is to say."""
    yield f"run         {run['id']}"
    yield f"automation  {escaped(run['name'])} ({run['automation_id']})"
    yield f"repository  {escaped(run['repository'])}"
    yield f"status      {styled(run['status'], colour_run(run['status']))}{_exit_text(run)}"
    for event in ("created", "started", "cancelled", "finished"):
        if run[f"{event}_at"]:
            yield f"{event:<12}{at_text(from_text(run[f'{event}_at']), usable_zone(run['timezone']), with_seconds=True)}"
    if took := _took(run):
        yield f"took        {took}"


def _exit_text(run: Run) -> str:
    status = run["exit_status"]
    if status is None:
        return ""
    return f", ended by signal {-status}" if status < 0 else f", exit status {status}"


def _took(run: Run) -> str:
    if not run["started_at"] or not run["finished_at"]:
        return ""
    return describe_duration((from_text(run["finished_at"]) - from_text(run["started_at"])).total_seconds())


def _columns(runs: Sequence[Run]) -> list[Column[Run]]:
    return [
        id_column("run", lambda run: run["id"]),
        name_column("automation", lambda run: run["name"]),
        Column("status", lambda run: Cell(run["status"], colour_run(run["status"]))),
        *time_columns(runs, "created", lambda run: from_text(run["created_at"]), lambda run: run["timezone"]),
        detail_column("took", _took, rank=6),
        Column("exit", lambda run: "" if run["exit_status"] is None else str(run["exit_status"])),
        text_column("error", lambda run: run["error"] or ""),
    ]
