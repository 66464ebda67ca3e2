"""The command line: each command reads the settings, calls another package, and prints the answer.

Only click is imported here, so that ``scheduler --help`` is quick. The packages of a command are imported
when the command runs.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from scheduler.cli import output
from scheduler.cli.failures import INTERRUPTED, report
from scheduler.cli.file_owner import NotPermitted, describe_denial
from scheduler.cli.group import COMPLETION_VARIABLE, PROGRAM, CommandFolder, find_program
from scheduler.core.command_line import keep_caller, set_caller
from scheduler.core.errors import SchedulerError


def _print_version(context: click.Context, _option: click.Parameter, is_given: bool) -> None:  # noqa: FBT001  click calls it so
    """Print the version with the module that no other command needs."""
    if is_given and not context.resilient_parsing:
        from scheduler.cli.revision import describe_version

        output.print_line(f"{PROGRAM} {describe_version()}")
        context.exit()


@click.group(PROGRAM, cls=CommandFolder, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def root() -> None:
    """Fire task automations on time, each occurrence once, and keep a record that proves it.

    To begin, try `scheduler up --demo`.

    Exit status 0: done, or already so. 1: the answer is no. 2: wrong use or configuration. 3: the API or the
    ledger cannot be reached.
    """


def main() -> NoReturn:
    """Run a command, and exit the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit status. No expected error ends in a traceback."""
    with keep_caller():
        set_caller(find_program(), ())
        try:
            return _invoke(arguments)
        except (click.ClickException, SchedulerError) as error:
            return report(error)
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        except PermissionError as error:
            return report(NotPermitted(describe_denial(Path(os.fsdecode(error.filename or ".")))))
        except OSError as error:
            failure = output.classify_output_error(error)
            return report(failure) if failure else 0  # 0: the reader has closed the pipe


def _invoke(arguments: Sequence[str]) -> int:
    output.prepare()
    if question := os.environ.get(COMPLETION_VARIABLE):
        return shell_complete(root, {}, PROGRAM, COMPLETION_VARIABLE, question)
    try:
        with root.make_context(PROGRAM, list(arguments)) as context:
            root.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0
