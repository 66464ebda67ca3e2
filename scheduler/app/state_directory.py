"""The state directory of `scheduler up`: a configuration for every command, and a key.

The configuration is made when missing, and never changed afterwards, because the file belongs to the
operator.
"""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.core.command_line import FILE_NAME
from scheduler.core.errors import ConfigurationError
from scheduler.settings.load import load
from scheduler.settings.models import Settings

KEY_NAME: Final = "api-key"
_HOST: Final = "127.0.0.1"
_PROJECT: Final = "1"
_API_PORT: Final = 8040
_SERVER_PORT: Final = 9464
_MAX_PORTS: Final = 20

_CONFIGURATION: Final = """\
# Made by `scheduler up`; yours to change. Every setting: docs/configuration.md

[[target]]
url = {url}
project_id = {project}
key_file = {key}
idempotent = true                # the embedded API honours Idempotency-Key
requests_per_minute = 100000     # it has no rate limit of its own
requests_per_hour = 1000000

[schedule]
poll_interval = "5s"             # so the end of a run is seen soon; asking this API costs nothing

[ledger]
url = {ledger}

[server]
listen = {server}

[api]
listen = {api}
database = {database}

[api.runner]
command = ["cat"]                # your agent: argv, no shell; the prompt is on its standard input
"""


def prepare_folder(folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Make the folder and its configuration where missing, and return the configuration's path.

    Where the environment changes a value, the file gets the same value: later commands may not have these
    variables, and the target must be the served API. Raises `ConfigurationError`.
    """
    folder = folder.absolute()
    file = folder / FILE_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _write(file, _make_configuration(folder, environ), 0o644)
    except OSError as error:
        fault = f"the state directory {folder} cannot be used: {error.strerror}"
        raise ConfigurationError(f"{fault}; name another with --state-dir") from None
    return file


def _make_configuration(folder: Path, environ: Mapping[str, str]) -> str:
    """Return the text of the configuration file.

    Raises `ConfigurationError`, and `SettingsError` for errors in the environment.
    """
    if not all(character.isprintable() and character not in '"\\?#' for character in str(folder)):
        fault = f"the state directory {str(folder)!r} has a character that a configuration cannot hold"
        raise ConfigurationError(f"{fault}; name another")
    api, server = (f"{_HOST}:{_find_free_port(first)}" for first in (_API_PORT, _SERVER_PORT))
    values = {
        "url": f"http://{api}",
        "project": _PROJECT,
        "key": f"{folder}/{KEY_NAME}",
        "ledger": f"sqlite:///{folder}/scheduler.db",
        "server": server,
        "api": api,
        "database": f"sqlite:///{folder}/api.db",
    }
    draft = folder / f"{FILE_NAME}.draft"
    try:
        _write(draft, _format_configuration(values), 0o600)
        settings = load(draft, environ).settings
    finally:
        draft.unlink(missing_ok=True)
    return _format_configuration(_apply_environment(values, settings))


def _format_configuration(values: Mapping[str, str]) -> str:
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return _CONFIGURATION.format(**texts)


def _apply_environment(values: Mapping[str, str], settings: Settings) -> Mapping[str, str]:
    """Return the values that fit together with the environment.

    Raises `ConfigurationError` when no URL can lead to the API.
    """
    target, listen = settings.targets[0], settings.api.listen
    if listen is None or not listen.port:
        need = "`up` needs an address with a port for the embedded API"
        remedy = 'set SCHEDULER_API__LISTEN to one like "127.0.0.1:8040", or unset it'
        raise ConfigurationError(f'{need}, and [api] listen is "{listen or ""}"; {remedy}')
    return {
        "url": target.url if listen.is_reached_by(target.url) else f"http://{listen.local_address}",
        "project": target.project_id,
        "key": str(target.key_file or values["key"]),
        "ledger": str(settings.ledger.url),
        "server": str(settings.server.listen or ""),
        "api": str(listen),
        "database": str(settings.api.database),
    }


def _find_free_port(first: int) -> int:
    """Find the first free port from ``first`` on.

    Return ``first`` when all ports are taken, so that the error names this port.
    """
    return next((port for port in range(first, first + _MAX_PORTS) if _is_free(port)), first)


def _is_free(port: int) -> bool:
    try:
        socket.create_server((_HOST, port)).close()
    except OSError:
        return False
    return True


def read_key(file: Path) -> str:
    """Read the key in the file; empty without a file. Raises `ConfigurationError`."""
    try:
        return file.read_bytes().decode(errors="replace").strip()  # an invalid key is replaced later
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _make_key_error(file, error) from None


def write_key(file: Path, key: str) -> None:
    """Write a key into a file that only its owner can read. Raises `ConfigurationError`."""
    try:
        _write(file, key + "\n", 0o600)
    except OSError as error:
        raise _make_key_error(file, error) from None


def _make_key_error(file: Path, error: OSError) -> ConfigurationError:
    remedy = "check that you own the file and that its disk has room"
    return ConfigurationError(f"the key file {file} cannot be used: {error.strerror}; {remedy}")


def _write(file: Path, text: str, mode: int) -> None:
    """Write the whole text into the file, or leave the file unchanged.

    Half a file on a full disk would be taken for the operator's own file.
    """
    part = file.with_name(file.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)
