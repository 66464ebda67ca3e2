"""``scheduler serve``: the embedded API alone."""

import click

from scheduler.cli.group import Command, Source
from scheduler.cli.output import line

_EXAMPLES = ("""SCHEDULER_API__RUNNER__COMMAND='["my-agent"]' scheduler serve --config scheduler.toml""",)


@click.command("serve", cls=Command, section="Start", examples=_EXAMPLES)
@click.pass_obj
def command(source: Source) -> None:
    """Serve the task automations API, and carry out its runs by the command in [api.runner], until SIGTERM.

    Keys are made with `scheduler keys create`.
    """
    from scheduler.app.api import serve
    from scheduler.cli.processes import run

    settings = source.load().settings
    run(serve(settings, lambda: line(f"serving the API at http://{settings.api.listen}/api/projects/")))
