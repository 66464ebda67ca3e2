"""The result of an ended run: success, or a sentence on the failure.

Pure: every sentence for ``last_error`` is here, and can be tested without a process.
"""

import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.core.quantities import describe_duration
from scheduler.core.terminal_text import strip_terminal_codes, to_printable
from scheduler.localapi.runner.process import CommandResult, EndCause
from scheduler.localapi.runs import RunResult

NO_COMMAND: Final = RunResult(
    "failed", error="No command is configured to carry out runs; set `command` in [api.runner]."
)
CANCELLED_ERROR: Final = "The run was cancelled before it began."
DELETED_ERROR: Final = "The automation was deleted before the run began."
RESTORED_ERROR: Final = (
    "The database was restored from a backup that was made during this run, and the end of the run "
    "is not known."
)

_MAX_LENGTH: Final = 200
NOT_EXECUTABLE_STATUS: Final = 126
NOT_FOUND_STATUS: Final = 127
_SIGNAL_STATUS_BASE: Final = 128  # added to the number of the signal that ended a command, as a shell does
_SIGNALS: Final = frozenset(map(int, signal.Signals))
_SIGNAL_CAUSES: Final[Mapping[int, str]] = {
    signal.SIGKILL: "often because memory ran out",
    signal.SIGSEGV: "so it crashed",
    signal.SIGTERM: "so somebody asked it to end",
}
_MAX_NAMES: Final = 5


def describe_expiry(queue_timeout: float) -> str:
    """Explain why a run that waited too long did not begin."""
    return (
        f"The run waited for its turn for {describe_duration(queue_timeout)}, the limit of "
        "`queue_timeout`, and did not begin."
    )


def judge_command(end: CommandResult, timeout: float, tail: bytes, hint: str | None = None) -> RunResult:
    """Judge a command by the exit status.

    ``tail`` is the end of the output; the last line often names the error. ``hint`` is a sentence on the
    program's file.
    """
    if _is_success(end):
        return RunResult("success", 0)
    last = _split_lines(tail)[-1:]
    quote = f"The last line of its output: {_cut(last[0])}" if last else None
    return _fail(_describe_end("The command", end, timeout), hint, quote, exit_status=end.exit_status)


def judge_clone(end: CommandResult, timeout: float, tail: bytes) -> RunResult | None:
    """Judge ``git clone``: None for a clone to work in.

    git explains errors in several lines, and the important line has no fixed position.
    """
    if _is_success(end):
        return None
    output = _cut(" ".join(_split_lines(tail)))
    return _fail(_describe_end("git clone", end, timeout), output, exit_status=end.exit_status)


def make_repository_failure(repository: str) -> RunResult:
    """Make the result of a run with a repository name that cannot be part of a URL."""
    rule = "its name may have letters, digits, '.', '_' and '-' only"
    return _fail(f"The repository {repository!r} cannot be cloned: {rule}.")


def make_workspace_failure(folder: Path, error: OSError) -> RunResult:
    """Make the result of a run without a folder, because the folder could not be made."""
    return _fail(f"The run's folder {folder} could not be prepared: {error.strerror}.")


def make_unexpected_failure(error: Exception) -> RunResult:
    """Make the result of a run that could not be carried out for an unforeseen reason."""
    return _fail(f"The run could not be carried out: {_cut(str(error) or type(error).__name__)}")


def make_start_failure(program: str, error: OSError, hint: str | None = None) -> RunResult:
    """Make the result of a command that could not be started: missing, not executable, or no program.

    ``hint`` is a sentence on the file of the program.
    """
    return _fail(f"The command {program!r} could not be started: {error.strerror}.", hint)


def _fail(*sentences: str | None, exit_status: int | None = None) -> RunResult:
    return RunResult("failed", exit_status, " ".join(filter(None, sentences)))


def may_be_line_end(end: CommandResult) -> bool:
    """Return whether a command may have ended because the first line of a script ends with CR LF."""
    return end.cause is EndCause.ITSELF and end.exit_status in {NOT_EXECUTABLE_STATUS, NOT_FOUND_STATUS}


def describe_orphans(subject: str, end: CommandResult) -> str | None:
    """Name the processes that a command left running, and that were ended; None without such processes."""
    if end.cause is not EndCause.ITSELF or not end.orphan_count:
        return None
    many = "a process" if end.orphan_count == 1 else f"{end.orphan_count:,} processes"
    counts = Counter(to_printable(name) for name in end.orphan_names)
    named = [name if count == 1 else f"{name} ({count})" for name, count in counts.most_common(_MAX_NAMES)]
    if sum(count for _, count in counts.most_common(_MAX_NAMES)) < end.orphan_count:
        named.append("…")
    return f"scheduler: {subject} left {many} running, ended now: {', '.join(named)}"


def _is_success(end: CommandResult) -> bool:
    return end.cause is EndCause.ITSELF and end.exit_status == 0


def _split_lines(tail: bytes) -> list[str]:
    """Return the lines that are not blank, in printable characters and without colours, for any bytes."""
    lines = (line.strip() for line in strip_terminal_codes(tail.decode(errors="replace")).splitlines())
    return [
        "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
        for line in lines
        if line
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def _describe_end(subject: str, end: CommandResult, timeout: float) -> str:
    inner_subject = subject[0].lower() + subject[1:]
    match end.cause:
        case EndCause.TIMEOUT:
            return (
                f"{subject} was still going after {describe_duration(timeout)}, its time limit, and was "
                "ended."
            )
        case EndCause.STOP:
            return f"The server was stopped while {inner_subject} was going on, and ended it."
        case EndCause.CANCEL:
            return f"The run was cancelled, and {inner_subject} was ended."
        case EndCause.ITSELF if end.exit_status is None:
            return f"{subject} was ended because the process that watched over it was killed."
        case EndCause.ITSELF if end.exit_status < 0:
            return f"{subject} was killed by {_name_signal(-end.exit_status)}."
    return f"{subject} ended with exit status {end.exit_status}{_explain(end.exit_status)}."


def _explain(status: int | None) -> str:
    """Explain an exit status by the custom of shells (POSIX, Shell Command Language, 2.8.2), or return ""."""
    if status == NOT_EXECUTABLE_STATUS:
        return ": a program was found, and could not be started"
    if status == NOT_FOUND_STATUS:
        return ": a program was not found"
    number = (status or 0) - _SIGNAL_STATUS_BASE
    return f": a program was killed by {_name_signal(number)}" if number in _SIGNALS else ""


def _name_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
    return f"{name}, {_SIGNAL_CAUSES[number]}" if number in _SIGNAL_CAUSES else name
