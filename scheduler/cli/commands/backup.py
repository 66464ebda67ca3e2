"""``scheduler backup``: a copy of the ledger."""

import signal
from pathlib import Path

import click

from scheduler.cli.group import Command, Source
from scheduler.cli.output import line
from scheduler.core.printable import escaped

_EXAMPLES = ("scheduler backup /var/backups/scheduler-2026-11-26.db",)


@click.command("backup", cls=Command, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def command(source: Source, *, file: Path) -> None:
    """Copy the ledger into FILE, which must not be there yet, also while the daemon runs.

    The copy is what the ledger was at one instant, is checked, and can be read by its owner alone. `scheduler restore` goes on from one.
    """
    from scheduler.cli.ledger_file import reading
    from scheduler.database.faults import translated
    from scheduler.ledger.backup import copy, copying

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as by Ctrl-C: half a copy is removed
    ledger = source.load().settings.ledger.url.path
    with copying(file) as into, reading(ledger) as connection, translated(file):
        copy(connection, into)
    line(f"backed up: {escaped(str(ledger))} to {escaped(str(file))}, {file.stat().st_size} bytes")
