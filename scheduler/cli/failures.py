"""The failure of a command: an exit status for scripts, and a message with the place and the remedy."""

from collections.abc import Sequence
from typing import Final

import click

from scheduler.cli.output import print_to_stderr, style
from scheduler.core.command_line import help_command
from scheduler.core.errors import SchedulerError, Unreachable
from scheduler.core.terminal_text import to_printable

ANSWER_IS_NO: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130  # as a shell reports SIGINT


class AnswerIsNo(click.ClickException):
    """The requested thing does not exist, or the answer is no.

    For an answer that needs a message. A command that has printed its answer calls ``context.exit(1)``
    instead.
    """

    exit_code = ANSWER_IS_NO

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = details
        """Lines after the message."""


def report(error: click.ClickException | SchedulerError) -> int:
    """Print the error, and return the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print_to_stderr(error.format_message())  # the help of a group without a command
        return error.exit_code
    if isinstance(error, click.ClickException):
        print_to_stderr(f"{_format_label()} {to_printable(error.format_message())}")
        for detail in error.details if isinstance(error, AnswerIsNo) else ():
            print_to_stderr(to_printable(detail))
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _, *words = error.ctx.command_path.split()
            print_to_stderr(f"try: {help_command(*words)}", is_whole=True)
        return error.exit_code
    first, *rest = str(error).splitlines() or [type(error).__name__]
    print_to_stderr(f"{_format_label()} {to_printable(first)}")
    for line in rest:
        print_to_stderr(to_printable(line))
    return UNREACHABLE if isinstance(error, Unreachable) else WRONG_USE


def _format_label() -> str:
    return style("error:", "red", error=True)
