"""``scheduler fire``: make up for one occurrence that was skipped, expired, rejected or forgotten."""

import getpass

import click

from scheduler.cli.completion_values import complete_automations, complete_targets
from scheduler.cli.failures import ANSWER_IS_NO, AnswerIsNo
from scheduler.cli.group import Command, Source
from scheduler.cli.output import complain, line, styled
from scheduler.cli.times import at_text, in_zone, now, understood, usable_zone
from scheduler.core.printable import escaped

_EXAMPLES = ("scheduler fire nightly-report 2026-11-23T02:00:00Z", "scheduler fire nightly-report 03:00 --no-wait")


@click.command("fire", cls=Command, section="Automations", examples=_EXAMPLES)
@click.argument("automation", shell_complete=complete_automations)
@click.argument("time")
@click.option(
    "--target", metavar="NAME", help="The automation of this target, where several have one of that name.", shell_complete=complete_targets
)
@click.option("--no-wait", is_flag=True, help="Leave it to the daemon, and do not wait for what comes of it.")
@click.pass_context
def command(context: click.Context, *, automation: str, time: str, target: str | None, no_wait: bool) -> None:
    """Make up for one occurrence that did not run.

    The running daemon starts the occurrence of AUTOMATION at TIME after all, and the command waits for what comes of
    it. For one that was skipped, expired or rejected, or that `scheduler audit` calls missing. It keeps its identity,
    so that it is started once, whoever asks how often; one that has run, or may have, is refused. Pauses, catch_up and
    concurrency are no matter, and it may start as long as start_within says, counted from now.

    TIME is an instant, as 2026-11-23T02:00:00Z, or the local time in the automation's own zone, as 2026-11-23T03:00, or 03:00 for
    that time today, which has to be over. Exit status 0: accepted; 1: not.
    """
    from scheduler.audit.account import recall
    from scheduler.audit.making_up import NotToBeMadeUpFor, request
    from scheduler.cli.ledger_file import reading
    from scheduler.cli.making_up import Asking
    from scheduler.cli.named import named
    from scheduler.core.cron import versions

    source: Source = context.obj
    path, at, evaluated = source.load().settings.ledger.url.path, now(), versions()
    with reading(path) as connection:
        which = named(connection, target, automation)
        asked = understood(time, which.timezone, at)
        if asked.to_come is not None:
            day = in_zone(asked.instant, usable_zone(which.timezone))
            raise click.UsageError(f"{asked.to_come} is still to come in {which.timezone}; to make up for {day}, give the date too")
        account = recall(connection, which.target, which.automation_id, asked.instant, (evaluated.croniter, evaluated.tzdata))
    said = f"{which.name} at {at_text(asked.instant, usable_zone(which.timezone))}" + (f", {asked.note}" if asked.note else "")
    try:
        asking = Asking(path, request(account, at, getpass.getuser()))
    except NotToBeMadeUpFor as error:
        raise AnswerIsNo(f"{said}: {error}") from None
    asking.ask()
    complain(escaped(f"asked for: {said}"))
    if no_wait:
        return
    row = asking.outcome(lambda: complain("the daemon has taken it up; Ctrl-C leaves it to the daemon"))
    accepted = row.outcome == "accepted"
    more = f"run {row.run_id}" if accepted else row.error or ""
    line(f"{styled(row.fate, None if accepted else 'red')}  {escaped(more)}".rstrip())
    if not accepted:
        context.exit(ANSWER_IS_NO)
