"""The commands in messages, printed in a form ready to type.

An installation in a state directory, or with a configuration of its own, needs an option for each command. A
process has one caller: the command line stores here how it was called, and all packages print commands by
`format_command`.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

STATE_DIR: Final = "--state-dir"
FILE_NAME: Final = "scheduler.toml"
"""The name of the configuration file in a state directory."""
_COMMAND: Final = re.compile("`scheduler ([^`]+)`")


@dataclass(slots=True)
class _Caller:
    program: str = "scheduler"
    options: tuple[str, ...] = ()
    has_several_targets: bool = False


_caller: Final = _Caller()


def set_caller(program: str, options: Sequence[str]) -> None:
    """Store the name of this program, quoted for a shell, and the options for its configuration."""
    _caller.program, _caller.options = program, tuple(options)


def set_targets(count: int) -> None:
    """Store how many targets the caller's configuration has.

    With several, some commands need ``--target``.
    """
    _caller.has_several_targets = count > 1


@contextmanager
def keep_caller() -> Iterator[None]:
    """Restore the caller at the end of the block."""
    before = (_caller.program, _caller.options, _caller.has_several_targets)
    try:
        yield
    finally:
        _caller.program, _caller.options, _caller.has_several_targets = before


def format_command(words: str, *, target: str | None = None) -> str:
    """Return a command as the reader types it.

    For example, the result is ``history --run-status failed`` with the program before and the options behind.
    ``words`` are quoted for a shell where necessary. ``target`` is for a command with ``--target`` when
    several targets are configured.
    """
    named = ("--target", target) if target is not None and _caller.has_several_targets else ()
    return " ".join(part for part in (_caller.program, words, shlex.join((*named, *_caller.options))) if part)


def resume_all(target: str) -> str:
    """Return the command that ends the pause of all automations of a target, between backticks.

    A note on the remaining pauses follows the command.
    """
    return (
        f"`{format_command('resume --all --keep-single', target=target)}` (pauses of single automations stay)"
    )


def help_command(*words: str) -> str:
    """Return the command for the help of a command. The help needs no configuration."""
    return " ".join((_caller.program, *words, "--help"))


def complete_commands(text: str) -> str:
    """Return a constant text with each command between backticks as the reader types the command."""
    return _COMMAND.sub(lambda command: f"`{format_command(command[1])}`", text)


def is_state_dir() -> bool:
    """Return whether the caller's installation is a state directory.

    `up` serves a state directory. `run` and `serve` serve other installations.
    """
    return STATE_DIR in _caller.options


def format_daemon_command() -> str:
    """Return the command to start the daemon."""
    return format_command("up" if is_state_dir() else "run")


def format_api_command() -> str:
    """Return the command to start the embedded API."""
    return format_command("up" if is_state_dir() else "serve")


def advise_start_daemon() -> str:
    """Return the advice for a stopped daemon."""
    service = "" if is_state_dir() else "`sudo systemctl start scheduler`, or "
    return f"start the daemon with {service}`{format_daemon_command()}`"


def advise_log(unit: str) -> str:
    """Return the advice to read the log of a service. In a state directory `up` prints the log."""
    return "see its log, which `up` prints" if is_state_dir() else f"see its log (`journalctl -u {unit}`)"


def advise_start_api() -> str:
    """Return the advice for a stopped embedded API."""
    service = "" if is_state_dir() else "`sudo systemctl start scheduler-api`, or "
    return f"start the embedded API with {service}`{format_api_command()}`"
