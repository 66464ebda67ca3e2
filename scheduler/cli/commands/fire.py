"""``scheduler fire``: backfill one occurrence that was skipped, expired, rejected or never recorded."""

import getpass

import click

from scheduler.cli.failures import ANSWER_IS_NO, AnswerIsNo
from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.options import choose_target_of_automation, name_automation
from scheduler.cli.output import print_line, print_to_stderr, style
from scheduler.cli.times import format_in_zone, format_zone_and_utc, now, parse_time
from scheduler.core.terminal_text import to_printable

_EXAMPLES = (
    "scheduler fire nightly-report 2026-11-23T02:00:00Z",
    "scheduler fire nightly-report 03:00 --no-wait",
)


@click.command("fire", cls=SchedulerCommand, section="Automations", examples=_EXAMPLES)
@name_automation
@click.argument("time")
@choose_target_of_automation
@click.option("--no-wait", is_flag=True, help="Do not wait for the outcome.")
@click.pass_obj
def command(source: Source, *, automation: str, time: str, target: str | None, no_wait: bool) -> None:
    """Run one occurrence that did not run (backfill).

    The running daemon starts the occurrence of AUTOMATION at TIME, and the command waits for the outcome.
    Allowed are occurrences that were skipped, expired or rejected, and occurrences that `scheduler audit`
    reports as missing. The occurrence keeps its identity: however often you ask, it starts only once. If the
    occurrence ran, or may have run, the command refuses. A backfill ignores pauses, catch_up and concurrency.
    It may start within start_within, counted from now.

    TIME is an instant (2026-11-23T02:00:00Z), a local time in the automation's zone (2026-11-23T03:00), or a
    time of today (03:00), which must be over.

    Exit status 0: accepted. 1: not accepted.
    """
    from scheduler.audit.backfill import BackfillRefused, make_backfill_request
    from scheduler.audit.evidence import collect_evidence
    from scheduler.cli.backfill import submit, wait_for_outcome
    from scheduler.cli.ledger_file import make_ledger_collection, open_read_only
    from scheduler.cli.lookup import find_automation
    from scheduler.core.cron.schedule import read_versions

    path, at, evaluated = source.load().settings.ledger.url.path, now(), read_versions()
    with open_read_only(path) as connection:
        match = find_automation(make_ledger_collection(connection, target), automation)
        parsed = parse_time(time, match.timezone, at)
        if parsed.later_today is not None:
            day = format_in_zone(parsed.instant, match.timezone)
            fault = f"{parsed.later_today} is still to come in {match.timezone}"
            raise click.UsageError(f"{fault}; for {day}, give the date too")
        evaluator = evaluated.croniter, evaluated.tzdata
        evidence = collect_evidence(connection, match.target, match.automation_id, parsed.instant, evaluator)
    note = f", {parsed.note}" if parsed.note else ""
    occurrence = to_printable(f"{match.name} at {format_zone_and_utc(parsed.instant, match.timezone)}{note}")
    try:
        request = make_backfill_request(evidence, at, getpass.getuser())
    except BackfillRefused as error:
        raise AnswerIsNo(f"{occurrence}: {error}") from None
    submit(path, request)
    print_to_stderr(f"asked for: {occurrence}")
    if no_wait:
        return
    said = "the daemon has taken up the request; Ctrl-C ends only the waiting"
    row = wait_for_outcome(path, request.occurrence, lambda: print_to_stderr(said))
    if row.outcome == "accepted":
        print_line(f"{row.fate}  {to_printable(f'run {row.run_id}')}")
        return
    print_line(f"{style(row.fate, 'red')}  {to_printable(row.error or '')}".rstrip())
    raise click.exceptions.Exit(ANSWER_IS_NO)
