"""The environment in which the embedded API runs, or would run.

The programs of the embedded API are looked up in this environment, not in the environment of a shell.

The environment comes from the process that serves the database. When no such process can be read, the
environment comes from the unit that starts a server with this configuration. Without such a unit, the
environment is the environment of this command.
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
_MAX_ENVIRONMENT: Final = 2**20  # bytes read from an environment
_UNIT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""The PATH that systemd sets for a unit without a PATH.

Source: systemd.exec(5), Environment Variables in Spawned Processes.
"""
_USER_VARIABLES: Final = ("HOME", "LANG", "USER", "LOGNAME", "SHELL")
_DIRECTORY_VARIABLES: Final = ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "XDG_RUNTIME_DIR")
"""Variables that systemd may set although the unit does not name the variables."""
_DEFAULT_PATH: Final = "/bin:/usr/bin"
"""The search path for a command without ``PATH`` (posix_spawn(3))."""
_LINE: Final = re.compile(r"\s*([A-Za-z_]\w*)=(.*)")


@dataclass(frozen=True, slots=True)
class ServerEnvironment:
    """The variables of the server, and the source of the variables.

    ``owner``: the source in words, for findings. ``process``: the running server, if the variables are from a
    running server. ``complete``: False when the server may have other variables, too.
    """

    owner: str
    variables: Mapping[str, str]
    process: int | None = None
    complete: bool = True

    def find_program(self, program: str, passed: Sequence[str]) -> str | None:
        """Return the path of a program for a command that gets the variables ``passed``.

        Return None when no executable program is found, or when the server cannot see the program.
        """
        path = self.variables.get("PATH", _DEFAULT_PATH) if "PATH" in passed else _DEFAULT_PATH
        executable = shutil.which(program, path=path)
        return executable if executable and self._is_visible(executable) else None

    def list_unset(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names without a variable of the server; empty when the variables are not complete."""
        return tuple(name for name in names if name not in self.variables) if self.complete else ()

    def _is_visible(self, path: str) -> bool:
        """Return whether the running server sees the file, too; True when unknown or when no server runs.

        systemd may hide home folders and folders for temporary files from the server (ProtectHome).
        """
        if self.process is None:
            return True
        try:
            Path(f"/proc/{self.process}/root{os.path.realpath(path)}").stat()
        except (FileNotFoundError, NotADirectoryError):
            return not Path(f"/proc/{self.process}").exists()
        except OSError:  # this user may not look there
            return True
        return True


def find_environment(database: Path, file: Path | None, ours: Mapping[str, str]) -> ServerEnvironment:
    """Return the environment of the database's server, with the configuration in ``file``. Blocks."""
    process = find_holding_process(database)
    if process is not None:
        with suppress(OSError):
            return ServerEnvironment(f"the server, process {process}", _read_environ(process), process)
    why = "since no server runs" if process is None else "since that of the server may not be read"
    return (None if file is None else _read_unit_environment(file)) or ServerEnvironment(
        f"this command, {why}", ours, complete=False
    )


def _read_environ(process: int) -> dict[str, str]:
    """Read the environment at the start of a process (proc(5), environ).

    Raises OSError when this user may not read the environment.
    """
    with open(f"/proc/{process}/environ", "rb") as content:  # noqa: PTH123 - a limited part only
        entries = content.read(_MAX_ENVIRONMENT).split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def _read_unit_environment(file: Path) -> ServerEnvironment | None:
    """Return the environment from the unit; None when no unit starts a server with this configuration."""
    shown = _show_unit()
    if shown.get("LoadState") != ["loaded"] or not any(
        f" serve --config {file} " in start for start in shown.get("ExecStart", ())
    ):
        return None
    variables = {"PATH": _UNIT_PATH, **dict.fromkeys((*_USER_VARIABLES, *_DIRECTORY_VARIABLES), "")}
    complete = True
    for line in shown.get("Environment", ()):
        with suppress(ValueError):  # unbalanced quotes
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
    """Ask systemd for the properties of the unit; empty when systemd is absent or does not answer."""
    command = ("systemctl", "show", UNIT, *(f"--property={name}" for name in _PROPERTIES))
    try:
        done = subprocess.run(  # noqa: S603 - fixed command
            command, capture_output=True, check=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    shown = dict[str, list[str]]()
    for line in done.stdout.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        shown.setdefault(name, []).append(value)
    return shown


def _read_environment_file(file: Path) -> dict[str, str]:
    """Read the variables with simple values from an ``EnvironmentFile=``. Raises OSError."""
    with file.open("rb") as content:
        lines = content.read(_MAX_ENVIRONMENT).decode(errors="replace").splitlines()
    matches = (match for line in lines if (match := _LINE.fullmatch(line)))
    return {match[1]: match[2].strip().strip("\"'") for match in matches}
