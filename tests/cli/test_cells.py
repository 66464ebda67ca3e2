"""Text on a terminal: it is broken at words, and what follows hangs below its beginning."""

import ast
from pathlib import Path

import pytest

from scheduler.cli import output
from scheduler.cli.cells import measure_width, wrap
from scheduler.cli.failures import AnswerIsNo, report

SENTENCE = "the occurrence waits for its throttled target and will expire before that"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        ("", [""]),
        (SENTENCE, ["the occurrence waits for its throttled", "  target and will expire before that"]),
        (
            f"  {SENTENCE}",
            ["  the occurrence waits for its throttled", "    target and will expire before that"],
        ),
        (
            f"title    {SENTENCE}",
            [
                "title    the occurrence waits for its",
                "         throttled target and will",
                "         expire before that",
            ],
        ),
        (
            f"  a  {SENTENCE}",
            [
                "  a  the occurrence waits for its",
                "     throttled target and will expire",
                "     before that",
            ],
        ),
        (
            f"a title that is wide   {SENTENCE[:28]}",
            ["a title that is wide   the occurrence", "  waits for its"],
        ),
        (
            "make up for it now with `scheduler fire x 09:00` please",
            ["make up for it now with", "  `scheduler fire x 09:00` please"],
        ),
        (f"`{SENTENCE}`", [f"`{SENTENCE}`"]),
        (f"see `{SENTENCE}`; then go on", ["see", f"  `{SENTENCE}`;", "  then go on"]),
        ("see " + "x" * 60, ["see", "  " + "x" * 38, "  " + "x" * 22]),
        ("日本語 " * 8, ["日本語 日本語 日本語 日本語 日本語", "  日本語 日本語 日本語"]),
        ("first\nsecond", ["first", "second"]),
        (
            f"\x1b[31mred\x1b[0m  {SENTENCE[:49]}",
            ["\x1b[31mred\x1b[0m  the occurrence waits for its", "     throttled target and"],
        ),
    ],
)
def test_a_text_is_broken_at_words_and_hangs(text: str, lines: list[str]) -> None:
    assert [line.rstrip() for line in wrap(text, 40)] == lines


@pytest.mark.parametrize("width", [1, 2, 5, 20])
@pytest.mark.parametrize(
    "text", [SENTENCE, f"  open  {SENTENCE}", "x" * 50, "`a b c` " * 9, "日本語日本語", " " * 90]
)
def test_nothing_is_lost_at_any_width(text: str, width: int) -> None:
    assert "".join("".join(wrap(text, width)).split()) == "".join(text.split())


def test_a_person_gets_lines_that_fit_and_a_pipe_gets_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = " ".join([SENTENCE] * 4)
    output.print_line(long)
    report(AnswerIsNo(long))
    assert capsys.readouterr() == (f"{long}\n", f"error: {long}\n")
    monkeypatch.setattr(output, "_find_width", lambda _: 80)
    output.print_line(long)
    output.print_json(long)
    output.print_line(long, is_whole=True)
    report(AnswerIsNo(long))
    taken = capsys.readouterr()
    *lines, json, whole = taken.out.splitlines()
    assert (json, whole) == (f'"{long}"', long)
    for shown in (lines, taken.err.splitlines()):
        assert len(shown) > 1
        assert max(map(measure_width, shown)) <= 80


def test_no_command_prints_past_the_function_that_wraps() -> None:
    folder = Path(output.__file__).parent
    for file in folder.rglob("*.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Call)
        }
        allowed = {"click.echo"} if file.name == "output.py" else set()
        assert (
            not called & {"click.echo", "click.secho", "print", "textwrap.wrap", "textwrap.fill"} - allowed
        ), file.name


def test_a_foreign_text_in_an_answer_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(AnswerIsNo("run x\nerror: y\u2028\x1b[2J", "  id\r", "  z")) == 1
    assert capsys.readouterr().err == "error: run x\\nerror: y\\u2028\\x1b[2J\n  id\\r\n  z\n"
