"""What is written down of a run that ended: success, or a sentence that says what failed.

Pure, so that every sentence a person may read in ``last_error`` stands here, and can be tested without a process.
"""

import signal
from typing import Final

from scheduler.localapi.process import Ended, EndedBy
from scheduler.localapi.runs import RunEnd

NO_COMMAND: Final = RunEnd("failed", error="No command is configured to carry out runs; set `command` in [api.runner].")

_LONGEST_LINE: Final = 200


def judge(ended: Ended, timeout: float, tail: bytes) -> RunEnd:
    """Judge a command by its exit status. ``tail`` is the end of its output, whose last line often says what was wrong."""
    if ended.by is EndedBy.ITSELF and ended.exit_status == 0:
        return RunEnd("success", 0)
    last = last_line(tail)
    said = f" The last line of its output: {last}" if last else ""
    return RunEnd("failed", ended.exit_status, _what(ended, timeout) + said)


def not_prepared(error: OSError) -> RunEnd:
    """Judge a run whose folder could not be made."""
    return RunEnd("failed", error=f"The run's folder {error.filename or ''} could not be prepared: {error.strerror}.")


def not_started(program: str, error: OSError) -> RunEnd:
    """Judge a command that could not be started: missing, not executable, no program at all."""
    return RunEnd("failed", error=f"The command {program!r} could not be started: {error.strerror}.")


def last_line(tail: bytes) -> str:
    """Give the last line with anything on it, in printable characters, whatever the bytes are; cut to a readable length."""
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in lines[-1].strip())
    return printable if len(printable) <= _LONGEST_LINE else printable[: _LONGEST_LINE - 1] + "…"


def _what(ended: Ended, timeout: float) -> str:
    if ended.by is EndedBy.TIMEOUT:
        return f"The command was still going after {timeout:g} s, its time limit, and was ended."
    if ended.by is EndedBy.STOP:
        return "The server was stopped while the command was going on, and ended it."
    if ended.exit_status < 0:
        return f"The command was killed by {_signal_name(-ended.exit_status)}."
    return f"The command ended with exit status {ended.exit_status}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
