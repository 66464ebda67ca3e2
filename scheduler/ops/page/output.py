"""The output of a run for its automation's page: the last lines, without terminal control codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.status import RunOutputTail
from scheduler.core.terminal_text import strip_terminal_codes

MAX_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class OutputView:
    """The last lines of an output.

    ``is_cut`` means that earlier lines are left out. ``size`` is in bytes. ``error`` is the reason for a
    missing output.
    """

    lines: Sequence[str]
    size: int
    is_cut: bool
    error: str | None


def make_output_view(output: RunOutputTail | None) -> OutputView | None:
    """Return the last lines, None when no output is known."""
    if output is None or (output.text is None and output.error is None):
        return None
    text, size = output.text or "", output.size or 0
    printed = strip_terminal_codes(text).rstrip().split("\n") if text.strip() else []
    lines = [_apply_carriage_returns(line) for line in printed]
    is_cut = len(lines) > MAX_LINES or size > len(text.encode(errors="replace"))
    return OutputView(lines[-MAX_LINES:], size, is_cut, output.error)


def _apply_carriage_returns(line: str) -> str:
    """Return the text that a terminal shows after carriage returns, as in progress bars."""
    return line.rstrip("\r").rpartition("\r")[2].expandtabs()
