"""What is written down of a run that ended: success, or a sentence that says what failed.

Pure, so that every sentence a person may read in ``last_error`` stands here, and can be tested without a process.
"""

import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.core.duration import describe_duration
from scheduler.core.printable import escaped, strip_terminal_codes
from scheduler.localapi.process import Ended, EndedBy
from scheduler.localapi.runs import RunEnd

NO_COMMAND: Final = RunEnd("failed", error="No command is configured to carry out runs; set `command` in [api.runner].")
CANCELLED_EARLY: Final = "The run was cancelled before it began."
DELETED_EARLY: Final = "The automation was deleted before the run began."
RESTORED: Final = "The run had not ended when the backup was made from which the database was restored; how the run ended is not known."

_LONGEST: Final = 200
NOT_STARTED: Final = 126
NOT_FOUND: Final = 127
_OF_SIGNAL: Final = 128  # and more: the status of a command that a signal ended, as a shell gives it
_SIGNALS: Final = frozenset(int(each) for each in signal.Signals)
_CAUSES: Final[Mapping[int, str]] = {
    signal.SIGKILL: "often for want of memory",
    signal.SIGSEGV: "so it crashed",
    signal.SIGTERM: "so somebody asked it to end",
}
_NAMED: Final = 5


def expired(queue_timeout: float) -> str:
    """Say why a run that waited too long did not begin."""
    return f"The run waited for its turn for {describe_duration(queue_timeout)}, the limit of `queue_timeout`, and did not begin."


def judge(ended: Ended, timeout: float, tail: bytes, hint: str | None = None) -> RunEnd:
    """Judge a command by its exit status. ``tail`` is the end of its output, whose last line often says what was wrong.

    ``hint`` is a sentence on the program's file.
    """
    if _succeeded(ended):
        return RunEnd("success", 0)
    last = _lines(tail)[-1:]
    said = f" The last line of its output: {_cut(last[0])}" if last else ""
    return RunEnd("failed", ended.exit_status, _join(_what("The command", ended, timeout), hint) + said)


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


def not_started(program: str, error: OSError, hint: str | None = None) -> RunEnd:
    """Judge a command that could not be started: missing, not executable, no program at all. ``hint`` is a sentence on its file."""
    return RunEnd("failed", error=_join(f"The command {program!r} could not be started: {error.strerror}.", hint))


def may_be_line_end(ended: Ended) -> bool:
    """Return whether a command may have ended because the first line of a script ends with CR LF."""
    return ended.by is EndedBy.ITSELF and ended.exit_status in {NOT_STARTED, NOT_FOUND}


def describe_left_behind(subject: str, ended: Ended) -> str | None:
    """Name the processes that a command left running when it ended by itself, and that were ended then; None when it left none."""
    if ended.by is not EndedBy.ITSELF or not ended.left_behind:
        return None
    many = "a process" if ended.left_behind == 1 else f"{ended.left_behind:,} processes"
    counts = Counter(escaped(name) for name in ended.names)
    named = [name if count == 1 else f"{name} ({count})" for name, count in counts.most_common(_NAMED)]
    if sum(count for _, count in counts.most_common(_NAMED)) < ended.left_behind:
        named.append("…")
    return f"scheduler: {subject} left {many} running, ended now: {', '.join(named)}"


def _succeeded(ended: Ended) -> bool:
    return ended.by is EndedBy.ITSELF and ended.exit_status == 0


def _lines(tail: bytes) -> list[str]:
    """The lines with anything on them, in printable characters and without colours, whatever the bytes are."""
    lines = (line.strip() for line in strip_terminal_codes(tail.decode(errors="replace")).splitlines())
    return ["".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line) for line in lines if line]


def _join(sentence: str, hint: str | None) -> str:
    return sentence if hint is None else f"{sentence} {hint}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _what(subject: str, ended: Ended, timeout: float) -> str:
    match ended.by:
        case EndedBy.TIMEOUT:
            return f"{subject} was still going after {describe_duration(timeout)}, its time limit, and was ended."
        case EndedBy.STOP:
            return f"The server was stopped while {_inside(subject)} was going on, and ended it."
        case EndedBy.CANCEL:
            return f"The run was cancelled, and {_inside(subject)} was ended."
        case EndedBy.ITSELF if ended.exit_status is None:
            return f"{subject} was ended because the process that watched over it was killed."
        case EndedBy.ITSELF if ended.exit_status < 0:
            return f"{subject} was killed by {_name_signal(-ended.exit_status)}."
    return f"{subject} ended with exit status {ended.exit_status}{_explain(ended.exit_status)}."


def _explain(status: int | None) -> str:
    """Say what an exit status means by the custom of shells (POSIX, Shell Command Language, 2.8.2); nothing for others."""
    if status == NOT_STARTED:
        return ": a program was found, and could not be started"
    if status == NOT_FOUND:
        return ": a program was not found"
    number = (status or 0) - _OF_SIGNAL
    return f": a program was killed by {_name_signal(number)}" if number in _SIGNALS else ""


def _inside(subject: str) -> str:
    return subject[0].lower() + subject[1:]


def _name_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
    return f"{name}, {_CAUSES[number]}" if number in _CAUSES else name
