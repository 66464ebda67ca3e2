"""The time columns of a table about automations: local time in the automation's zone, with the zone."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from scheduler.cli.output import Column, make_detail_column
from scheduler.cli.times import find_usable_zone, format_in_zone
from scheduler.core.instants import to_text_seconds

_Record = TypeVar("_Record")
_MAX_TITLE: Final = 24
"""Maximum length of a title, in characters: the length of a local time."""


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
    utc: Column[_Record] = make_detail_column("UTC", lambda record: to_text_seconds(instant(record)))
    return [local, utc] if only else [local, utc, make_detail_column("zone", find_zone, rank=5)]


def _make_title(title: str, zone: str | None) -> str:
    if zone is None:
        return title
    whole = f"{title} in {zone}"
    return whole if len(whole) <= _MAX_TITLE else zone
