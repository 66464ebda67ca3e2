"""``scheduler backup``: a copy of the ledger."""

from pathlib import Path

import click

from scheduler.cli.group import Command, Source
from scheduler.cli.output import line

_EXAMPLES = ("scheduler backup /var/backups/scheduler-2026-11-26.db",)


@click.command("backup", cls=Command, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def command(source: Source, *, file: Path) -> None:
    """Copy the ledger into FILE, which must not be there yet, also while the daemon runs.

    The copy is what the ledger was at one instant, is checked, and can be read by its owner alone. How to go on from one without firing
    anything twice is in docs/operations.md.
    """
    from scheduler.cli.ledger_file import reading
    from scheduler.database.faults import translated
    from scheduler.ledger.backup import copying

    ledger = source.load().settings.ledger.url.path
    with copying(file) as copy, reading(ledger) as connection, translated(file):
        connection.backup(copy)
    line(f"backed up: {ledger} to {file}, {file.stat().st_size} bytes")
