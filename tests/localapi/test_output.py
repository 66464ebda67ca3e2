"""What is kept of an output: all of it, or its beginning and its end, and never more than so much."""

import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scheduler.localapi.runner.output import Output

LAST = 16 * 1024


def kept(folder: Path, limit: int, *printed: bytes) -> bytes:
    file = folder / "output"
    file.unlink(missing_ok=True)
    with closing(Output(file, limit)) as output:
        for part in printed:
            output.write(part)
    return file.read_bytes()


def test_what_fits_is_kept_as_it_was_printed(tmp_path: Path) -> None:
    assert kept(tmp_path, 10, b"12345", b"", b"67890") == b"1234567890"


def test_what_is_printed_is_in_the_file_at_once(tmp_path: Path) -> None:
    with closing(Output(tmp_path / "output", 100)) as output:
        output.write(b"one\n")
        assert (tmp_path / "output").read_bytes() == b"one\n"


def test_what_is_too_much_leaves_its_end_and_says_how_much_is_missing(tmp_path: Path) -> None:
    assert kept(tmp_path, 4, b"begin", b"end") == b"begi\n[... 0 bytes left out ...]\nnend"
    assert kept(tmp_path, 4, b"begin", b"x" * 100_000, b"end") == (
        b"begi\n[... %d bytes left out ...]\n" % (100_004 - LAST) + b"x" * (LAST - 3) + b"end"
    )


@given(st.integers(1, 50_000), st.lists(st.binary(max_size=4000).map(lambda part: part * 10), max_size=8))
def test_no_output_is_larger_than_it_may_be(limit: int, printed: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, content = b"".join(printed), kept(Path(folder), limit, *printed)
    assert content[:limit] == whole[:limit]
    assert content.endswith(whole[limit:][-LAST:])
    assert len(content) <= limit + LAST + 50


def test_a_note_stands_behind_everything_on_a_line_of_its_own_and_is_no_word_of_the_command(
    tmp_path: Path,
) -> None:
    for printed, limit, expected in (
        (b"", 9, b"[one]\n[two]\n"),
        (b"a\n", 9, b"a\n[one]\n[two]\n"),
        (b"a", 9, b"a\n[one]\n[two]\n"),
        (b"abc", 1, b"a\n[... 0 bytes left out ...]\nbc\n[one]\n[two]\n"),
    ):
        file = tmp_path / "output"
        file.unlink(missing_ok=True)
        with closing(Output(file, limit)) as output:
            output.write(printed)
            output.add_note("one")
            output.add_note("two")
            assert output.tail == printed
        assert file.read_bytes() == expected


def test_a_full_disk_takes_the_output_and_nothing_else() -> None:
    with closing(Output(Path("/dev/full"), 100)) as output:
        output.write(b"one")
        output.write(b"two")
        assert output.tail == b"onetwo"
