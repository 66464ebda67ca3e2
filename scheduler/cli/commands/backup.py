"""``scheduler backup``: a copy of the ledger and of the embedded API's database."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.output import print_line
from scheduler.cli.times import now
from scheduler.core.command_line import format_daemon_command
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.database import Schema
    from scheduler.settings.models import Settings

_EXAMPLES = ("scheduler backup /var/backups/scheduler-2026-11-26.backup",)


@click.command("backup", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def command(source: Source, *, file: Path) -> None:
    """Copy the ledger and the embedded API's database into FILE.

    FILE must not exist yet. The daemon and the API may run during the backup. If both databases exist, FILE
    is a tar with ledger.db and api.db. If only one exists, FILE is a copy of this database. Each copy shows
    its database at one instant, and is checked. Only its owner can read FILE. `scheduler restore` restores
    the databases from FILE. FILE does not contain the outputs of runs, the settings and the keys of the
    daemon.

    Do not copy the files of a database in use yourself: the newest rows, or even all tables, are in another
    file.
    """
    from scheduler.cli.backup_file import PLAIN_COPY, write_backup

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as by Ctrl-C: half a copy is removed
    databases = _find_databases(source.load().settings)
    write_backup(file, databases, now())
    paths = " and ".join(to_printable(str(path)) for _, path in databases)
    members = " and ".join(kind.member for kind, _ in databases)
    content = f" (a tar with {members})" if len(databases) > 1 else ""
    print_line(f"backed up: {paths} to {to_printable(str(file))}, {file.stat().st_size} bytes{content}")
    print_line(f"copy this file and not the databases: {PLAIN_COPY}")


def _find_databases(settings: "Settings") -> "list[tuple[Schema, Path]]":
    """Find the existing databases. Raises `NoLedger` without any."""
    from scheduler.cli.backup_file import API, LEDGER
    from scheduler.cli.file_owner import require_access
    from scheduler.cli.ledger_file import NoLedger
    from scheduler.database.errors import translate_errors

    ledger, api = settings.ledger.url.path, settings.api.database.path
    databases = []
    for kind, path in ((LEDGER, ledger), (API, api)):
        require_access(path)
        with translate_errors(path):
            if path.exists():
                databases.append((kind, path))
    if not databases:
        start = f"start `{format_daemon_command()}` once"
        remedy = f"name the right ones with --state-dir or --config, or {start}"
        raise NoLedger(f"there is no ledger {ledger}, and no database {api} of the embedded API; {remedy}")
    return databases
