"""The disk usage of the runs: outputs and working directories.

`du` measures, in separate processes with the lowest priority: a clone can have a hundred thousand files.
Folders beyond the caller's time limit are left out.
"""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scheduler.localapi.runner.process import end_child

_COMMAND: Final = ("nice", "-n", "19", "du", "-x", "-s", "-B1", "--files0-from=-")
_SLICE: Final = 500
"""The number of runs measured by a process."""
_WORK_SUFFIX: Final = b"/work"


@dataclass(frozen=True, slots=True)
class RunSize:
    """The disk usage of some runs, in bytes: prompts and outputs, and working directories."""

    outputs: int = 0
    clones: int = 0

    def __add__(self, other: "RunSize") -> "RunSize":
        return RunSize(self.outputs + other.outputs, self.clones + other.clones)

    def __sub__(self, other: "RunSize") -> "RunSize":
        return RunSize(self.outputs - other.outputs, self.clones - other.clones)


async def measure(root: Path, run_ids: Sequence[str], seconds: float) -> dict[str, RunSize]:
    """Measure the folders of these runs below ``root``, as many as possible in the given seconds.

    Raises OSError when no measurement is possible.
    """
    sizes: dict[str, RunSize] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for first in range(0, len(run_ids), _SLICE):
                await _measure_slice(root, run_ids[first : first + _SLICE], sizes)
    return sizes


async def _measure_slice(root: Path, run_ids: Sequence[str], sizes: dict[str, RunSize]) -> None:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        process.stdin.write(_list_folders(run_ids))
        process.stdin.close()
        while line := await process.stdout.readline():
            lines.append(line)
    finally:
        await end_child(process)
        sizes.update(_parse(b"".join(lines)))


def _list_folders(run_ids: Sequence[str]) -> bytes:
    """List the working directory of each run before the folder of the run.

    `du` counts nothing twice: the size of the folder is without the working directory.
    """
    return "".join(f"{run_id}/work\0{run_id}\0" for run_id in run_ids).encode()


def _parse(lines: bytes) -> Iterator[tuple[str, RunSize]]:
    clone = 0
    for line in lines.splitlines():
        size, _, path = line.partition(b"\t")
        if path.endswith(_WORK_SUFFIX):
            clone = int(size)
        elif path:
            yield path.decode(), RunSize(int(size), clone)
            clone = 0
