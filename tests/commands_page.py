"""Makes docs/commands.md of what the commands say of themselves: ``make docs`` writes it, and a test holds it against them."""

from collections.abc import Iterator
from pathlib import Path

import click

from scheduler.cli import root as program

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
_WIDTH = 100

_HEAD = """# Commands

What `scheduler COMMAND --help` says, for all of them. Made by `make docs`.
"""


def leaves(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name, in alphabetical order."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = f"{context.command_path} {name}"
        if isinstance(command, click.Group):
            yield from leaves(command, click.Context(command, parent=context, info_name=name))
        else:
            yield path, command


def page() -> str:
    """The page as it should be."""
    context = click.Context(program, info_name="scheduler", terminal_width=_WIDTH)
    sections = [f"```\n{program.get_help(context)}\n```\n"]
    for path, command in leaves(program, context):
        own = click.Context(command, info_name=path, terminal_width=_WIDTH)
        sections.append(f"## {path}\n\n```\n{command.get_help(own)}\n```\n")
    return "\n".join([_HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(page())
