"""The values for completion in a shell: names of automations and targets, ids of runs, time zones.

A shell asks while the user types. So an error proposes nothing and prints nothing, and every list is bounded.
"""

import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli.group import make_source
from scheduler.core.errors import SchedulerError

if TYPE_CHECKING:
    from scheduler.database import Database
    from scheduler.settings.models import Settings

_MAX_VALUES: Final = 200
"""Maximum number of proposed values."""
_NEWEST_RUNS: Final = 1_000
"""The number of newest runs searched for ids."""

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _make_completer(read: "Callable[[Settings], Iterable[str]]") -> Completer:
    """Make a function for click's ``shell_complete`` from a function that reads all values."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        del param
        with suppress(SchedulerError, click.ClickException, OSError):
            source = make_source(ctx.params.get("config"), ctx.params.get("state_dir"))
            values = (value for value in read(source.load().settings) if value.startswith(incomplete))
            # Values that need quotes are left out: the scripts of the shells insert values unchanged.
            return list(islice((value for value in values if shlex.quote(value) == value), _MAX_VALUES))
        return []

    return complete


def _read_automations(settings: "Settings") -> Iterable[str]:
    from scheduler.cli.ledger_file import open_read_only
    from scheduler.ledger.automations import read_names

    with open_read_only(settings.ledger.url.path) as connection:
        return sorted(read_names(connection, None))


def _read_runs(settings: "Settings") -> Iterable[str]:
    from scheduler.cli.api_database import carry_out

    return carry_out(settings.api.database.path, _read_newest_runs)


async def _read_newest_runs(database: "Database") -> list[str]:
    from scheduler.cli.times import now
    from scheduler.localapi.runs import RunQueue

    runs: Iterable[Any] = await RunQueue(database, now).list_runs(limit=_NEWEST_RUNS)
    return [str(run["id"]) for run in runs]


def _read_zones(settings: "Settings") -> Iterable[str]:
    from scheduler.core.cron.zones import PLACEHOLDERS, load_zone_data

    del settings
    return sorted(load_zone_data().names - PLACEHOLDERS)


complete_automations: Final = _make_completer(_read_automations)
complete_runs: Final = _make_completer(_read_runs)
complete_zones: Final = _make_completer(_read_zones)
complete_targets: Final = _make_completer(lambda settings: [target.name for target in settings.targets])
