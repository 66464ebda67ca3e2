"""The output of commands: tables for people, and one JSON object per line for programs.

Names from an API may be hostile. Characters that move the cursor, ring the bell or change the direction of
text are printed as escapes. JSON is plain ASCII for the same reason.
"""

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, Literal, NamedTuple, TextIO, TypeVar

import click

from scheduler.cli.cells import cut, measure_width, wrap
from scheduler.core.errors import Unreachable
from scheduler.core.terminal_text import to_printable

Colour = Literal["red", "green", "yellow", "cyan", "bright_black"]
Json = Mapping[str, object]

_Record = TypeVar("_Record")
_GAP: Final = "  "
_MIN_WIDTH: Final = 8  # the least width of a cut column
_INDENT: Final = "    "  # for a text below its row
_MAX_LINES: Final = 4  # for a text below its row
_COLUMNS: Final = 80  # for a terminal of unknown width
_WHOLE: Final = 10_000
"""The least width of a column that is never cut: the column is shown whole, or disappears."""
_FAILURES: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO})


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text with a colour."""

    text: str
    colour: Colour | None = None


class Column(NamedTuple, Generic[_Record]):
    """A column of a table: its title, and the function that returns the text of a record.

    When a table is wider than the terminal, columns are narrowed in the order of their ``rank``, 1 first. A
    column is cut to ``least`` cells. When the table is still too wide, a column of this rank with ``drops``
    disappears. The texts of a ``below`` column then stand below their rows. A column of rank 0 is cut only
    when the table is too wide after all ranks: then all columns may be cut to 8 cells.

    An ``is_id`` column is whole, or has 8 characters, or has an ellipsis after as many characters as
    distinguish its ids. So no cut id looks whole. An ``is_id`` column without any id disappears.
    """

    title: str
    cell: Callable[[_Record], str | Cell]
    rank: int = 0
    least: int = 8
    drops: bool = False
    is_id: bool = False
    below: bool = False

    @classmethod
    def make_detail(
        cls, title: str, cell: Callable[[_Record], str | Cell], *, rank: int = 1
    ) -> "Column[_Record]":
        """Make a column that only a wide table shows."""
        return cls(title, cell, rank, least=_WHOLE, drops=True)

    @classmethod
    def make_text(cls, title: str, cell: Callable[[_Record], str | Cell]) -> "Column[_Record]":
        """Make a column of sentences, such as errors.

        When the table is too narrow for the column, each sentence stands below its row.
        """
        return cls(title, cell, rank=4, least=_WHOLE, drops=True, below=True)

    @classmethod
    def make_id(cls, title: str, cell: Callable[[_Record], str]) -> "Column[_Record]":
        """Make a column of ids. A narrow table shows the first characters, which commands accept as well."""
        return cls(title, cell, rank=2, is_id=True)

    @classmethod
    def make_name(cls, title: str, cell: Callable[[_Record], str]) -> "Column[_Record]":
        """Make a column of names, which are cut last."""
        return cls(title, cell, rank=9)


def show(
    records: Iterable[_Record],
    columns: Sequence[Column[_Record]],
    as_json: Callable[[_Record], Json] | None,
    *,
    empty: str = "nothing found",
) -> None:
    """Print records: as JSON lines with ``as_json``, otherwise as a table.

    A JSON line is printed as soon as its record is available. Without records, a table prints ``empty`` on
    standard error, outside the output proper.
    """
    if as_json is not None:
        for record in records:
            print_json(as_json(record))
        return
    lines = format_table(list(records), columns, get_terminal_width())
    print_lines(lines)
    if not lines:
        print_to_stderr(empty)


def format_table(
    records: Sequence[_Record], columns: Sequence[Column[_Record]], width: int | None = None
) -> list[str]:
    """Format the lines of a table, the titles first; no lines without records.

    ``width`` is the width of the terminal in cells; None: unlimited.
    """
    if not records:
        return []
    titles = [Cell(column.title, "bright_black") for column in columns]
    rows = [titles, *([_make_cell(column.cell(record)) for column in columns] for record in records)]
    widths = [max(measure_width(row[number].text) for row in rows) for number in range(len(columns))]
    below: list[int] = []
    if width is not None:
        fitted = _fit(widths, columns, rows, width)
        below = [number for number, column in enumerate(columns) if column.below and not fitted[number]]
        # Without the columns that go below, there may be room for details again.
        widths = [0 if number in below else cells for number, cells in enumerate(widths)]
        widths = _fit(widths, columns, rows, width)
    lines: list[str] = []
    for row in rows:
        shown = [part for part in zip(row, widths, columns, strict=True) if part[1]]
        lines.append(_GAP.join(_pad(*part) for part in shown).rstrip())
        for number in below if row is not titles else ():
            lines += _format_below(columns[number].title, row[number].text, width or 0)
    return lines


def format_indented_table(records: Sequence[_Record], columns: Sequence[Column[_Record]]) -> Iterator[str]:
    """Yield the lines of a table for the terminal, each after two spaces."""
    width = get_terminal_width()
    return (f"  {line}" for line in format_table(records, columns, width and width - 2))


def _format_below(title: str, text: str, width: int) -> list[str]:
    """Format a text that stands below its row. A text with too many lines is cut."""
    width = max(_MIN_WIDTH, width - len(_INDENT))
    lines = wrap(f"{title}: {text}", width, margin=0) if text else []
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES - 1 :] = [cut(" ".join(lines[_MAX_LINES - 1 :]), width)]
    return [_INDENT + line for line in lines]


def print_json(value: object) -> None:
    """Print a line of JSON, in ASCII, at once: a reader may wait for the line."""
    click.echo(json.dumps(value))


def print_line(text: str = "", *, is_whole: bool = False) -> None:
    """Print a line for people at once, because a reader may wait for the line.

    On a terminal the line is wrapped at words. ``is_whole``: do not wrap, because the line has a command to
    copy.
    """
    click.echo(text if is_whole else _wrap_for(sys.stdout, text))


def print_lines(lines: Iterable[str]) -> None:
    """Print each line as soon as it is available."""
    for line in lines:
        print_line(line)


def print_to_stderr(text: str, *, is_whole: bool = False) -> None:
    """Print a line on standard error, as `print_line` does. A write error is ignored."""
    with contextlib.suppress(OSError):
        click.echo(text if is_whole else _wrap_for(sys.stderr, text), err=True)


def _wrap_for(stream: TextIO | None, text: str) -> str:
    width = _find_width(stream)
    return text if width is None else "\n".join(wrap(text, width))


def make_progress_printer(done: str) -> Callable[[float], None]:
    """Make a function that shows the share of long work done, on one line of a terminal.

    The function writes to standard error, and prints nothing when standard error is not a terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda _: None

    def show_share(share: float) -> None:
        with contextlib.suppress(OSError):
            click.echo("\r\x1b[K" if share >= 1 else f"\r{done} {share:.0%}", err=True, nl=False)

    return show_share


