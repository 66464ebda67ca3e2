"""The folder of a run: prompt, output and working directory.

All disk access for a run is in this module. The runner calls blocking functions on a thread; processes do
long work.
"""

import asyncio
import errno
import os
import subprocess
from pathlib import Path

from scheduler.localapi.runner.process import end_child


class Workspace:
    """The folder for the inputs and the results of a run; only the owner has access."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompt = folder / "prompt"  # the command's standard input
        self.output = folder / "output"  # from standard output and standard error
        self.work = folder / "work"  # the command's working directory

    @staticmethod
    def list_names(root: Path) -> list[str]:
        """List the names of all entries in the folder of the workspaces. Raises OSError."""
        return [entry.name for entry in root.iterdir()] if root.exists() else []

    def prepare(self, prompt: str) -> None:
        """Create the folder and write the prompt. Raises OSError.

        The file ends with a newline, as text files do (POSIX, 3.206 Line): otherwise ``while read`` in a
        shell loses the last line.
        """
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.folder, self.work):
            folder.mkdir(mode=0o700)
        text = prompt if prompt.endswith("\n") else f"{prompt}\n"
        for path, content in ((self.prompt, text.encode()), (self.output, b"")):
            with open(path, "xb", opener=_open_private) as file:
                file.write(content)

    async def remove(self) -> None:
        """Remove the folder with all content, however deep, also unreadable content, but no targets of links.

        Raises OSError when content cannot be removed, or a file system is mounted there. A cancellation ends
        the removal at once.
        """
        await self._remove(self.folder)

    async def remove_work(self) -> None:
        """Remove the working directory as `remove` does the whole folder. Prompt and output stay."""
        if not self.folder.is_symlink():  # a command may have replaced the folder by a link
            await self._remove(self.work)

    async def _remove(self, folder: Path) -> None:
        if mounted := _find_mount(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), mounted)
        await _execute_command(
            "find", str(folder), "-type", "d", "!", "-perm", "-700", "-exec", "chmod", "u+rwx", "{}", ";"
        )
        await _execute_command("rm", "-rf", "--one-file-system", "--", str(folder))


def _find_mount(folder: Path) -> str | None:
    """Find a file system mounted in the folder, if any (proc(5), mountinfo)."""
    inside = f"{folder}/"
    points = (
        line.split(" ")[4]
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    )
    return next((point for point in points if f"{point}/".startswith(inside)), None)


async def _execute_command(*command: str) -> None:
    """Execute a system command. Raises OSError with the error output when the command fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        await end_child(process)
        raise
    if process.returncode:
        raise OSError(errors.decode(errors="replace").partition("\n")[0])


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
