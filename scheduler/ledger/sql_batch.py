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
from typing import Any, Final, TypeVar

from scheduler.core import instants
from scheduler.core.model import Occurrence

Item = TypeVar("Item")

Value = str | int | float | datetime | None
Apply = Callable[[sqlite3.Connection, Sequence[Item]], None]
"""A function that writes all items, or raises `Contradiction`."""


class Contradiction(RuntimeError):
    """The request contradicts the recorded state: a mistake in the daemon. Nothing was written."""


OCCURRENCE: Final = "target, automation_id, scheduled_for"
"""The columns with the identity of an occurrence, see `to_identity`."""


def make_statement(columns: str, statement: str) -> str:
    """Make the statement, in which ``{given}`` is a table of these columns, filled from the first parameter.

    See `pack_rows`. ``{columns}`` is the list of the columns. Where the columns name an occurrence,
    ``{same}`` is the condition that the row is this occurrence.
    """
    # No WITH before the statement: Python's module would not recognize a statement that changes rows, and
    # would not count them.
    unpacked = ", ".join(
        f"value ->> {index} AS {column.strip()}" for index, column in enumerate(columns.split(","))
    )
    table = f"(SELECT {unpacked} FROM json_each(?1)) AS given"  # noqa: S608 -- literals of this package
    return statement.replace("{given}", table).replace("{columns}", columns).replace("{same}", _SAME)


_SAME: Final = " AND ".join(
    f"occurrence.{column} = given.{column}" for column in ("scheduled_for", "automation_id", "target")
)


def pack_rows(rows: Sequence[Sequence[Value]]) -> str:
    """Pack the rows for a statement made by `make_statement`. Instants become texts as by `to_text`.

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


# Occurrences due together share their instants, and a datetime keeps its hash: a look-up costs a thirtieth of
# the formatting.
to_text: Final = lru_cache(maxsize=4096)(instants.to_text)
to_text_seconds: Final = lru_cache(maxsize=4096)(instants.to_text_seconds)

_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":"), default=to_text
).encode


def to_identity(occurrence: Occurrence) -> tuple[str, str, str]:
    """Return target, automation and scheduled instant in the form of the table."""
    return occurrence.target, occurrence.automation_id, to_text_seconds(occurrence.scheduled_for)


def read_json(rows: sqlite3.Cursor) -> Any:
    """Read the single JSON text of a query, the packed rows of the result."""
    (text,) = rows.fetchone()
    return json.loads(text)


def change_each(
    connection: sqlite3.Connection, statement: str, rows: str, items: Sequence[object], contradiction: str
) -> None:
    """Execute a statement that changes a row for each item, or raise `Contradiction` with this text."""
    if connection.execute(statement, (rows,)).rowcount != len(items):
        raise Contradiction(f"{contradiction}: {items[0]}")


def halve_on_contradiction(
    apply: Apply[Item],
) -> Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Contradiction | None]]:
    """Make an operation for `Database.write_together` from a function that writes all items or none.

    In the usual case no item of a thousand is wrong, and all items take a few statements. Otherwise the items
    are halved until each wrong item is alone.
    """

    def apply_in_halves(
        connection: sqlite3.Connection, items: Sequence[Item]
    ) -> Sequence[Contradiction | None]:
        contradiction = _try_apply(connection, apply, items)
        if contradiction is None or len(items) == 1:
            return [contradiction] * len(items)
        half = len(items) // 2
        return [*apply_in_halves(connection, items[:half]), *apply_in_halves(connection, items[half:])]

    return apply_in_halves


def _try_apply(
    connection: sqlite3.Connection, apply: Apply[Item], items: Sequence[Item]
) -> Contradiction | None:
    connection.execute("SAVEPOINT items")
    try:
        apply(connection, items)
    except Contradiction as contradiction:
        connection.execute("ROLLBACK TO items")
        return contradiction
    else:
        return None
    finally:
        if connection.in_transaction:  # an error may have ended the transaction
            connection.execute("RELEASE items")
