"""How this program was called, so that the commands that it prints work as they are printed."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

PROGRAM: Final = "scheduler"


def find_program(*, absolute: bool = False) -> str:
    """Return how this program is called, quoted for a shell.

    ``absolute``: for readers with another working directory. A program that the PATH finds has its name alone.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {PROGRAM}"
    on_path = shutil.which(called.name)
    if called.name != PROGRAM or (on_path and Path(on_path).resolve() == called.resolve()):
        return PROGRAM
    return shlex.quote(str(called.absolute() if absolute else called))
