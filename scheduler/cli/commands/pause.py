"""``scheduler pause``: record due occurrences, and fire none."""

import getpass
from functools import partial

import click

from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.options import choose_target, name_optional_automation
from scheduler.cli.output import print_line
from scheduler.cli.times import now
from scheduler.core.terminal_text import to_printable

_EXAMPLES = ("scheduler pause nightly-report", "scheduler pause --all")


@click.command("pause", cls=SchedulerCommand, section="Schedules", examples=_EXAMPLES)
@name_optional_automation
@click.option("--all", "everything", is_flag=True, help="Pause every automation of the target.")
@choose_target
@click.pass_obj
def command(source: Source, *, automation: str | None, everything: bool, target_name: str | None) -> None:
    """Pause AUTOMATION: record its occurrences, and fire none.

    The ledger keeps the pause: a pause survives restarts, and `scheduler status` shows it. If AUTOMATION is
    paused already, nothing changes. The exit status is 0.
    """
    from scheduler.cli.ledger_file import write_and_wake
    from scheduler.cli.pauses import choose_scope
    from scheduler.ledger.operator_requests import Pause, pause

    settings = source.load().settings
    scope = choose_scope(settings, target_name, automation, everything=everything)
    wanted = Pause(scope.target, scope.automation_id, now(), getpass.getuser())
    made = write_and_wake(settings.ledger.url.path, partial(pause, wanted=wanted))
    print_line(f"{'paused' if made else 'was paused already'}: {to_printable(scope.name)}")
