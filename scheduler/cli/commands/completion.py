"""``scheduler completion``: the script that makes a shell complete our commands."""

import click
from click.shell_completion import get_completion_class

from scheduler.cli.group import COMPLETION_VARIABLE, PROGRAM, SchedulerCommand
from scheduler.cli.output import print_line

_EXAMPLES = (
    'eval "$(scheduler completion bash)"        # in ~/.bashrc',
    'eval "$(scheduler completion zsh)"         # in ~/.zshrc',
    "scheduler completion fish > ~/.config/fish/completions/scheduler.fish",
)


@click.command("completion", cls=SchedulerCommand, section="Setup", examples=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # the choice above has none but click's own
    script = kind(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source()
    print_line(script.rstrip(), is_whole=True)
