"""The environment in which the embedded API runs, or would run: its programs are looked up there, and not in that of a shell.

It is that of the process that serves the database; else what the unit says that starts a server with this configuration; else ours.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scheduler.ledger.lock import find_holding_process

UNIT: Final = "scheduler-api.service"
_PROPERTIES: Final = ("LoadState", "ExecStart", "Environment", "EnvironmentFiles")
_PATIENCE: Final = 5.0  # seconds for systemctl
_MAX_ENVIRONMENT: Final = 2**20  # bytes of an environment that are read
_UNIT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""What systemd sets where a unit does not (systemd.exec(5), Environment Variables in Spawned Processes)."""
_SYSTEMD_VARIABLES: Final = ("HOME", "LANG", "USER", "LOGNAME", "SHELL", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "XDG_RUNTIME_DIR")
"""Variables that a unit may get though it does not name them."""
_DEFAULT_PATH: Final = "/bin:/usr/bin"
"""Where a command is looked up that has no ``PATH`` (posix_spawn(3))."""
_LINE: Final = re.compile(r"\s*([A-Za-z_]\w*)=(.*)")


@dataclass(frozen=True, slots=True)
class ServerEnvironment:
    """The variables of the server, and whose they are; ``process`` is the running one. Not ``complete``: there may be others."""

    owner: str
    variables: Mapping[str, str]
    process: int | None = None
    complete: bool = True

    def find_program(self, program: str, passed: Sequence[str]) -> str | None:
        """Return the path of a program for a command that sees the variables ``passed``; None where there is none that may be executed."""
        path = self.variables.get("PATH", _DEFAULT_PATH) if "PATH" in passed else _DEFAULT_PATH
        found = shutil.which(program, path=path)
        return found if found is None or self._is_visible(found) else None

    def list_unset(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names that the server has no variable of; none as long as that cannot be told."""
        return tuple(name for name in names if name not in self.variables) if self.complete else ()

    def _is_visible(self, path: str) -> bool:
        """Whether the running server has the file too: systemd may hide homes and folders for temporary files from it (ProtectHome)."""
        if self.process is None:
            return True
        try:
            Path(f"/proc/{self.process}/root{os.path.realpath(path)}").stat()
        except (FileNotFoundError, NotADirectoryError):
            return not Path(f"/proc/{self.process}").exists()
        except OSError:  # it is not ours to look
            return True
        return True


def find_environment(database: Path, file: Path | None, ours: Mapping[str, str]) -> ServerEnvironment:
    """Return the environment of the server of a database, with the configuration in ``file``. Blocks."""
    process = find_holding_process(database)
    if process is not None:
        with suppress(OSError):
            return ServerEnvironment(f"the server, process {process}", _read_environ(process), process)
    why = "since no server runs" if process is None else "since that of the server may not be read"
    return (None if file is None else _read_unit_environment(file)) or ServerEnvironment(f"this command, {why}", ours, complete=False)


def _read_environ(process: int) -> dict[str, str]:
    """Read the environment with which a process was started (proc(5), environ). Raises OSError where it is not ours to read."""
    with open(f"/proc/{process}/environ", "rb") as content:  # noqa: PTH123 - only so much of it
        entries = content.read(_MAX_ENVIRONMENT).split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def _read_unit_environment(file: Path) -> ServerEnvironment | None:
    """Return what the unit gives its server; None where no unit starts one with this configuration."""
    shown = _show_unit()
    if shown.get("LoadState") != ["loaded"] or not any(f" serve --config {file} " in start for start in shown.get("ExecStart", ())):
        return None
    variables = {"PATH": _UNIT_PATH, **dict.fromkeys(_SYSTEMD_VARIABLES, "")}
    complete = True
    for line in shown.get("Environment", ()):
        with suppress(ValueError):  # quotes that do not match
            variables |= dict(entry.split("=", 1) for entry in shlex.split(line) if "=" in entry)
    for entry in shown.get("EnvironmentFiles", ()):
        try:
            variables |= _read_environment_file(Path(entry.partition(" (")[0]))
        except FileNotFoundError:
            continue
        except OSError:
            complete = False
    owner = f"the unit {UNIT}" + ("" if complete else ", whose files of variables may not all be read")
    return ServerEnvironment(owner, variables, complete=complete)


def _show_unit() -> dict[str, list[str]]:
    """Ask systemd for the unit; nothing where there is no systemd."""
    command = ("systemctl", "show", UNIT, *(f"--property={name}" for name in _PROPERTIES))
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)  # noqa: S603 - as above
    except (OSError, subprocess.SubprocessError):
        return {}
    shown = dict[str, list[str]]()
    for line in done.stdout.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        shown.setdefault(name, []).append(value)
    return shown


def _read_environment_file(file: Path) -> dict[str, str]:
    """Read the variables of an ``EnvironmentFile=`` as far as names and simple values go. Raises OSError."""
    with file.open("rb") as content:
        lines = content.read(_MAX_ENVIRONMENT).decode(errors="replace").splitlines()
    found = (match for line in lines if (match := _LINE.fullmatch(line)))
    return {match[1]: match[2].strip().strip("\"'") for match in found}
