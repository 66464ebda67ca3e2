"""What a run has printed, as lines for its automation's page: without what steers a terminal, and no more than somebody reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.status import RunOutputTail
from scheduler.core.terminal_text import strip_terminal_codes

MAX_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class OutputView:
    """The last lines of an output. ``is_cut``: there are more before these. ``size`` is in bytes. ``error``: why there is none."""

    lines: Sequence[str]
    size: int
    is_cut: bool
    error: str | None


def make_output_view(output: RunOutputTail | None) -> OutputView | None:
    """Make the lines; None when nothing is known of an output."""
    if output is None or (output.text is None and output.error is None):
        return None
    text, size = output.text or "", output.size or 0
    lines = [_apply_carriage_returns(line) for line in strip_terminal_codes(text).rstrip().split("\n")] if text.strip() else []
    is_cut = len(lines) > MAX_LINES or size > len(text.encode(errors="replace"))
    return OutputView(lines[-MAX_LINES:], size, is_cut, output.error)


def _apply_carriage_returns(line: str) -> str:
    """Keep what a terminal would show of a line that begins anew, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2].expandtabs()
