"""The failure of a command: an exit status for scripts, and a message with the place and the remedy."""

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


class AnswerIsNo(SchedulerError):
    """The requested thing does not exist, or the answer is no.

    For an answer that needs a message. A command that has printed its answer raises `click.exceptions.Exit`
    instead. The message and each of the ``details`` are a line of their own: their line breaks are escaped.
    """

    def __init__(self, message: str, *details: str) -> None:
        super().__init__("\n".join(map(to_printable, (message, *details))))


def report(error: click.ClickException | SchedulerError) -> int:
    """Print the error, and return the exit status."""
    if isinstance(error, click.ClickException):
        return _report_use(error)
    _print_error("\n".join(map(to_printable, str(error).splitlines())) or type(error).__name__)
    if isinstance(error, AnswerIsNo):
        return ANSWER_IS_NO
    return UNREACHABLE if isinstance(error, Unreachable) else WRONG_USE


def _report_use(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print_to_stderr(error.format_message())  # the help of a group without a command
        return error.exit_code
    _print_error(to_printable(error.format_message()))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        _, *words = error.ctx.command_path.split()
        print_to_stderr(f"try: {help_command(*words)}", is_whole=True)
    return error.exit_code


def _print_error(text: str) -> None:
    print_to_stderr(f"{style('error:', 'red', error=True)} {text}")
