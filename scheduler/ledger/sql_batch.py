"""Many rows in one statement: the values are passed as a single JSON text, and SQLite unpacks the text.

A statement for each row would need Python's global lock again after each row, up to five milliseconds beside
a busy event loop. One statement for a thousand rows needs the lock once, and SQLite works on another core
meanwhile.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeVar

from scheduler.core import instants
from scheduler.core.model import Occurrence

Item = TypeVar("Item")
T = TypeVar("T")

Value = str | int | float | None
Apply = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T]]


class Contradiction(RuntimeError):
    """The request contradicts the recorded state: a mistake in the daemon. Nothing was written."""


def make_statement(columns: str, statement: str) -> str:
    """Make the statement, in which ``{given}`` is a table of these columns, filled from the first parameter.

    See `pack_rows`. Where the columns name an occurrence, ``{same}`` is the condition that the row is this
    occurrence.
    """
    # No WITH before the statement: Python's module would not recognize a statement that changes rows, and
    # would not count them.
    unpacked = ", ".join(
        f"value ->> {index} AS {column.strip()}" for index, column in enumerate(columns.split(","))
    )
    table = f"(SELECT {unpacked} FROM json_each(?1)) AS given"  # noqa: S608 -- literals of this package
    return statement.replace("{given}", table).replace("{same}", _SAME)


_SAME: Final = " AND ".join(
    f"occurrence.{column} = given.{column}" for column in ("scheduled_for", "automation_id", "target")
)


def pack_rows(rows: Sequence[Sequence[Value]]) -> str:
    """Pack the rows for a statement made by `make_statement`.

    Halves of surrogate pairs, which no database accepts, become question marks. NUL, at which SQLite's JSON
    functions cut a text off, becomes U+FFFD. In texts that decide anything, both are refused where the text
    comes in.
    """
    text = _encode(rows)
    if _ENCODED_NUL in text:  # or a backslash before "u0000", which stays unchanged
        text = _encode([[_replace_nul(value) for value in row] for row in rows])
    return text.encode(errors="replace").decode()


def _replace_nul(value: Value) -> Value:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


_ENCODED_NUL: Final = r"\u0000"


_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode

# Occurrences due together share their instants, and a datetime keeps its hash: a look-up costs a thirtieth of
# the formatting.
to_text: Final = lru_cache(maxsize=4096)(instants.to_text)
to_text_seconds: Final = lru_cache(maxsize=4096)(instants.to_text_seconds)


def to_optional_text(instant: datetime | None) -> str | None:
    """Return an instant as `to_text`, and None as None."""
    return None if instant is None else to_text(instant)


def to_identity(occurrence: Occurrence) -> tuple[str, str, str]:
    """Return target, automation and scheduled instant in the form of the table."""
    return occurrence.target, occurrence.automation_id, to_text_seconds(occurrence.scheduled_for)


def halve_on_contradiction(
    apply: Apply[Item, T],
) -> Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T | Exception]]:
    """Make an operation for `Database.write_together` from a function that writes all items or none.

    The function raises `Contradiction` when it writes none.

    In the usual case no item of a thousand is wrong, and all items take a few statements. Otherwise the items
    are halved until each wrong item is alone.
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


def _try_apply(
    connection: sqlite3.Connection, apply: Apply[Item, T], items: Sequence[Item]
) -> Sequence[T] | Contradiction:
    connection.execute("SAVEPOINT items")
    try:
        return apply(connection, items)
    except Contradiction as contradiction:
        connection.execute("ROLLBACK TO items")
        return contradiction
    finally:
        if connection.in_transaction:  # an error may have ended the transaction
            connection.execute("RELEASE items")
