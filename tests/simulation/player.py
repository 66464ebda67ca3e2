"""Plays simulations for the tests: one process that has imported everything, and a copy of it for each simulation.

To import the daemon and all around it takes longer than to play most stories. Hashes are fixed for a whole interpreter, so the process
cannot be that of the tests.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.simulation.__main__ import run

_ROOT: Final = Path(__file__).parents[2]
_END: Final = "status "


@dataclass(frozen=True, slots=True)
class Played:
    """What a simulation printed, and its exit status."""

    status: int
    text: str


class Player:
    """The process, from ``with`` to its end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.player"],
            cwd=_ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._process:  # closes what it reads from, and waits for its end
            pass

    def play(self, *arguments: str) -> Played:
        """Do as `python -m tests.simulation` does with these arguments."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_END):
                return Played(int(line.removeprefix(_END)), "".join(lines))
            lines.append(line)
        return Played(-1, "".join(lines))


def _serve() -> None:
    for line in sys.stdin:
        sys.stdout.write(f"{_END}{_run_in_copy(json.loads(line))}\n")
        sys.stdout.flush()


def _run_in_copy(arguments: Sequence[str]) -> int:
    """Run a simulation in a copy of this process; the copy's exit status comes back, or the negative number of a signal."""
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
