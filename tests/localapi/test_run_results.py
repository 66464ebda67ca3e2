"""The sentences by which people learn why a run failed, and what is looked at for them."""

import os
from pathlib import Path

import pytest

from scheduler.localapi.runner.process import CommandResult, EndCause
from scheduler.localapi.runner.run_results import judge_clone, judge_command
from scheduler.localapi.runner.start_failure import explain_line_end, explain_start_failure


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (1, ""),
        (125, ""),
        (126, ": a program was found, and could not be started"),
        (127, ": a program was not found"),
        (128, ""),
        (130, ": a program was killed by SIGINT"),
        (134, ": a program was killed by SIGABRT"),
        (137, ": a program was killed by SIGKILL, often because memory ran out"),
        (139, ": a program was killed by SIGSEGV, so it crashed"),
        (143, ": a program was killed by SIGTERM, so somebody asked it to end"),
        (255, ""),
    ],
)
def test_an_exit_status_is_explained_by_the_custom_of_shells(status: int, meaning: str) -> None:
    assert (
        judge_command(CommandResult(EndCause.ITSELF, status), 60, b"").error
        == f"The command ended with exit status {status}{meaning}."
    )
    clone = judge_clone(CommandResult(EndCause.ITSELF, status), 60, b"")
    assert clone is not None
    assert clone.error == f"git clone ended with exit status {status}{meaning}."


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(-9, "SIGKILL, often because memory ran out"), (-11, "SIGSEGV, so it crashed"), (-40, "signal 40")],
)
def test_a_signal_is_explained(status: int, meaning: str) -> None:
    assert (
        judge_command(CommandResult(EndCause.ITSELF, status), 60, b"").error
        == f"The command was killed by {meaning}."
    )


def test_a_hint_stands_before_the_last_line_of_the_output() -> None:
    error = judge_command(
        CommandResult(EndCause.ITSELF, 127), 60, b"env: sh: not found\n", "Look there."
    ).error
    assert error == (
        "The command ended with exit status 127: a program was not found. Look there. The last line "
        "of its output: env: sh: not found"
    )


def test_a_program_is_looked_for_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"#!/nowhere\n")
    (tmp_path / "agent").chmod(0o700)
    assert explain_start_failure("./agent", {}, tmp_path) is not None
    assert explain_start_failure("agent", {"PATH": ""}, tmp_path) is not None, (
        "an empty part of PATH is the working directory"
    )
    assert explain_start_failure("agent", {}, tmp_path) is None
    assert explain_start_failure("agent", {"PATH": b"/usr/bin"}, tmp_path) is None
    assert explain_start_failure("agent/below", {}, tmp_path) is None


def test_nothing_is_said_of_a_file_that_explains_nothing(tmp_path: Path) -> None:
    for name, content in (("elf", b"\x7fELF..."), ("good", b"#!/bin/sh\n")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o700)
        assert explain_start_failure(f"./{name}", {}, tmp_path) is None
        assert explain_line_end(f"./{name}", {}, tmp_path) is None
    os.mkfifo(tmp_path / "pipe", 0o700)
    assert explain_start_failure("./pipe", {}, tmp_path) is explain_line_end("./pipe", {}, tmp_path) is None
    assert explain_line_end("./no-such", {}, tmp_path) is None


def test_no_more_of_a_first_line_is_looked_at_than_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"#!/" + b"x" * 10_000_000 + b"\r\n")
    (tmp_path / "agent").chmod(0o700)
    said = explain_start_failure("./agent", {}, tmp_path)
    assert said is not None
    assert len(said) < 500 + len(str(tmp_path))
