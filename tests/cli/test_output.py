"""Tables for people, and what hostile text does to them."""

import io
import json
import sys

import pytest

from scheduler.cli import output
from scheduler.cli.cells import measure_width
from scheduler.cli.output import Cell, Column, format_table, make_progress_printer, show
from scheduler.core.terminal_text import to_printable

Row = tuple[str, str]
COLUMNS: list[Column[Row]] = [
    Column("name", lambda row: row[0], rank=9),
    Column("state", lambda row: Cell(row[1], "red")),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本", "plain ünïcode 日本"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u200b\u2028", r"\u200b\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_does_not_print_itself_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert to_printable(text) == shown
    assert "\n" not in json.dumps({"text": text})
    assert json.dumps({"text": text}).isascii()


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert format_table([("a", "on"), ("longer", "x\n")], COLUMNS) == [
        "name    state",
        "a       on",
        r"longer  x\n",
    ]


def test_no_records_are_no_table() -> None:
    assert format_table([], COLUMNS) == []


def test_a_narrow_terminal_cuts_what_may_be_cut() -> None:
    lines = format_table([("x" * 50, "state")], COLUMNS, 30)
    assert lines[1] == "x" * 22 + "…  state"
    assert all(measure_width(line) <= 30 for line in lines)


def test_a_column_keeps_its_least_width_however_narrow_the_terminal() -> None:
    assert format_table([("x" * 50, "state")], COLUMNS, 1)[1] == "xxxxxxx…  state"


def test_wide_and_combining_characters_keep_the_columns_straight() -> None:
    lines = format_table([("日本", "a"), ("e\u0301te", "b"), ("abcd", "c")], COLUMNS)
    assert lines[1:] == ["日本  a", "e\u0301te   b", "abcd  c"]
    assert format_table([("日本日本日本日本", "a")], COLUMNS, 17)[1] == "日本日本…   a"


def shown_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stdout", stream)
    show([("a", "on")], COLUMNS, None)
    return stream.getvalue()


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[31mon\x1b[0m" in shown_on(Terminal(), monkeypatch)
    assert "\x1b" not in shown_on(io.StringIO(), monkeypatch)


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    assert "\x1b" not in shown_on(Terminal(), monkeypatch)


def test_an_empty_no_color_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b" in shown_on(Terminal(), monkeypatch)


def test_an_error_that_is_not_of_the_output_goes_on() -> None:
    with pytest.raises(FileNotFoundError):
        output.classify_output_error(FileNotFoundError(2, "no such file"))


def test_progress_is_one_line_of_a_terminal_that_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show_share = make_progress_printer("audited")
    for share in (0.25, 0.5, 1.0):
        show_share(share)
    assert terminal.getvalue() == "\raudited 25%\raudited 50%\r\x1b[K"


def test_progress_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    redirected = io.StringIO()
    monkeypatch.setattr(sys, "stderr", redirected)
    make_progress_printer("audited")(0.5)
    assert redirected.getvalue() == ""
