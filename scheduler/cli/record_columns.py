"""Columns and colours of records: local times with their zone, outcomes and runs."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar

from scheduler.cli.output import Cell, Colour, Column
from scheduler.cli.times import find_usable_zone, format_in_zone
from scheduler.core.instants import to_text_seconds

_Record = TypeVar("_Record")
_MAX_TITLE: Final = 24
"""Maximum length of a title, in characters: the length of a local time."""
_OUTCOMES: Final[Mapping[str | None, Colour]] = {
    "rejected": "red",
    "unresolved": "red",
    "expired": "red",
    "skipped": "yellow",
    None: "cyan",
}
_RUNS: Final[Mapping[str | None, Colour]] = {
    "success": "green",
    "failed": "red",
    "lost": "red",
    "superseded": "yellow",
    "running": "cyan",
}


def make_time_columns(
    records: Sequence[_Record],
    title: str,
    instant: Callable[[_Record], datetime],
    timezone: Callable[[_Record], str | None],
) -> list[Column[_Record]]:
    """Make the columns for local time, UTC and zone.

    When all records are in one zone, the title names the zone, and the zone column is left out.
    """

    def find_zone(record: _Record) -> str:
        return find_usable_zone(timezone(record))

    zones = {find_zone(record) for record in records}
    with_seconds = any(instant(record).second for record in records)  # all rows show seconds, or no row
    only = zones.pop() if len(zones) == 1 else None
    local = Column[_Record](
        _make_title(title, only),
        lambda record: format_in_zone(instant(record), find_zone(record), with_seconds=with_seconds),
    )
    utc: Column[_Record] = Column.make_detail("UTC", lambda record: to_text_seconds(instant(record)))
    return [local, utc] if only else [local, utc, Column.make_detail("zone", find_zone, rank=5)]


def _make_title(title: str, zone: str | None) -> str:
    if zone is None:
        return title
    whole = f"{title} in {zone}"
    return whole if len(whole) <= _MAX_TITLE else zone


def colour_outcome(outcome: str | None, run_status: str | None) -> Colour | None:
    """Return the colour of an outcome; the outcome None is an open occurrence.

    An accepted occurrence is green when its run succeeded, and has no colour before: a started run says
    nothing about its result.
    """
    if outcome == "accepted":
        return "green" if run_status == "success" else None
    return _OUTCOMES.get(outcome)


def make_run_cell(status: str) -> Cell:
    """Return the cell for a run's status; the status is empty without a run."""
    return Cell(status, colour_run(status))


def colour_run(status: str | None) -> Colour | None:
    """Return the colour of a run's status, in the ledger or in the embedded API."""
    return _RUNS.get(status)
