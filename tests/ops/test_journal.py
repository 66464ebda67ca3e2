"""The log as entries of systemd's journal: what a stand-in for its socket gets."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from scheduler.ops import journal
from scheduler.ops.logs import Log, LogFormat
from tests.ops.support import HOSTILE, NOW, eventually


class Journald:
    """The socket of the journal, and a stream that leads to it as far as a process can tell."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(20)
        self.stream = (folder / "stream").open("w")
        status = os.fstat(self.stream.fileno())
        self.named = f"{status.st_dev}:{status.st_ino}"

    def entry(self) -> dict[str, str]:
        """The next entry's fields, as journald reads them."""
        content, fields = self._socket.recv(1_000_000), {}
        while content:
            line, _, content = content.partition(b"\n")
            name, framed, value = line.partition(b"=")
            if not framed:
                size, content = int.from_bytes(content[:8], "little"), content[8:]
                value, content = content[:size], content[size + 1 :]
            assert name.decode() not in fields
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        self.stream.close()
        self._socket.close()


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    stand_in = Journald(tmp_path)
    monkeypatch.setenv("JOURNAL_STREAM", stand_in.named)
    monkeypatch.setattr(journal.Journal.__init__, "__defaults__", (stand_in.address,))
    yield stand_in
    stand_in.close()


def a_log(journald: Journald, format: LogFormat = "auto") -> closing[Log]:  # noqa: A002  as the log calls it
    return closing(Log(format=format, level="debug", node="vm1", now=lambda: NOW, stream=journald.stream))


def logged(journald: Journald, write: Callable[[], object], format: LogFormat = "auto") -> dict[str, str]:  # noqa: A002  the same
    with a_log(journald, format):
        write()
        return journald.entry()


def say(**keys: object) -> Callable[[], object]:
    return lambda: structlog.get_logger().info("occurrence.accepted", **keys)


def test_each_key_of_a_line_is_a_field_and_the_message_is_the_line_itself(journald: Journald) -> None:
    entry = logged(
        journald,
        say(automation_id="a1", automation="nightly", lateness_seconds=0.002, targets=("main", "other")),
    )
    message = entry.pop("MESSAGE")
    assert entry == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "scheduler",
        "EVENT": "occurrence.accepted",
        "AUTOMATION_ID": "a1",
        "AUTOMATION": "nightly",
        "LATENESS_SECONDS": "0.002",
        "TARGETS": '["main", "other"]',
        "NODE": "vm1",
    }
    assert json.loads(message)["automation_id"] == "a1"
    assert Path(journald.stream.name).read_text() == ""


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_the_priority_is_that_of_the_level(level: str, priority: str, journald: Journald) -> None:
    assert logged(journald, lambda: getattr(structlog.get_logger(), level)("x"))["PRIORITY"] == priority


def test_the_message_is_drawn_where_that_is_set(journald: Journald) -> None:
    entry = logged(journald, say(automation="nightly"), "console")
    assert (
        entry["MESSAGE"] == "2026-11-23T19:20:00.000Z [info     ] occurrence.accepted    automation=nightly"
    )
    assert entry["AUTOMATION"] == "nightly"


def test_no_name_can_add_a_field_or_an_entry(journald: Journald) -> None:
    for name in (HOSTILE, "x\nPRIORITY=0", "x\n\nMESSAGE=forged\n", "\ud800"):
        entry = logged(journald, say(automation=name))
        assert entry["AUTOMATION"].encode() == name.encode("utf-8", "backslashreplace")
        assert entry["PRIORITY"] == "6"
        assert set(entry) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT", "AUTOMATION", "NODE"}


def test_a_key_that_is_no_name_of_a_field_is_in_the_message_alone(journald: Journald) -> None:
    entry = logged(journald, say(**{"_uid": 0, "über": 1, "a b": 2}))
    assert set(entry) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT", "NODE"}
    assert json.loads(entry["MESSAGE"])["_uid"] == 0


def test_a_traceback_is_a_field(journald: Journald) -> None:
    def fail() -> None:
        structlog.get_logger().error("occurrence.faulted", exc_info=ValueError("x"))

    assert logged(journald, fail)["EXCEPTION"].endswith("ValueError: x")


def test_what_the_journal_does_not_take_is_counted_and_what_comes_later_is_taken(journald: Journald) -> None:
    socket_file = Path(journald.address)
    with a_log(journald) as log:
        socket_file.rename(socket_file.with_name("away"))
        say(automation="before")()
        eventually(lambda: log._writer._lost == 1)
        socket_file.with_name("away").rename(socket_file)
        say(automation="after")()
        entries = {entry["EVENT"]: entry for entry in (journald.entry(), journald.entry())}
    assert entries["log.lost"]["LINES"] == "1"
    assert entries["log.lost"]["PRIORITY"] == "4"
    assert entries["occurrence.accepted"]["AUTOMATION"] == "after"


def test_a_line_that_is_too_long_for_a_datagram_arrives_cut(journald: Journald) -> None:
    entry = logged(journald, say(error="x" * 10_000_000, automation="nightly"))
    assert entry["ERROR"] == "x" * 49_152
    assert entry["AUTOMATION"] == "nightly"


def test_a_journal_that_is_away_stops_nobody(journald: Journald) -> None:
    Path(journald.address).unlink()
    with a_log(journald):
        say()()


@pytest.mark.parametrize("named", ["", "1:2", None])
def test_another_stream_than_the_journals_gets_lines(
    named: str | None, journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is None:
        monkeypatch.delenv("JOURNAL_STREAM")
    else:
        monkeypatch.setenv("JOURNAL_STREAM", named)
    with a_log(journald):
        say(automation="nightly")()
    assert json.loads(Path(journald.stream.name).read_text())["automation"] == "nightly"
