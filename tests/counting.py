"""How much work something is, as a count of the lines that Python executes: the same on every machine, however busy."""

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
