"""``scheduler serve``: the embedded API alone."""

import click

from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.output import print_to_stderr

_EXAMPLES = ("""SCHEDULER_API__RUNNER__COMMAND='["my-agent"]' scheduler serve --config scheduler.toml""",)


@click.command("serve", cls=SchedulerCommand, section="Start", examples=_EXAMPLES)
@click.option(
    "--with-parent",
    is_flag=True,
    hidden=True,
    help="Standard input is a socket to `scheduler up`, which ends with it.",
)
@click.pass_obj
def command(source: Source, *, with_parent: bool) -> None:
    """Serve the task automations API, until SIGTERM.

    The command in [api.runner] carries out the runs. `scheduler keys create` creates the keys.
    """
    from scheduler.app.api import serve
    from scheduler.app.api_process import Parent
    from scheduler.cli.service import run

    parent = Parent() if with_parent else None
    settings = source.load().settings

    def announce() -> None:
        if parent is None:
            print_to_stderr(f"serving the API at http://{settings.api.listen}/api/projects/")
        else:
            parent.tell_ready()

    run(serve(settings, announce, parent), source)
