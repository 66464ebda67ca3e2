"""``scheduler restore``: go on from a backup."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.group import FILE_NAME, Command, Source
from scheduler.cli.output import line
from scheduler.cli.times import now
from scheduler.core.command_line import command_line
from scheduler.core.plural import pluralize
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    from scheduler.cli.restoration import Restored

_EXAMPLES = (
    "scheduler restore /var/backups/scheduler-2026-11-26.backup",
    "scheduler restore --moved /root/scheduler-moved.backup",
    "scheduler restore /var/backups/scheduler-2026-11-26.backup --state-dir drill",
)


@click.command("restore", cls=Command, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--moved", is_flag=True, help="Nothing was fired since FILE was made: do not pause, and let runs that wait go on.")
@click.pass_obj
def command(source: Source, *, file: Path, moved: bool) -> None:
    """Go on from the backup in FILE: the ledger, the embedded API's database, or both.

    No daemon and no embedded API may be running on what FILE holds; what is there now is set aside. FILE is what `scheduler backup` made,
    of this version or an older one. A --state-dir without a configuration gets one, as `scheduler up` makes it. An embedded API that is
    restored with its ledger may have another address than before.

    A backup does not know what was fired after it was made. So that nothing is fired again, all automations are paused: the daemon records
    as paused what came due since, and goes on after `scheduler resume --all --keep-single`. Runs of the embedded API that had not ended in
    the backup are ended as failed, and do not start again. With --moved, for a backup that was made after the daemon and the API had been
    stopped for good, everything goes on at once.
    """
    from scheduler.app.state import prepare
    from scheduler.cli.backup_file import API, LEDGER, open_backup
    from scheduler.cli.restoration import restore

    with open_backup(file) as backup:
        if source.state_dir is not None and not (source.state_dir / FILE_NAME).exists():
            line(f"made: {escaped(str(prepare(source.state_dir)))}, with free ports")
        for database in restore(backup, source.load().settings, now(), moved=moved):
            _show(database, file)
        if API in backup.stages and not moved:
            keys = command_line("keys list")
            line(f"keys that were revoked since, and automations that were deleted, are there again: see `{keys}`")
            if LEDGER not in backup.stages:
                pause = command_line("pause --all")
                line(f"the daemon is not paused: `{pause}` before the API starts, if deleted automations must not be fired")


def _show(database: "Restored", file: Path) -> None:
    line(f"restored: {escaped(str(database.path))} from {escaped(str(file))}")
    if database.aside is not None:
        line(f"what was there is in {escaped(str(database.aside))}")
    for target, old in database.moved:
        line(f"target {escaped(target.name)}: its embedded API is at {escaped(target.url)} now, no more at {escaped(old)}")
    for pause in database.pauses:
        resume = command_line("resume --all --keep-single", target=pause.target)
        line(f"paused: all automations of {escaped(pause.target)}; when the daemon is ready: `{escaped(resume)}`")
    if database.ended:
        line(f"ended: {pluralize(database.ended, 'run')} that had not ended in the backup, as failed; see `{command_line('runs list')}`")
