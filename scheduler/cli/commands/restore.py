"""``scheduler restore``: restore databases from a backup."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.group import SchedulerCommand, Source
from scheduler.cli.output import print_line
from scheduler.cli.times import now
from scheduler.core.command_line import FILE_NAME, format_command, resume_all
from scheduler.core.quantities import pluralize
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.cli.restoration import RestoredDatabase
    from scheduler.settings.models import Settings

_EXAMPLES = (
    "scheduler restore /var/backups/scheduler-2026-11-26.backup",
    "scheduler restore --moved /root/scheduler-moved.backup",
    "scheduler restore /var/backups/scheduler-2026-11-26.backup --state-dir drill",
)


@click.command("restore", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--moved",
    is_flag=True,
    help="Nothing fired since FILE was made: do not pause, and let waiting runs go on.",
)
@click.pass_obj
def command(source: Source, *, file: Path, moved: bool) -> None:
    """Restore the ledger, the API's database, or both from FILE.

    FILE comes from `scheduler backup` of this version or an older one. No daemon and no embedded API may run
    on the databases that FILE replaces. The present databases are kept beside the restored ones. If FILE has
    both databases, the embedded API may have a new address.

    FILE does not contain settings and the outputs of runs. If --state-dir has no configuration, it gets one,
    as by `scheduler up`.

    A backup does not know which occurrences fired later. To fire none of them again, the command pauses all
    automations. The daemon records the occurrences since the backup as paused, and goes on after `scheduler
    resume --all --keep-single`. Runs of the embedded API without an end in the backup end as failed, and do
    not start again.

    Use --moved if the daemon and the API had been stopped for good before the backup. Then everything goes on
    at once.
    """
    from scheduler.app.state_directory import prepare_folder
    from scheduler.cli.backup_file import API, LEDGER, open_backup
    from scheduler.cli.restoration import restore

    with open_backup(file) as backup:
        made_file = None
        if source.state_dir is not None and not (source.state_dir / FILE_NAME).exists():
            made_file = prepare_folder(source.state_dir)
            print_line(f"made: {to_printable(str(made_file))}, with free ports")
        settings = source.load().settings
        for database in restore(backup, settings, now(), moved=moved):
            _show(database, file)
        if API in backup and not moved:
            old = "keys that were revoked and automations that were deleted since the backup"
            print_line(f"{old} exist again: see `{format_command('keys list')}`")
            if LEDGER not in backup:
                pause = f"run `{format_command('pause --all')}` before the API starts"
                print_line(f"the daemon is not paused: if deleted automations must not fire, {pause}")
        if made_file is not None:
            _show_lacking(made_file, settings, has_runs=API in backup)


def _show_lacking(file: Path, settings: "Settings", *, has_runs: bool) -> None:
    """Print which parts a backup does not have, and a new state directory lacks."""
    agent = to_printable(shlex.join(settings.api.runner.command))
    print_line(
        f"not in a backup: settings. Before you start anything, edit {to_printable(str(file))}: copy each "
        "[[override]], [schedule] and [api.runner] from the configuration of the old installation. "
        f"Until then the agent's command is `{agent}`"
    )
    if has_runs:
        folder = to_printable(str(settings.api.runs_folder))
        print_line(f"not in a backup: outputs of runs. To keep them, copy the old api.db.runs to {folder}")


def _show(database: "RestoredDatabase", file: Path) -> None:
    print_line(f"restored: {to_printable(str(database.path))} from {to_printable(str(file))}")
    if database.aside is not None:
        print_line(f"the previous database is {to_printable(str(database.aside))}")
    for target, old in database.moved_targets:
        name, url, before = map(to_printable, (target.name, target.url, old))
        print_line(f"target {name}: its embedded API is at {url} now, before at {before}")
    for pause in database.pauses:
        name, resume = to_printable(pause.target), to_printable(resume_all(pause.target))
        print_line(f"paused: all automations of {name}; when the daemon is ready: {resume}")
    if database.ended_runs:
        ended = f"{pluralize(database.ended_runs, 'run')} that had not ended in the backup"
        print_line(f"ended as failed: {ended}; see `{format_command('runs list')}`")
