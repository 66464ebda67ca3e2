"""``scheduler runs``: the runs of the embedded API."""

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli.completion_values import complete_automations, complete_runs
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import AUTOMATION_FORMS, SchedulerGroup, Source, as_json
from scheduler.cli.options import filter_by_automation, make_number_option
from scheduler.cli.output import (
    Column,
    Json,
    RawPrinter,
    print_json,
    print_line,
    print_lines,
    print_to_stderr,
    show,
    style,
)
from scheduler.cli.record_columns import colour_run, make_run_cell, make_time_columns
from scheduler.cli.tail import GrowingFile
from scheduler.cli.times import format_zone_and_utc, now
from scheduler.core.instants import from_text
from scheduler.core.quantities import describe_duration
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.database import Database
    from scheduler.localapi.runner.workspace import Workspace
    from scheduler.settings.models import ApiSettings

ApiRunRow = dict[str, Any]
"""A row of the embedded API's runs."""

_UNFINISHED: Final = frozenset({"queued", "running"})
_LOOK_INTERVAL: Final = 0.2  # seconds
_OUTPUT_SLACK: Final = 64 * 1024
"""Bytes that an output may have beyond its limit: its end, and the line before. A command may write more into
the file itself.
"""


@click.group("runs", cls=SchedulerGroup, section="Automations")
def command() -> None:
    """Show and cancel runs of the embedded API."""


