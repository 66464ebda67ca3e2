"""``scheduler restore``: go on from a backup."""

import getpass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.group import Command, Source
from scheduler.cli.output import line
from scheduler.cli.times import now
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from scheduler.ledger.intents import Pause

_EXAMPLES = ("scheduler restore /var/backups/scheduler-2026-11-26.db", "scheduler restore --moved /root/scheduler-moved.db")


@click.command("restore", cls=Command, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--moved", is_flag=True, help="Nothing was fired since FILE was made: do not pause.")
@click.pass_obj
def command(source: Source, *, file: Path, moved: bool) -> None:
    """Make the backup in FILE the ledger. No daemon may be running; what is there now is set aside.

    A backup does not know what was fired after it was made. So that nothing is fired again, all automations are paused: the daemon records
    as paused what came due since, and goes on after `scheduler resume --all --keep-single`. With --moved, for a backup that was made after
    its daemon had been stopped for good, it goes on at once.
    """
    from scheduler.cli.ledger_file import replacing
    from scheduler.ledger.backup import copy, copying, put_in_place, reading_copy

    ledger, at = source.load().settings.ledger.url.path, now()
    staged = ledger.with_name(f".{ledger.name}.restored")
    with reading_copy(file) as backup, replacing(ledger, at):
        staged.unlink(missing_ok=True)
        with copying(staged) as into:
            copy(backup, into)
        paused = () if moved else _paused(staged, at)
        aside = put_in_place(staged, ledger, at)
    line(f"restored: {escaped(str(ledger))} from {escaped(str(file))}")
    if aside is not None:
        line(f"what was there is in {escaped(str(aside))}")
    for pause in paused:
        line(f"paused: all automations of {escaped(pause.target)}; when the daemon is ready: scheduler resume --all --keep-single")


def _paused(staged: Path, at: datetime) -> "Sequence[Pause]":
    """Pause all targets that are not paused as a whole; the pauses that were made."""
    from scheduler.cli.ledger_file import write
    from scheduler.ledger.intents import EVERYTHING, Pause, pause

    by = f"{getpass.getuser()} (restore)"

    def pause_all(connection: "sqlite3.Connection") -> list[Pause]:
        targets = [name for (name,) in connection.execute("SELECT name FROM target ORDER BY name")]
        wanted = [Pause(target, EVERYTHING, at, by) for target in targets]
        return [each for each in wanted if pause(connection, each)]

    return write(staged, pause_all)
