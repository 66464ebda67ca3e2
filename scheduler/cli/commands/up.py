"""``scheduler up``: run the embedded API and the daemon with one command, without any configuration."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.group import SchedulerCommand, Source, find_program
from scheduler.cli.output import print_to_stderr, style
from scheduler.core.command_line import FILE_NAME, format_command, set_caller
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.settings.load import Configuration
    from scheduler.settings.models import Settings

_COMMANDS: Final = ("history", "next", "status", "check", "automations list", "runs list")
_DEMO_COMMANDS: Final = ("history --automation demo", *_COMMANDS, "automations run demo")
"""The commands to try."""


@click.command(
    "up",
    cls=SchedulerCommand,
    section="Start",
    examples=("scheduler up --demo", "scheduler up --state-dir ~/scheduler"),
)
@click.option("--demo", is_flag=True, help="Create an automation that is due every minute.")
@click.pass_obj
def command(source: Source, *, demo: bool) -> None:
    """Run the embedded API and the daemon, until SIGTERM or Ctrl-C.

    The API is a process of its own. When one of the two ends, the other stops too. The exit status is the
    status of the one that ended first. It is 0 only if SIGTERM or Ctrl-C stopped this command.

    --state-dir (default: ./var) holds everything: the configuration, which you may edit, a key, the
    automations, and the ledger.

    The first start writes the configuration, and takes these variables into it: SCHEDULER_API__LISTEN,
    SCHEDULER_API__DATABASE, SCHEDULER_SERVER__LISTEN, SCHEDULER_LEDGER__URL, SCHEDULER_TARGET__PROJECT_ID,
    SCHEDULER_TARGET__KEY_FILE, and a SCHEDULER_TARGET__URL that leads to the embedded API. Other variables,
    such as SCHEDULER_API__RUNNER__COMMAND, are not written: set them for each command that needs them.
    """
    from scheduler.app.state_directory import prepare_folder
    from scheduler.app.up import run_up
    from scheduler.cli.service import run

    if source.file is not None:
        remedy = "for a configuration of your own, use `run` and `serve`"
        raise click.UsageError(f"`up` uses the configuration in its --state-dir; {remedy}")
    folder = source.state_dir or Path("var")
    source = Source(state_dir=folder)
    set_caller(find_program(), source.options)
    prepare_folder(folder)
    commands = [format_command(words) for words in (_DEMO_COMMANDS if demo else _COMMANDS)]
    warning = describe_command_fault(source.load())

    def announce() -> None:
        """Print the welcome on standard error: standard output is the log, which may go to a program."""
        for text in _format_welcome(folder, source.load().settings, commands, demo=demo):
            print_to_stderr(text, is_whole=True)
        if warning is not None:
            print_to_stderr(f"{style('warning:', 'yellow', error=True)} {to_printable(warning)}")

    if status := run(run_up(folder, source.load, announce, demo=demo), source):
        raise click.exceptions.Exit(status)


def describe_command_fault(configuration: "Configuration") -> str | None:
    """Return why every run will fail, and where the command was set; None when no reason is known."""
    from scheduler.localapi.runner.start_failure import find_fault

    runner = configuration.settings.api.runner
    environment = {name: os.environ[name] for name in runner.environment if name in os.environ}
    fault = find_fault(runner.command, environment, clones=bool(runner.clone_url))
    origin = configuration.origins.get(("api", "runner", "command"), "default")
    return None if fault is None else f"every run will fail. [api.runner] command ({origin}): {fault}"


def _format_welcome(
    folder: Path, settings: "Settings", commands: Sequence[str], *, demo: bool
) -> Iterator[str]:
    """Yield where everything is, and which commands to try. Each command works as printed."""
    from scheduler.app.state_directory import KEY_NAME

    api, server = settings.api.listen, settings.server.listen
    target = next(iter(settings.embedded_targets), None)

    address, project = api.local_address if api else "", target.project_id if target else 1

    yield ""
    yield f"  API      http://{address}/api/projects/{project}/task_automations/"
    yield f"  key      {(target and target.key_file) or folder / KEY_NAME} (mode 0600)"
    if server is not None:
        yield f"  status   http://{server.local_address}/"
        yield f"  metrics  http://{server.local_address}/metrics"
    yield f"  settings {folder / FILE_NAME}"
    yield ""
    yield "  In another terminal:"
    yield from (f"    {command}" for command in commands)
    yield ""
    demo_text = "The demo automation is due at every full minute: it fires within 60 seconds."
    yield f"  {demo_text if demo else 'Ctrl-C stops both.'}"
    yield ""
