"""Many rows in one statement: the values go in as one JSON text, which SQLite unpacks.

A statement for each row would need Python's global lock back after each, up to five milliseconds beside a busy event loop. One statement
for a thousand rows needs it once, and SQLite works on another core meanwhile.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from scheduler.core import instants
from scheduler.core.model import Occurrence

Item = TypeVar("Item")
T = TypeVar("T")

Value = str | int | float | None
Apply = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T]]


class Contradiction(RuntimeError):
    """What was asked does not follow from what is recorded: a mistake in the daemon. Nothing was written."""


def make_statement(columns: str, statement: str) -> str:
    """The ``statement``, in which ``{given}`` is a table of these columns, filled from the first parameter; see `pack_rows`.

    Where the columns name an occurrence, ``{same}`` says that the row is that one.
    """
    # No WITH before the statement: Python's module would not know it for one that changes rows, and count none.
    unpacked = ", ".join(f"value ->> {index} AS {column.strip()}" for index, column in enumerate(columns.split(",")))
    table = f"(SELECT {unpacked} FROM json_each(?1)) AS given"  # noqa: S608 -- literals of this package
    return statement.replace("{given}", table).replace("{same}", _SAME)


_SAME: Final = " AND ".join(f"occurrence.{column} = given.{column}" for column in ("scheduled_for", "automation_id", "target"))


def pack_rows(rows: Sequence[Sequence[Value]]) -> str:
    """The rows for a statement made by `make_statement`. Halves of surrogate pairs, which no database takes, become question marks.

    NUL, at which SQLite's JSON functions cut a text off, becomes U+FFFD. Both are refused where they come in, in what decides anything.
    """
    text = _encode(rows)
    if _ENCODED_NUL in text:  # or a backslash before "u0000", which is left as it is
        text = _encode([[_replace_nul(value) for value in row] for row in rows])
    return text.encode(errors="replace").decode()


def _replace_nul(value: Value) -> Value:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


_ENCODED_NUL: Final = r"\u0000"


_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode

# What is due together shares its instants, and a datetime remembers its hash: looking the text up costs a thirtieth of making it.
to_text: Final = lru_cache(maxsize=4096)(instants.to_text)
to_text_seconds: Final = lru_cache(maxsize=4096)(instants.to_text_seconds)


def to_identity(occurrence: Occurrence) -> tuple[str, str, str]:
    """Target, automation and scheduled instant, as they stand in the table."""
    return occurrence.target, occurrence.automation_id, to_text_seconds(occurrence.scheduled_for)


def halve_on_contradiction(apply: Apply[Item, T]) -> Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T | Exception]]:
    """An operation for `Database.write_together` out of one that writes all its items or raises `Contradiction`.

    The usual case, in which nothing is wrong with any of a thousand, takes a few statements. Otherwise they are halved until what is
    wrong is alone.
    """

    def apply_in_halves(connection: sqlite3.Connection, items: Sequence[Item]) -> Sequence[T | Exception]:
        together = _try_apply(connection, apply, items)
        if not isinstance(together, Contradiction):
            return together
        if len(items) == 1:
            return [together]
        half = len(items) // 2
        return [*apply_in_halves(connection, items[:half]), *apply_in_halves(connection, items[half:])]

    return apply_in_halves


def _try_apply(connection: sqlite3.Connection, apply: Apply[Item, T], items: Sequence[Item]) -> Sequence[T] | Contradiction:
    connection.execute("SAVEPOINT items")
    try:
        return apply(connection, items)
    except Contradiction as contradiction:
        connection.execute("ROLLBACK TO items")
        return contradiction
    finally:
        if connection.in_transaction:  # a fault may have ended it
            connection.execute("RELEASE items")
