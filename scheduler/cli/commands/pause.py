"""``scheduler pause``: record what comes due, and fire nothing."""

import getpass

import click

from scheduler.cli.completion_values import complete_automations, complete_targets
from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.output import print_line
from scheduler.cli.times import now
from scheduler.core.terminal_text import to_printable

_EXAMPLES = ("scheduler pause nightly-report", "scheduler pause --all")


@click.command("pause", cls=SchedulerCommand, section="Schedules", examples=_EXAMPLES)
@click.argument("automation", required=False, shell_complete=complete_automations)
@click.option("--all", "everything", is_flag=True, help="Pause every automation of the target.")
@click.option(
    "--target",
    "target_name",
    metavar="NAME",
    help="Which target, where several are configured.",
    shell_complete=complete_targets,
)
@click.pass_obj
def command(source: Source, *, automation: str | None, everything: bool, target_name: str | None) -> None:
    """Record the occurrences of AUTOMATION from now on without firing them.

    The pause is kept in the ledger: it survives restarts, and shows in `scheduler status`. A pause that is there already stays as
    it is, and the exit status is 0.
    """
    from scheduler.cli.ledger_file import wake_daemon_after, write
    from scheduler.cli.pauses import choose_scope
    from scheduler.ledger.operator_requests import Pause, pause

    which = choose_scope(source.load().settings, target_name, automation, everything=everything)
    wanted = Pause(which.target, which.automation_id, now(), getpass.getuser())
    with wake_daemon_after(which.ledger):
        made = write(which.ledger, lambda connection: pause(connection, wanted))
    print_line(f"{'paused' if made else 'was paused already'}: {to_printable(which.name)}")
