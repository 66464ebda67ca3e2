"""Make docs/commands.md from the help of the program: ``make docs`` writes the page, and tests compare it
with the help.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from scheduler.cli import root as program
from scheduler.cli.group import PROGRAM

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
WIDTH = 100

_HEAD = """# Commands

The help of every command. `make docs` writes this page.
"""


def leaves(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for every command that does something, in alphabetical order of the full names.

    Each context descends from the context of the program, and so has its settings, such as the names of the
    help option.
    """
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, parent=context, info_name=name)
        yield from leaves(below) if isinstance(command, click.Group) else [below]


def page() -> str:
    """Return the page as it should be."""
    context = program.make_context(PROGRAM, [], resilient_parsing=True, terminal_width=WIDTH)
    sections = [f"```\n{program.get_help(context)}\n```\n"]
    sections += [
        f"## {leaf.command_path}\n\n```\n{leaf.command.get_help(leaf)}\n```\n" for leaf in leaves(context)
    ]
    return "\n".join([_HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(page())
