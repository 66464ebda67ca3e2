"""Values from rows: each field of a value is the column of the same name, or derived from the row."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeVar, get_type_hints

from scheduler.core.instants import from_optional_text, from_text

T = TypeVar("T")
Derive = Callable[[sqlite3.Row], object]
"""A function that makes the value of a field from the whole row."""

_CONVERSIONS: Final[Mapping[Any, Callable[[Any], object]]] = {
    datetime: from_text,
    datetime | None: from_optional_text,
    bool: bool,
}
_read_type_hints: Final[Callable[[Any], Mapping[str, Any]]] = cache(get_type_hints)


def parse_rows(kind: type[T], rows: sqlite3.Cursor, **derived: Derive) -> list[T]:
    """Make a value of each row, see `make_parser`."""
    return list(map(make_parser(kind, rows, **derived), rows))


def parse_first(kind: type[T], rows: sqlite3.Cursor) -> T | None:
    """Make a value of the first row; None without a row."""
    return next(iter(parse_rows(kind, rows)), None)


def make_parser(kind: type[T], rows: sqlite3.Cursor, **derived: Derive) -> Callable[[sqlite3.Row], T]:
    """Make the function from a row of this query to a value.

    The types of the fields decide how the columns are read. ``derived`` has functions for single fields. Any
    other field without a column has its default. Columns without a field are ignored.
    """
    columns = [column for column, *_ in rows.description]
    fields = [
        (field, columns.index(field), _choose_conversion(hint))
        for field, hint in _read_type_hints(kind).items()
        if field in columns and field not in derived
    ]

    def parse(row: sqlite3.Row) -> T:
        values = {field: convert(row[index]) for field, index, convert in fields}
        return kind(**values, **{field: derive(row) for field, derive in derived.items()})

    return parse


def _choose_conversion(hint: Any) -> Callable[[Any], object]:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return _CONVERSIONS.get(hint, lambda value: value)
