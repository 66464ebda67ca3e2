"""The process's log: for whom it is drawn, who else writes into it, and that no reader can hold up who
writes.
"""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

import pytest
import structlog

from scheduler.ops.logs import Log, LogFormat, LogLevel
from scheduler.ops.writer import LogWriter, StreamOutput
from tests.ops.support import HOSTILE, NOW, eventually

DEADLINE = 20.0
ESCAPE = "\x1b"


CONTROLS = ["\x1b[31mred", "\x9b2J", "\u202egnp.exe", "\x07", "a\u2028b", "\ufeff"]


@contextmanager
def a_log(
    stream: TextIO,
    *,
    format: LogFormat = "auto",  # noqa: A002  as the log calls it
    level: LogLevel = "info",
    limit: int = 20_000,
) -> Iterator[Log]:
    with closing(
        Log(format=format, level=level, node="vm1", now=lambda: NOW, stream=stream, limit=limit)
    ) as log:
        yield log


def logged(file: Path, write: Callable[[], object], **how: Any) -> list[str]:
    with file.open("w") as stream, a_log(stream, **how):
        write()
    return file.read_text().splitlines()


class Terminal:
    """A pseudo-terminal: what is written to ``stream``, a person sees as ``shown``."""

    def __init__(self) -> None:
        self._person, program = os.openpty()
        self.stream = os.fdopen(program, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        os.close(self._person)

    def shown(self) -> str:
        return os.read(self._person, 1_000_000).decode().replace("\r\n", "\n")


def on_a_terminal(write: Callable[[], object], **how: Any) -> str:
    with Terminal() as terminal:
        with a_log(terminal.stream, **how):
            write()
        return terminal.shown()


def say(event: str = "occurrence.accepted", **keys: object) -> None:
    structlog.get_logger().info(event, **keys)


@pytest.fixture(autouse=True)
def _a_terminal_that_can_do_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


# ------------------------------------------------------------ for whom it is drawn


def test_a_program_reads_json(tmp_path: Path) -> None:
    (line,) = logged(tmp_path / "log", lambda: say(automation="nightly"))
    assert json.loads(line) == {
        "timestamp": "2026-11-23T19:20:00.000000Z",
        "level": "info",
        "event": "occurrence.accepted",
        "automation": "nightly",
        "node": "vm1",
    }


def test_a_person_on_a_terminal_reads_a_coloured_line() -> None:
    shown = on_a_terminal(lambda: say(automation="nightly"))
    assert ESCAPE in shown
    assert (
        re.sub(r"\x1b\[[0-9;]*m", "", shown)
        == "2026-11-23T19:20:00.000Z [info     ] occurrence.accepted    automation=nightly\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "colour"), [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)]
)
def test_who_wants_no_colour_gets_none(
    name: str, value: str, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert (ESCAPE in on_a_terminal(lambda: say(automation="nightly"))) is colour


def test_what_is_set_counts_wherever_it_goes(tmp_path: Path) -> None:
    assert on_a_terminal(say, format="json").startswith("{")
    (line,) = logged(tmp_path / "log", say, format="console")
    assert line.startswith("2026-11-23T19:20:00.000Z [info     ]")
    assert ESCAPE not in line


# ------------------------------------------------------------ hostile names


def test_on_a_terminal_no_name_can_begin_a_line_add_a_key_or_be_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for keys in (
        {"automation": HOSTILE},
        {"error": HOSTILE},
        {"event": HOSTILE},
        *({"automation": each} for each in CONTROLS),
    ):
        shown = on_a_terminal(lambda keys=keys: say(**keys))  # type: ignore[misc]  # the event is among the keys
        assert shown.count("\n") == 1
        assert shown.endswith("\n")
        assert all(character.isprintable() for character in shown[:-1])


@pytest.mark.parametrize("name", ["a=b", "two words", "it's", 'a "quote"', "", "x level=error"])
def test_a_value_that_could_be_taken_for_more_is_quoted(name: str, tmp_path: Path) -> None:
    (line,) = logged(tmp_path / "log", lambda: say(automation=name, reason="paused"), format="console")
    assert f"automation={name!r} reason=paused" in line


def test_a_traceback_is_below_its_line_where_it_cannot_be_taken_for_one() -> None:
    def fail() -> None:
        error = ValueError(f"x\n2026-11-23T19:20:00.000Z [info] forged {ESCAPE}[31m")
        structlog.get_logger().error("occurrence.faulted", exc_info=error)

    first, *others = on_a_terminal(fail, format="console").splitlines()
    assert "occurrence.faulted" in first
    assert others
    assert all(line.startswith("    | ") for line in others)
    assert ESCAPE not in "".join(others)


def test_a_character_that_the_terminal_cannot_show_is_an_escape(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w", encoding="ascii") as stream, a_log(stream, format="console"):
        say(automation="Müll")
    assert "automation=M\\xfcll" in file.read_text()


# ------------------------------------------------------------ levels


def test_a_level_is_a_threshold_and_can_be_moved_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as stream, a_log(stream, level="warning") as log:
        kept = structlog.get_logger().bind()
        kept.info("one")
        kept.warning("two")
        log.set_level("debug")
        kept.debug("three")
        log.set_level("error")
        kept.warning("four")
        assert [log.is_enabled_for(level) for level in ("debug", "info", "warning", "error")] == [
            False,
            False,
            False,
            True,
        ]
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["two", "three"]


# ------------------------------------------------------------ who else writes into it


def test_warnings_and_worse_of_libraries_come_the_same_way(tmp_path: Path) -> None:
    def speak() -> None:
        logger = logging.getLogger("uvicorn.error")
        logger.info("Started server process [%d]", 7)
        logger.warning("Invalid HTTP request received.")
        logging.getLogger("asyncio").critical("worse")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    lines = [json.loads(line) for line in logged(tmp_path / "log", speak)]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("warning", "uvicorn.error"),
        ("critical", "asyncio"),
        ("warning", "py.warnings"),
    ]
    assert lines[0]["event"] == "Invalid HTTP request received."
    assert all(line["node"] == "vm1" for line in lines)


def test_a_library_that_sets_its_own_level_still_has_to_warn(tmp_path: Path) -> None:
    logger = logging.getLogger("tests.talkative")
    logger.setLevel(logging.DEBUG)
    assert logged(tmp_path / "log", lambda: logger.info("chatter"), level="debug") == []


def test_an_exception_that_a_library_logs_has_its_traceback(tmp_path: Path) -> None:
    def fail() -> None:
        try:
            int("x")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")

    (line,) = [json.loads(line) for line in logged(tmp_path / "log", fail)]
    assert line["event"] == "Exception in ASGI application"
    assert "ValueError: invalid literal" in line["exception"]


def test_a_library_that_logs_badly_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged(tmp_path / "log", lambda: logging.getLogger("x").warning("%d", "no number"))
    assert lines == []
    assert "no number" in capsys.readouterr().err


def test_a_level_between_two_counts_as_the_lower_one(tmp_path: Path) -> None:
    (line,) = logged(tmp_path / "log", lambda: logging.getLogger("x").log(35, "odd"))
    assert json.loads(line)["level"] == "warning"


def test_everything_is_as_before_when_it_is_closed(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level, warnings.showwarning
    logged(tmp_path / "log", say)
    assert (list(root.handlers), root.level, warnings.showwarning) == before
    assert not structlog.is_configured()


# ------------------------------------------------------------ readers


def lines_of(count: int, at: int = 0) -> list[str]:
    return [f"line {number} " + "x" * 200 for number in range(at, at + count)]


class Pipe:
    """A pipe that nobody empties until ``read`` does, to its end."""

    def __init__(self) -> None:
        self._reader, writing = os.pipe()
        self.stream = os.fdopen(writing, "w")

    def read(self) -> list[str]:
        with os.fdopen(self._reader) as reader:
            return reader.read().splitlines()

    def reading(self) -> tuple[threading.Thread, list[str]]:
        lines: list[str] = []
        thread = threading.Thread(target=lambda: lines.extend(self.read()))
        thread.start()
        return thread, lines


def test_nobody_waits_for_a_reader_and_what_was_left_out_is_counted() -> None:
    pipe = Pipe()
    out = LogWriter(StreamOutput(pipe.stream), lost=lambda lines: f"lost {lines}", limit=500)
    for line in lines_of(5000):
        out.write(line)  # some hundred fit into the pipe: waiting for the rest would be for ever
    thread, read = pipe.reading()
    eventually(out._lines.empty)
    out.write("after")
    out.close(DEADLINE)  # a busy machine may need more than the two seconds that a process gives it
    pipe.stream.close()
    thread.join()
    lost = sum(int(line.split()[1]) for line in read if line.startswith("lost"))
    kept = [line for line in read if line.startswith("line")]
    assert len(kept) + lost == 5000
    assert kept[:500] == lines_of(500)
    unique = set(kept)
    assert kept == [line for line in lines_of(5000) if line in unique]  # in order, and none twice
    assert "after" in read


def test_the_line_for_those_left_out_is_one_of_the_log() -> None:
    pipe = Pipe()
    with a_log(pipe.stream, limit=10) as log:
        for number in range(2000):
            say("x" * 200, number=number)
        thread, read = pipe.reading()
        eventually(log._writer._lines.empty)
        say("after")
        log.close()
        pipe.stream.close()
        thread.join()
    lines = [json.loads(line) for line in read]
    lost = [line for line in lines if line["event"] == "log.lost"]
    assert {line["level"] for line in lost} == {"warning"}
    assert sum(line["lines"] for line in lost) == 2000 - sum("number" in line for line in lines)


def test_a_stuck_reader_does_not_keep_the_process_from_ending() -> None:
    pipe = Pipe()
    out = LogWriter(StreamOutput(pipe.stream), lost=str)
    for line in lines_of(5000):
        out.write(line)
    begun = time.monotonic()
    out.close(patience=0.05)
    assert time.monotonic() - begun < DEADLINE / 4
    thread, read = pipe.reading()  # lets the writer's thread end
    out._thread.join(DEADLINE)
    pipe.stream.close()
    thread.join()
    assert read == lines_of(5000)


def test_whatever_goes_wrong_with_some_lines_the_next_ones_get_out() -> None:
    written: list[str] = []

    def out(lines: Sequence[str]) -> int:
        if "bad" in lines:
            raise RuntimeError("no idea")
        written.extend(lines)
        return 0

    writer = LogWriter(out, lost=lambda lines: f"lost {lines}")
    writer.write("bad")
    eventually(lambda: writer._lost == 1)
    writer.write("good")
    writer.close(DEADLINE)
    assert written == ["good", "lost 1"]


def test_a_reader_that_has_gone_is_no_ones_fault() -> None:
    reader, writing = os.pipe()
    os.close(reader)
    with os.fdopen(writing, "w") as stream:
        out = LogWriter(StreamOutput(stream), lost=str)
        out.write("to nobody")
        eventually(lambda: out._lost == 1)
        out.close()
    assert not out._thread.is_alive()


class Disk:
    """``os.write`` on a disk with so many bytes of room."""

    def __init__(self, room: int) -> None:
        self._write = os.write
        self.room = room

    def write(self, file: int, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(file, content[: self.room])
        self.room -= written
        return written


def test_a_full_disk_costs_lines_which_are_counted_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(3)
    monkeypatch.setattr("os.write", disk.write)
    with (tmp_path / "log").open("w") as stream:
        out = LogWriter(StreamOutput(stream), lost=lambda lines: f"lost {lines}")
        out.write("torn")
        eventually(lambda: out._lost == 1)
        disk.room = 1000
        out.write("whole")
        out.close()
    assert (tmp_path / "log").read_text() == "tor\nwhole\nlost 1\n"


def test_a_terminal_that_somebody_set_not_to_wait_is_waited_for() -> None:
    pipe = Pipe()
    os.set_blocking(pipe.stream.fileno(), False)
    out = LogWriter(StreamOutput(pipe.stream), lost=str)
    for line in lines_of(3000):
        out.write(line)
    thread, read = pipe.reading()
    out.close(DEADLINE)
    pipe.stream.close()
    thread.join()
    assert read == lines_of(3000)


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as stream:
        out = LogWriter(StreamOutput(stream), lost=str)

        def write(at: int) -> None:
            for line in lines_of(500, at):
                out.write(line)

        threads = [threading.Thread(target=write, args=(at,)) for at in range(0, 2000, 500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        out.close()
    assert sorted(file.read_text().splitlines()) == sorted(lines_of(2000))


def test_what_is_logged_after_a_flush_up_to_the_end_of_the_process_is_a_line_like_the_others() -> None:
    """The last line of a daemon that had stopped was once console text among JSON."""
    script = """
import logging
from datetime import UTC, datetime
import structlog
from scheduler.ops.logs import Log
log = Log(format="json", level="info", node="n", now=lambda: datetime(2026, 11, 23, tzinfo=UTC))
structlog.get_logger().info("daemon.stopped")
log.flush()
print("flushed", flush=True)
structlog.get_logger().info("late")
logging.getLogger("asyncio").error("late, too")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=DEADLINE)
    stopped, flushed, *late = done.stdout.decode().splitlines()
    assert flushed == "flushed"
    assert [json.loads(line)["event"] for line in (stopped, *late)] == ["daemon.stopped", "late", "late, too"]
    assert done.stderr == b""


def test_what_was_printed_before_stays_before_and_the_end_of_the_process_loses_nothing() -> None:
    script = """
import sys
from contextlib import closing
from datetime import UTC, datetime
import structlog
from scheduler.ops.logs import Log
print("printed", end="")
print()
with closing(Log(format="json", level="info", node="n", now=lambda: datetime(2026, 11, 23, tzinfo=UTC))):
    for number in range(3000):
        structlog.get_logger().info("line", number=number)
"""
    lines = (
        subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=DEADLINE)
        .stdout.decode()
        .splitlines()
    )
    assert lines[0] == "printed"
    assert [json.loads(line)["number"] for line in lines[1:]] == list(range(3000))
