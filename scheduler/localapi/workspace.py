"""The folder of a run: its prompt, its output and its working directory.

Everything that touches the disk for a run is here, and blocks; the runner calls it on a thread.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one run keeps what it is given and what it makes; only its owner may look."""

    folder: Path

    @classmethod
    def of(cls, root: Path, run_id: str) -> "Workspace":
        """Name the workspace of a run; nothing is made yet."""
        return cls(root / run_id)

    @staticmethod
    def all_in(root: Path) -> list[str]:
        """The names of whatever lies where the workspaces do. Raises OSError."""
        return [each.name for each in root.iterdir()] if root.exists() else []

    @property
    def prompt(self) -> Path:
        """The prompt, as the command's standard input."""
        return self.folder / "prompt"

    @property
    def output(self) -> Path:
        """What the command printed, on standard output and standard error."""
        return self.folder / "output"

    @property
    def work(self) -> Path:
        """The command's working directory."""
        return self.folder / "work"

    def prepare(self, prompt: str) -> None:
        """Make the folder and write the prompt. Raises OSError."""
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.folder, self.work):
            folder.mkdir(mode=0o700)
        for path, content in ((self.prompt, prompt.encode()), (self.output, b"")):
            with open(path, "xb", opener=_private) as file:
                file.write(content)

    def remove(self) -> None:
        """Remove the folder with all that is in it, also what the command has made read-only. Raises OSError."""
        for folder, _, _ in os.walk(self.folder):
            Path(folder).chmod(0o700)
        shutil.rmtree(self.folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
