"""What a run has printed, as lines for its automation's page: without what steers a terminal, and no more than somebody reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.printable import strip_terminal_codes
from scheduler.core.status import RunOutput

MOST_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class ShownOutput:
    """The last lines of an output. ``is_cut``: there are more before these. ``size`` is in bytes. ``error``: why there is none."""

    lines: Sequence[str]
    size: int
    is_cut: bool
    error: str | None


def show_output(output: RunOutput | None) -> ShownOutput | None:
    """Make the lines; None when nothing is known of an output."""
    if output is None or (output.text is None and output.error is None):
        return None
    text, size = output.text or "", output.size or 0
    lines = [_overwrite(line) for line in strip_terminal_codes(text).rstrip().split("\n")] if text.strip() else []
    is_cut = len(lines) > MOST_LINES or size > len(text.encode(errors="replace"))
    return ShownOutput(lines[-MOST_LINES:], size, is_cut, output.error)


def _overwrite(line: str) -> str:
    """Keep what a terminal would show of a line that begins anew, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2].expandtabs()
