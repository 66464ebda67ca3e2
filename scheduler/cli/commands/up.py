"""``scheduler up``: everything with one command, without any configuration."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.group import FILE_NAME, Command, Source
from scheduler.cli.output import complain, styled
from scheduler.cli.program import find_program
from scheduler.core.command_line import command_line, set_caller
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    from scheduler.settings import Configuration, Settings


@click.command("up", cls=Command, section="Start", examples=("scheduler up --demo", "scheduler up --state-dir ~/scheduler"))
@click.option("--demo", is_flag=True, help="Have an automation that is due every minute.")
@click.pass_context
def command(context: click.Context, *, demo: bool) -> None:
    """Run the embedded API and the daemon, until SIGTERM or Ctrl-C.

    The API is a process of its own. When one of the two ends, the other stops too; the exit status is that of the one that ended first,
    and never 0 unless SIGTERM or Ctrl-C asked this command to stop.

    Everything is kept in --state-dir, ./var if it is not given: the configuration, which is yours to change, a key, the automations, and
    the ledger. Variables that say otherwise when the configuration is made, as SCHEDULER_API__LISTEN, are written into it.
    """
    from scheduler.app.state import prepare
    from scheduler.app.up import up
    from scheduler.cli.processes import run

    source: Source = context.obj
    if source.file is not None:
        raise click.UsageError("`up` uses the configuration in its --state-dir; for one of your own there are `run` and `serve`")
    folder = source.state_dir or Path("var")
    source = Source(state_dir=folder)
    set_caller(find_program(), source.options)
    prepare(folder)
    commands = [command_line(words) for words in _commands(demo=demo)]
    warning = warn_of_command(source.load())

    def announce() -> None:
        """Print the welcome on standard error: standard output is the log, which may go to a program."""
        for text in _welcome(folder, source.load().settings, commands, demo=demo):
            complain(text, is_whole=True)
        if warning is not None:
            complain(f"{styled('warning:', 'yellow', error=True)} {escaped(warning)}")

    if status := run(up(folder, source.load, announce, demo=demo), source):
        context.exit(status)


def _commands(*, demo: bool) -> Iterator[str]:
    """What to try."""
    if demo:
        yield "history --automation demo"
    yield from ("history", "next", "status", "check", "automations list", "runs list")
    if demo:
        yield "automations run demo"


def warn_of_command(configuration: "Configuration") -> str | None:
    """Return why every run will fail, where that is known, and where the command was set; None when nothing is known."""
    from scheduler.localapi.start_failure import find_fault

    runner = configuration.settings.api.runner
    environment = {name: os.environ[name] for name in runner.environment if name in os.environ}
    fault = find_fault(runner.command, environment, clones=bool(runner.clone_url))
    origin = configuration.origins.get(("api", "runner", "command"), "default")
    return None if fault is None else f"every run will fail. [api.runner] command ({origin}): {fault}"


def _welcome(folder: Path, settings: "Settings", commands: Sequence[str], *, demo: bool) -> Iterator[str]:
    """Where everything is, and what to try: each command works as it is printed."""
    from scheduler.app.state import KEY_NAME

    api, server = settings.api.listen, settings.server.listen
    target = next((target for target in settings.targets if api and api.answers_to(target.url)), None)

    yield ""
    yield f"  API      http://{api.nearby if api else ''}/api/projects/{target.project_id if target else 1}/task_automations/"
    yield f"  key      {(target and target.key_file) or folder / KEY_NAME} (mode 0600)"
    if server is not None:
        yield f"  status   http://{server.nearby}/"
        yield f"  metrics  http://{server.nearby}/metrics"
    yield f"  settings {folder / FILE_NAME}"
    yield ""
    yield "  In another terminal:"
    yield from (f"    {command}" for command in commands)
    yield ""
    yield "  The demo automation is due at every full minute: it fires within 60 seconds." if demo else "  Ctrl-C ends it."
    yield ""
