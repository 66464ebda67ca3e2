"""Plays simulations for the tests: one process that has imported everything, and a copy of it for each
simulation.

To import the daemon and all around it takes longer than to play most stories. Hashes are fixed for a whole
interpreter, so the process cannot be that of the tests.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Final, Self

from tests.simulation.__main__ import run

_ROOT: Final = Path(__file__).parents[2]
_END: Final = "\x1estatus "
"""Begins the line after a simulation. No simulation prints such a line."""
_MOST_SECONDS: Final = 500.0
"""A simulation that takes longer hangs.

The limit is lower than the limit of the tests, which would not end the copy.
"""


@dataclass(frozen=True, slots=True)
class Played:
    """What a simulation printed, and its exit status."""

    status: int
    text: str


class Player:
    """The process, from ``with`` to its end."""

    def __init__(self, most_seconds: float = _MOST_SECONDS) -> None:
        self._most_seconds = most_seconds

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def play(self, *arguments: str) -> Played:
        """Do as `python -m tests.simulation` does with these arguments. A simulation that hangs or crashes
        has a negative status.
        """
        if self._process.poll() is not None:
            self._start()
        timer = Timer(self._most_seconds, self._kill)
        timer.start()
        try:
            return self._ask(arguments)
        except BaseException:
            self._end()  # whatever it prints from now on must not be taken for the next simulation's words
            raise
        finally:
            timer.cancel()

    def _ask(self, arguments: Sequence[str]) -> Played:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_END):
                return Played(int(line.removeprefix(_END)), "".join(lines).removesuffix("\n"))
            lines.append(line)
        self._end()
        return Played(-1, "".join(lines))

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.player"],
            cwd=_ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _end(self) -> None:
        self._kill()
        with self._process:  # closes what it reads from, and waits for its end
            pass

    def _kill(self) -> None:
        """End the process and its copy, which may hang."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def _serve() -> None:
    for line in sys.stdin:
        status = _run_in_copy(json.loads(line))
        sys.stdout.write(f"\n{_END}{status}\n")  # a copy that crashed may have printed half a line
        sys.stdout.flush()


def _run_in_copy(arguments: Sequence[str]) -> int:
    """Run a simulation in a copy of this process; the copy's exit status comes back, or the negative number
    of a signal.
    """
    copy = os.fork()
    if copy:
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    try:
        status = run(arguments)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 -- whatever it is: nothing of the server may go on in the copy
        sys.excepthook(*sys.exc_info())
        status = 1
    os._exit(status)


if __name__ == "__main__":
    _serve()
