"""What is written down of a run that ended: success, or a sentence that says what failed.

Pure, so that every sentence a person may read in ``last_error`` stands here, and can be tested without a process.
"""

import re
import signal
from pathlib import Path
from typing import Final

from scheduler.localapi.process import Ended, EndedBy
from scheduler.localapi.runs import RunEnd

NO_COMMAND: Final = RunEnd("failed", error="No command is configured to carry out runs; set `command` in [api.runner].")
CANCELLED_EARLY: Final = RunEnd("failed", error="The run was cancelled before it began.")

_LONGEST: Final = 200
_CONTROLS: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What sets colours, moves the cursor or names the window (ECMA-48, 5.4 and 5.6): agents print it also where there is no terminal."""


def judge(ended: Ended, timeout: float, tail: bytes) -> RunEnd:
    """Judge a command by its exit status. ``tail`` is the end of its output, whose last line often says what was wrong."""
    if _succeeded(ended):
        return RunEnd("success", 0)
    last = _lines(tail)[-1:]
    said = f" The last line of its output: {_cut(last[0])}" if last else ""
    return RunEnd("failed", ended.exit_status, _what("The command", ended, timeout) + said)


def judge_clone(ended: Ended, timeout: float, tail: bytes) -> RunEnd | None:
    """Judge ``git clone``: None when there is a clone to work in. git explains itself in several lines, of which none is always the one."""
    if _succeeded(ended):
        return None
    said = _cut(" ".join(_lines(tail)))
    return RunEnd("failed", ended.exit_status, f"{_what('git clone', ended, timeout)} {said}".rstrip())


def not_clonable(repository: str) -> RunEnd:
    """Judge a run whose repository has a name that cannot stand in a URL."""
    return RunEnd(
        "failed", error=f"The repository {repository!r} cannot be cloned: its name may have letters, digits, '.', '_' and '-' only."
    )


def not_prepared(folder: Path, error: OSError) -> RunEnd:
    """Judge a run whose folder could not be made."""
    return RunEnd("failed", error=f"The run's folder {folder} could not be prepared: {error.strerror}.")


def not_carried_out(error: Exception) -> RunEnd:
    """Judge a run that could not be carried out for a reason that nobody foresaw."""
    return RunEnd("failed", error=f"The run could not be carried out: {_cut(str(error) or type(error).__name__)}")


def not_started(program: str, error: OSError) -> RunEnd:
    """Judge a command that could not be started: missing, not executable, no program at all."""
    return RunEnd("failed", error=f"The command {program!r} could not be started: {error.strerror}.")


def _succeeded(ended: Ended) -> bool:
    return ended.by is EndedBy.ITSELF and ended.exit_status == 0


def _lines(tail: bytes) -> list[str]:
    """The lines with anything on them, in printable characters and without colours, whatever the bytes are."""
    lines = (line.strip() for line in _CONTROLS.sub("", tail.decode(errors="replace")).splitlines())
    return ["".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line) for line in lines if line]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _what(subject: str, ended: Ended, timeout: float) -> str:
    match ended.by:
        case EndedBy.TIMEOUT:
            return f"{subject} was still going after {timeout:g} s, its time limit, and was ended."
        case EndedBy.STOP:
            return f"The server was stopped while {_inside(subject)} was going on, and ended it."
        case EndedBy.CANCEL:
            return f"The run was cancelled, and {_inside(subject)} was ended."
        case EndedBy.ITSELF if ended.exit_status is None:
            return f"{subject} was ended because the process that watched over it was killed."
        case EndedBy.ITSELF if ended.exit_status < 0:
            return f"{subject} was killed by {_signal_name(-ended.exit_status)}."
    return f"{subject} ended with exit status {ended.exit_status}."


def _inside(subject: str) -> str:
    return subject[0].lower() + subject[1:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
