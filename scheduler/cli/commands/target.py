"""``scheduler target``: what the ledger calls a target."""

import click

from scheduler.cli.group import Group, Source
from scheduler.cli.output import line
from scheduler.cli.times import now, zoned_text
from scheduler.core.printable import escaped


@click.group("target", cls=Group, section="Setup")
def command() -> None:
    """Look after the history of targets."""


@command.command("rename", examples=["scheduler target rename default main"])
@click.argument("old")
@click.argument("new")
@click.pass_obj
def rename(source: Source, *, old: str, new: str) -> None:
    """Give the history of target OLD the name NEW, which the configuration has for it from now on. No daemon may be running."""
    from scheduler.cli.ledger_file import owning, write
    from scheduler.ledger.intents import rename_target

    path = source.load().settings.ledger.url.path
    with owning(path, now()):
        write(path, lambda connection: rename_target(connection, old, new))
    if old == new:
        line(f"nothing to rename: the target is called {escaped(old)} already")
    else:
        line(f"renamed: {escaped(old)} is {escaped(new)} now; use that name in [[target]]")


@command.command("move", examples=["scheduler target move default"])
@click.argument("name")
@click.pass_obj
def move(source: Source, *, name: str) -> None:
    """Bind the history of target NAME to the URL that the configuration has for it: the same API at a new address.

    The ledger refuses another URL under a known name, because it could be another API. No daemon may be running.
    """
    from scheduler.cli.ledger_file import owning, write
    from scheduler.cli.targets import choose
    from scheduler.ledger.sightings import move_target

    settings = source.load().settings
    target, path = choose(settings, name), settings.ledger.url.path
    with owning(path, now()):
        old = write(path, lambda connection: move_target(connection, target.name, target.url, target.project_id))
    if old is None:
        line(f"nothing to move: target {escaped(name)} is at {escaped(target.url)} already")
    else:
        line(f"moved: target {escaped(name)} is at {escaped(target.url)} now, no more at {escaped(old)}")


@command.command("unthrottle", examples=["scheduler target unthrottle main"])
@click.argument("name")
@click.pass_obj
def unthrottle(source: Source, *, name: str) -> None:
    """Forget the wait that the API of target NAME asked for by a 429, so that the next start sends at once.

    No daemon may be running. Without such a wait, says so; the exit status is 0.
    """
    from scheduler.cli.ledger_file import owning, write
    from scheduler.ledger.intents import unthrottle_target

    path = source.load().settings.ledger.url.path
    with owning(path, now()):
        until = write(path, lambda connection: unthrottle_target(connection, name))
    if until is None:
        line(f"nothing to forget: target {escaped(name)} does not wait")
    else:
        line(f"forgotten: target {escaped(name)} would have waited until {zoned_text(until)}; start the daemon")
