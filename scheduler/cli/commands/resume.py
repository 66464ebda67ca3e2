"""``scheduler resume``: end a pause."""

import getpass
from functools import partial

import click

from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.options import choose_target, name_optional_automation
from scheduler.cli.output import print_line, print_to_stderr
from scheduler.cli.times import now
from scheduler.core.terminal_text import to_printable

_EXAMPLES = (
    "scheduler resume nightly-report",
    "scheduler resume --all",
    "scheduler resume --all --keep-single",
)


@click.command("resume", cls=SchedulerCommand, section="Schedules", examples=_EXAMPLES)
@name_optional_automation
@click.option("--all", "everything", is_flag=True, help="End all pauses of the target.")
@click.option("--keep-single", is_flag=True, help="With --all: keep the pauses of single automations.")
@choose_target
@click.pass_obj
def command(
    source: Source, *, automation: str | None, everything: bool, keep_single: bool, target_name: str | None
) -> None:
    """End the pause of AUTOMATION.

    Occurrences that came due during the pause stay skipped. If a pause of all automations or the
    configuration still pauses AUTOMATION, the command says so on standard error. If there is no pause to end,
    the command says so. The exit status is 0 in each of these cases.
    """
    from scheduler.cli.ledger_file import write_and_wake
    from scheduler.cli.pauses import choose_scope, describe_remaining_pause
    from scheduler.ledger.operator_requests import resume

    if keep_single and not everything:
        raise click.UsageError("--keep-single belongs to --all")
    settings = source.load().settings
    scope = choose_scope(settings, target_name, automation, everything=everything)
    path = settings.ledger.url.path
    end = partial(resume, at=now(), by=getpass.getuser(), keep_single=keep_single)
    ended = write_and_wake(path, lambda connection: end(connection, scope.target, scope.automation_id))
    print_line(f"{'resumed' if ended else 'no pause to end'}: {to_printable(scope.name)}")
    if remaining := describe_remaining_pause(settings, scope):
        print_to_stderr(to_printable(remaining))