class RawPrinter:
    """Prints the output of a run's command: unchanged, or on a terminal with escapes.

    On a terminal, characters that could control the terminal are escaped. A character may come in two pieces.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def print(self, pieces: Iterable[bytes]) -> None:
        """Print more pieces."""
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        for piece in pieces:
            click.echo(self._escape(piece) if on_terminal else piece, nl=False)

    def _escape(self, piece: bytes) -> str:
        return "\n".join(to_printable(line.expandtabs()) for line in self._decode(piece).split("\n"))


def prepare() -> None:
    """Make every character printable in any locale: characters missing in the encoding become escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def classify_output_error(error: OSError) -> Unreachable | None:
    """Convert a write error of the output; None when the reader has closed the pipe.

    Any other error is raised again.
    """
    if error.errno not in _FAILURES:
        raise error
    # Discard the remaining output. Otherwise the interpreter tries to write again at exit, and complains.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return None
    remedy = "check where the output is redirected to"
    return Unreachable(f"the output cannot be written: {error.strerror}; {remedy}")


def style(text: str, colour: Colour | None, *, error: bool = False) -> str:
    """Return the text in a colour, when the stream is a terminal with colours.

    ``error``: the stream is standard error.
    """
    stream = sys.stderr if error else sys.stdout
    return click.style(text, fg=colour) if colour and _has_colours(stream) else text


def get_terminal_width() -> int | None:
    """Return the width of the output's terminal, in cells; None when the output is not a terminal."""
    return _find_width(sys.stdout)


def _find_width(stream: TextIO | None) -> int | None:
    if stream is None or not stream.isatty():
        return None
    with contextlib.suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    return _COLUMNS


def _has_colours(stream: TextIO | None) -> bool:
    is_terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return is_terminal and not os.environ.get("NO_COLOR")  # https://no-color.org: not empty means no colours


def _make_cell(content: str | Cell) -> Cell:
    cell = content if isinstance(content, Cell) else Cell(content)
    return Cell(to_printable(cell.text), cell.colour)


def _fit(
    widths: Sequence[int], columns: Sequence[Column[_Record]], rows: Sequence[Sequence[Cell]], room: int
) -> list[int]:
    """Return the column widths with which the table fits into the room; 0 hides a column."""
    fitted = list(widths)
    for rank in sorted({column.rank for column in columns if column.rank}):
        least = {
            number: _find_least_width(number, column, rows)
            for number, column in enumerate(columns)
            if column.rank == rank
        }
        for number, width in least.items():
            if columns[number].is_id and _compute_excess(fitted, room) > 0:  # at once, not cell by cell
                fitted[number] = min(fitted[number], width)
        _narrow(fitted, least, room)
        for number in sorted(least, key=lambda number: -widths[number]):
            if columns[number].drops and _compute_excess(fitted, room) > 0:
                fitted[number] = 0
    least = {number: min(_MIN_WIDTH, width) for number, width in enumerate(fitted)}
    _narrow(fitted, {number: width for number, width in least.items() if not columns[number].is_id}, room)
    _narrow(fitted, least, room)
    return fitted


def _narrow(widths: list[int], least: Mapping[int, int], room: int) -> None:
    """Cut the widest of some columns, cell by cell, until the table fits or all have their least width."""
    for _ in range(_compute_excess(widths, room)):
        wider = [number for number in least if widths[number] > least[number]]
        if not wider:
            return
        widths[max(wider, key=lambda number: widths[number])] -= 1


def _compute_excess(widths: Sequence[int], room: int) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + len(_GAP) * (len(shown) - 1) - room


def _find_least_width(number: int, column: Column[_Record], rows: Sequence[Sequence[Cell]]) -> int:
    """Return the least width of a column.

    For ids, the width is `_MIN_WIDTH`, or the characters in which the ids differ and an ellipsis. Without
    ids, the width is 0.
    """
    if not column.is_id:
        return column.least
    texts = sorted({row[number].text for row in rows[1:]} - {""})
    if not texts:
        return 0
    common = map(os.path.commonprefix, pairwise(texts))
    alike = max(map(len, common), default=0)
    return max(_MIN_WIDTH, len(column.title)) if alike < _MIN_WIDTH else alike + 2


def _pad(cell: Cell, width: int, column: Column[_Record]) -> str:
    text = cell.text[:width] if column.is_id and width <= _MIN_WIDTH else cut(cell.text, width)
    return style(text, cell.colour) + " " * (width - measure_width(text))
