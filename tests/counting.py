"""How much work something is, as a count of what is executed: the same on every machine, however busy."""

import sqlite3
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_lines(operation: Callable[[], object]) -> int:
    """How many lines of Python the operation executes; a loop on one line counts once for each round."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(before)
    return count


STEPS_BETWEEN_COUNTS = 20


def count_steps(connection: sqlite3.Connection, operation: Callable[[sqlite3.Connection], object]) -> int:
    """How many steps SQLite's machine takes for the operation, rounded down to a multiple of
    `STEPS_BETWEEN_COUNTS`.
    """
    counts = [0]

    def count() -> int:
        counts[0] += STEPS_BETWEEN_COUNTS
        return 0

    connection.set_progress_handler(count, STEPS_BETWEEN_COUNTS)
    try:
        operation(connection)
    finally:
        connection.set_progress_handler(None, 0)
    return counts[0]
