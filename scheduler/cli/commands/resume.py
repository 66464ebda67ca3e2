"""``scheduler resume``: fire again what was paused."""

import getpass

import click

from scheduler.cli.completion_values import complete_automations, complete_targets
from scheduler.cli.group import Command, Source
from scheduler.cli.output import complain, line
from scheduler.cli.times import now
from scheduler.core.printable import escaped

_EXAMPLES = ("scheduler resume nightly-report", "scheduler resume --all", "scheduler resume --all --keep-single")


@click.command("resume", cls=Command, section="Schedules", examples=_EXAMPLES)
@click.argument("automation", required=False, shell_complete=complete_automations)
@click.option("--all", "everything", is_flag=True, help="End all pauses of the target.")
@click.option("--keep-single", is_flag=True, help="With --all: what was paused by itself stays paused.")
@click.option(
    "--target", "target_name", metavar="NAME", help="Which target, where several are configured.", shell_complete=complete_targets
)
@click.pass_obj
def command(source: Source, *, automation: str | None, everything: bool, keep_single: bool, target_name: str | None) -> None:
    """End the pause of AUTOMATION. What came due meanwhile stays skipped.

    Says on standard error what goes on pausing AUTOMATION: a pause of all automations, or the configuration. Without a pause that
    could be ended, says so; the exit status is 0 in each of these cases.
    """
    from scheduler.cli.ledger_file import waking, write
    from scheduler.cli.pauses import chosen, still_paused
    from scheduler.ledger.intents import resume

    if keep_single and not everything:
        raise click.UsageError("--keep-single belongs to --all")
    settings = source.load().settings
    which = chosen(settings, target_name, automation, everything=everything)
    at, by = now(), getpass.getuser()
    with waking(which.ledger):
        ended = write(
            which.ledger,
            lambda connection: resume(connection, which.target, which.automation_id, at=at, by=by, keep_single=keep_single),
        )
    line(f"{'resumed' if ended else 'no pause to end'}: {escaped(which.name)}")
    if remaining := still_paused(settings, which):
        complain(escaped(remaining))
