"""Reading what a run prints, while it prints, whatever the command does with the file."""

import os
import sys
from pathlib import Path

import pytest

from scheduler.cli.output import RawPrinter
from scheduler.cli.tail import GrowingFile
from scheduler.core.errors import Unreachable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output"


def rest(file: GrowingFile) -> bytes:
    return b"".join(file.read_rest())


def test_each_part_is_read_once(path: Path) -> None:
    file = GrowingFile(path)
    assert rest(file) == b"", "it is not there yet"
    path.write_bytes(b"one")
    assert rest(file) == b"one"
    with path.open("ab") as more:
        more.write(b"two")
    assert [rest(file), rest(file)] == [b"two", b""]


def test_one_that_was_emptied_begins_anew(path: Path) -> None:
    file = GrowingFile(path)
    path.write_bytes(b"0123456789")
    assert rest(file) == b"0123456789"
    path.write_bytes(b"again")
    assert rest(file) == b"again"


def test_a_large_one_comes_in_pieces_and_no_more_of_it_than_is_wanted(path: Path) -> None:
    with path.open("wb") as large:
        large.truncate(10**9)
    assert len(GrowingFile(path).read_head(100_000)) == 100_000
    assert len(next(GrowingFile(path).read_rest())) < 10**6


def test_nobody_waits_at_a_pipe(path: Path) -> None:
    os.mkfifo(path)
    assert rest(GrowingFile(path)) == b""


def test_a_link_is_not_followed_but_told(path: Path) -> None:
    path.symlink_to("/etc/passwd")
    with pytest.raises(
        Unreachable,
        match=r"the output .*/output cannot be read: Too many levels of symbolic links; run the command "
        r"as the user",
    ):
        rest(GrowingFile(path))


def test_a_character_may_come_in_two_pieces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    raw = RawPrinter()
    raw.print([b"a\xc3", b"\xa9"])
    raw.print([b"\x1b[31m\xff\n"])
    assert capsys.readouterr().out == "aé\\x1b[31m\N{REPLACEMENT CHARACTER}\n"