@command.command(
    "list",
    examples=[
        "scheduler runs list",
        "scheduler runs list --status failed",
        "scheduler runs list --automation 'nightly-*' --json",
    ],
)
@filter_by_automation
@click.option(
    "--status",
    type=click.Choice(("queued", "running", "success", "failed")),
    help="Only runs with this status.",
)
@make_number_option("--limit", 20, 100_000, "Print at most this number of runs, the newest.")
@as_json
@click.pass_obj
def list_(source: Source, *, automation: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """Print the runs, newest first."""
    from scheduler.cli.api_database import carry_out

    path = source.load().settings.api.database.path
    runs = carry_out(path, partial(_list_runs, automation=automation, status=status, limit=limit))
    show(runs, _make_columns(runs), _make_json if as_json else None, empty="no runs")


@command.command("show", examples=["scheduler runs show 3f2b8c1e", "scheduler runs show nightly --follow"])
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@click.option("--follow", is_flag=True, help="Print the output as it comes, until the run ends.")
@as_json
@click.pass_obj
def show_(source: Source, *, run_id: str, follow: bool, as_json: bool) -> None:
    """Print a run: its status, times, command, exit status and output.

    RUN is an id or the first 4 or more characters of an id. An automation (its name, its id or the first
    characters of its id) stands for its newest run.

    With --follow, exit status 1: the run failed.
    """
    from scheduler.cli.api_database import carry_out

    if follow and as_json:
        raise click.UsageError("--follow and --json exclude each other; give one of them")
    api = source.load().settings.api
    carry_out(api.database.path, partial(_show, run_id=run_id, api=api, follow=follow, as_json=as_json))


@command.command(
    "cancel",
    examples=[
        "scheduler runs cancel 3f2b8c1e-6a54-4b0e-8a53-0c1d2e3f4a5b",
        "scheduler runs cancel --automation nightly",
        "scheduler runs cancel --all",
    ],
)
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=complete_runs)
@click.option(
    "--automation",
    metavar="NAME",
    help=f"All runs of this automation that have not ended: {AUTOMATION_FORMS}.",
    shell_complete=complete_automations,
)
@click.option("--all", "all_runs", is_flag=True, help="All runs that have not ended.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@click.pass_obj
def cancel(
    source: Source, *, run_ids: tuple[str, ...], automation: str | None, all_runs: bool, yes: bool
) -> None:
    """Cancel runs: end them, or take them out of the queue.

    A cancelled run has failed, and its error says that it was cancelled. RUN is an id or the first 4 or more
    characters of an id. If a run has ended already, the command says so, and the exit status is 0.

    The command returns when the runs have ended. It cancels a long queue in small steps, while the server
    works.
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


async def _list_runs(
    database: "Database", *, automation: str | None, status: str | None, limit: int
) -> list[ApiRunRow]:
    from scheduler.cli.lookup import expand_prefix
    from scheduler.cli.run_lookup import make_embedded_collection
    from scheduler.localapi.runs import RunQueue

    if automation is not None:
        text = automation
        automation = await database.browse(
            lambda connection: expand_prefix(make_embedded_collection(connection), text)
        )
    return await RunQueue(database, now).list_runs(automation=automation, status=status, limit=limit)


async def _show(
    database: "Database", *, run_id: str, api: "ApiSettings", follow: bool, as_json: bool
) -> None:
    from scheduler.cli.run_lookup import identify_run
    from scheduler.localapi.runner.workspace import Workspace

    run = await _find_run(database, await identify_run(database, run_id, by_name=True))
    workspace = Workspace(api.runs_folder / run["id"])
    output = GrowingFile(workspace.output)
    if as_json:
        text = output.read_head(api.runner.output_limit + _OUTPUT_SLACK).decode(errors="replace")
        print_json({**_make_json(run), "prompt": run["prompt"], "output": text})
        _complain_of_lacking(run, workspace)
        return
    print_lines(_format_run(run))
    if run["command"]:
        print_line(f"command     {to_printable(shlex.join(run['command']))}", is_whole=True)
    if run["error"]:
        print_line(f"error       {to_printable(run['error'])}")
    print_line()
    raw = RawPrinter()
    if follow:
        run = await _follow(database, run, output, raw)
    raw.print(output.read_rest())
    _complain_of_lacking(run, workspace)
    if follow and run["status"] == "failed":
        raise AnswerIsNo(f"the run failed: {run['error'] or _format_exit(run)}")


def _complain_of_lacking(run: ApiRunRow, workspace: "Workspace") -> None:
    """Print on standard error that the output of an ended run is gone.

    An empty output would look like a silent agent.
    """
    if run["started_at"] and run["finished_at"] and not workspace.folder.exists():
        print_to_stderr(
            f"the output is gone: there is no folder {to_printable(str(workspace.folder))}. "
            "[api.runner] retention removes old outputs. A backup has no outputs: copy the folder "
            "from the old installation"
        )


async def _follow(database: "Database", run: ApiRunRow, output: GrowingFile, raw: RawPrinter) -> ApiRunRow:
    """Print the output of a run as it comes, until the run has ended.

    Return the ended run. The last part of the output is left for the caller.
    """
    import asyncio

    while run["status"] in _UNFINISHED:
        raw.print(output.read_rest())
        await asyncio.sleep(_LOOK_INTERVAL)
        run = await _find_run(database, run["id"])
    return run


async def _find_run(database: "Database", run_id: str) -> ApiRunRow:
    from scheduler.cli.run_lookup import advise_run_list
    from scheduler.localapi.runs import RunQueue

    run = await RunQueue(database, now).get_run(run_id)
    if run is None:
        raise AnswerIsNo(f"there is no run {run_id}; {advise_run_list()}")
    return run


def _make_json(run: ApiRunRow) -> Json:
    return {name: value for name, value in run.items() if name != "prompt"}


def _format_run(run: ApiRunRow) -> Iterator[str]:
    """Yield the lines about a run for people, one fact per line."""
    yield f"run         {run['id']}"
    yield f"automation  {to_printable(run['name'])} ({run['automation_id']})"
    yield f"repository  {to_printable(run['repository'])}"
    yield f"status      {style(run['status'], colour_run(run['status']))}{_format_exit(run)}"
    for event in ("created", "started", "cancelled", "finished"):
        if at := run[f"{event}_at"]:
            yield f"{event:<12}{format_zone_and_utc(from_text(at), run['timezone'], with_seconds=True)}"
    if took := _format_duration(run):
        yield f"took        {took}"


def _format_exit(run: ApiRunRow) -> str:
    status = run["exit_status"]
    if status is None:
        return ""
    return f", ended by signal {-status}" if status < 0 else f", exit status {status}"


def _format_duration(run: ApiRunRow) -> str:
    if not run["started_at"] or not run["finished_at"]:
        return ""
    return describe_duration((from_text(run["finished_at"]) - from_text(run["started_at"])).total_seconds())


def _make_columns(runs: Sequence[ApiRunRow]) -> list[Column[ApiRunRow]]:
    return [
        Column.make_id("run", lambda run: run["id"]),
        Column.make_name("automation", lambda run: run["name"]),
        Column("status", lambda run: make_run_cell(run["status"])),
        *make_time_columns(
            runs, "created", lambda run: from_text(run["created_at"]), lambda run: run["timezone"]
        ),
        Column.make_detail("took", _format_duration, rank=6),
        Column("exit", lambda run: "" if run["exit_status"] is None else str(run["exit_status"])),
        Column.make_text("error", lambda run: run["error"] or ""),
    ]
