"""``scheduler target``: the name and the URL of a target in the ledger."""

import click

from scheduler.cli.group import SchedulerGroup, Source
from scheduler.cli.output import print_line
from scheduler.cli.times import format_machine_and_utc
from scheduler.core.terminal_text import to_printable


@click.group("target", cls=SchedulerGroup, section="Setup")
def command() -> None:
    """Rename, move or unthrottle a target in the ledger."""


@command.command("rename", examples=["scheduler target rename default main"])
@click.argument("old")
@click.argument("new")
@click.pass_obj
def rename(source: Source, *, old: str, new: str) -> None:
    """Give the history of target OLD the name NEW.

    From now on, the configuration must use the name NEW. No daemon may run.
    """
    from scheduler.cli.ledger_file import write_alone
    from scheduler.ledger.targets import rename_target

    path = source.load().settings.ledger.url.path
    write_alone(path, lambda connection: rename_target(connection, old, new))
    if old == new:
        print_line(f"nothing to rename: the target is called {to_printable(old)} already")
    else:
        print_line(f"renamed: {to_printable(old)} is {to_printable(new)} now; use that name in [[target]]")


@command.command("move", examples=["scheduler target move default"])
@click.argument("name")
@click.pass_obj
def move(source: Source, *, name: str) -> None:
    """Bind the history of target NAME to its configured URL.

    Use this command when the same API has a new address. Without it, the ledger refuses another URL for a
    known name, because the URL may belong to another API. No daemon may run.
    """
    from scheduler.cli.ledger_file import write_alone
    from scheduler.ledger.targets import move_target

    settings = source.load().settings
    target, path = settings.choose_target(name), settings.ledger.url.path
    old = write_alone(
        path, lambda connection: move_target(connection, target.name, target.url, target.project_id)
    )
    place = f"target {to_printable(name)} is at {to_printable(target.url)}"
    if old is None:
        print_line(f"nothing to move: {place} already")
    else:
        print_line(f"moved: {place} now, before at {to_printable(old)}")


@command.command("unthrottle", examples=["scheduler target unthrottle main"])
@click.argument("name")
@click.pass_obj
def unthrottle(source: Source, *, name: str) -> None:
    """Forget the wait that the API of target NAME asked for by a 429.

    The next start of the daemon sends at once. No daemon may run. If there is no wait to forget, the command
    says so. The exit status is 0.
    """
    from scheduler.cli.ledger_file import write_alone
    from scheduler.ledger.targets import unthrottle_target

    path = source.load().settings.ledger.url.path
    until = write_alone(path, lambda connection: unthrottle_target(connection, name))
    if until is None:
        print_line(f"nothing to forget: target {to_printable(name)} does not wait")
    else:
        would = f"would have waited until {format_machine_and_utc(until)}"
        print_line(f"forgotten: target {to_printable(name)} {would}; start the daemon")
