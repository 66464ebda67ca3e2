"""The name under which this program was called, so that printed commands work when copied."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

PROGRAM: Final = "scheduler"
COMPLETION_VARIABLE: Final = "_SCHEDULER_COMPLETE"  # holds the question of the shell's completion script


def find_program(*, absolute: bool = False) -> str:
    """Return the name under which this program was called, quoted for a shell.

    ``absolute``: for readers with another working directory. A program on the PATH is called by its name
    only.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {PROGRAM}"
    on_path = shutil.which(called.name)
    if called.name != PROGRAM or (on_path and Path(on_path).resolve() == called.resolve()):
        return PROGRAM
    return shlex.quote(str(called.absolute() if absolute else called))
