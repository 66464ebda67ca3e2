"""Values from rows: each field of a value is the column of the same name."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar, get_type_hints

from scheduler.core.instants import from_optional_text, from_text

T = TypeVar("T")

_CONVERSIONS: Final[Mapping[Any, Callable[[Any], object]]] = {
    datetime: from_text,
    datetime | None: from_optional_text,
    bool: bool,
}
_conversions_by_kind: Final[dict[type, Mapping[str, Callable[[Any], object]]]] = {}


def parse_rows(kind: type[T], rows: sqlite3.Cursor) -> list[T]:
    """Make a value of each row. The types of the fields decide how the columns are read.

    A field without a column has its default. Columns without a field are ignored.
    """
    columns = [column for column, *_ in rows.description]
    fields = [
        (field, columns.index(field), convert)
        for field, convert in _find_conversions(kind).items()
        if field in columns
    ]
    return [kind(**{field: convert(row[index]) for field, index, convert in fields}) for row in rows]


def parse_first(kind: type[T], rows: sqlite3.Cursor) -> T | None:
    """Make a value of the first row; None without a row."""
    return next(iter(parse_rows(kind, rows)), None)


def _find_conversions(kind: type) -> Mapping[str, Callable[[Any], object]]:
    """Return the conversion of each field. The hints are resolved once: this takes longer than most reads."""
    if kind not in _conversions_by_kind:
        hints = get_type_hints(kind)
        _conversions_by_kind[kind] = {field: _choose_conversion(hint) for field, hint in hints.items()}
    return _conversions_by_kind[kind]


def _choose_conversion(hint: Any) -> Callable[[Any], object]:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return _CONVERSIONS.get(hint, lambda value: value)
