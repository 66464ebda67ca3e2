"""The columns of a table that show when something of an automation happened: in the automation's own zone, with the zone named."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from scheduler.cli.output import Column, detail_column
from scheduler.cli.times import in_zone, usable_zone
from scheduler.core.instants import to_text_seconds

_Record = TypeVar("_Record")
_LONGEST: Final = 24
"""The characters of a title: as many as a local time has."""


def time_columns(
    records: Sequence[_Record],
    title: str,
    instant: Callable[[_Record], datetime],
    timezone: Callable[[_Record], str | None],
) -> list[Column[_Record]]:
    """Make the columns for local time, UTC and zone. When all records are in one zone, the title names it instead of a column."""

    def zone_of(record: _Record) -> str:
        return usable_zone(timezone(record))

    zones = {zone_of(record) for record in records}
    with_seconds = any(instant(record).second for record in records)  # all rows have them, or none
    only = zones.pop() if len(zones) == 1 else None
    local = Column[_Record](_name(title, only), lambda record: in_zone(instant(record), zone_of(record), with_seconds=with_seconds))
    utc: Column[_Record] = detail_column("UTC", lambda record: to_text_seconds(instant(record)))
    return [local, utc] if only else [local, utc, detail_column("zone", zone_of, rank=5)]


def _name(title: str, zone: str | None) -> str:
    if zone is None:
        return title
    whole = f"{title} in {zone}"
    return whole if len(whole) <= _LONGEST else zone
