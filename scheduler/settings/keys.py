"""The place of a target's key: the key file, a systemd credential, or the environment.

Read again on every reload.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from scheduler.core.command_line import format_api_command, is_state_dir
from scheduler.core.errors import ConfigurationError
from scheduler.core.secret import SecretKey
from scheduler.settings.addresses import is_loopback
from scheduler.settings.models import DEFAULT_TARGET, KEY_VARIABLE, TargetSection

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIAL: Final = "posthog-api-key"
_LONGEST: Final = 4096  # bytes; a key has some 50


class UnusableKey(ConfigurationError):
    """The key of a target is missing, unreadable or invalid. The text names the place, and never the key."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """The place of a target's key, with a usable key or not; ``file`` is None for the environment."""

    kind: Literal["key_file", "credential", "environment"]
    file: Path | None = None

    def __str__(self) -> str:
        return f"the environment variable {KEY_VARIABLE}" if self.file is None else f"the file {self.file}"


def find_key_place(target: TargetSection, environ: Mapping[str, str]) -> KeyPlace | None:
    """Find the place of the target's key: a configured ``key_file``, or the first existing place.

    None without a place.
    """
    if target.key_file is not None:
        return KeyPlace("key_file", target.key_file)
    credential = _find_credential(target, environ)
    if credential is not None and credential.exists():
        return KeyPlace("credential", credential)
    return KeyPlace("environment") if KEY_VARIABLE in environ else None


def load_key(target: TargetSection, environ: Mapping[str, str]) -> SecretKey:
    """Load the target's key from the place of `find_key_place`. Raises `UnusableKey`."""
    place = find_key_place(target, environ)
    try:
        return SecretKey(_read_key(target, environ, place).rstrip("\r\n"))
    except ValueError as error:
        message = f"{error}, in {place}; put the key there and nothing else"
    except UnusableKey as error:
        message = str(error)
    raise UnusableKey(f"target {target.name}: {message}") from None


def _read_key(target: TargetSection, environ: Mapping[str, str], place: KeyPlace | None) -> str:
    if place is None:
        raise UnusableKey(_describe_missing_place(target, _find_credential(target, environ)))
    return environ[KEY_VARIABLE] if place.file is None else _read_key_file(target, place.file)


def _find_credential(target: TargetSection, environ: Mapping[str, str]) -> Path | None:
    """Return the file of systemd's credential, existing or not; None without a folder from systemd."""
    folder = environ.get(CREDENTIALS_VARIABLE)
    return Path(folder) / _make_credential_name(target) if folder else None


def _make_credential_name(target: TargetSection) -> str:
    return CREDENTIAL if target.name == DEFAULT_TARGET else f"{CREDENTIAL}.{target.name}"


def _read_key_file(target: TargetSection, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise UnusableKey(f"the key file {path} is not there; {_advise_on_missing_file(target)}") from None
    except OSError as error:
        what = f"the key file {path} cannot be read: {error.strerror}"
        raise UnusableKey(f"{what}; check the path and the permissions") from None
    if len(content) > _LONGEST:
        raise UnusableKey(f"the file {path} is too long for a key; put the key into it and nothing else")
    return content.decode("ascii", errors="replace")


def _advise_on_missing_file(target: TargetSection) -> str:
    """Return the advice for a missing key file. `scheduler up` makes the key of the embedded API."""
    makes_key = is_state_dir() and is_loopback(urlsplit(target.url).hostname or "")
    return f"start `{format_api_command()}`, which makes the key" if makes_key else "check the path"


def _describe_missing_place(target: TargetSection, credential: Path | None) -> str:
    looked = f"the credential {credential}"
    if credential is None:
        looked = f"a systemd credential {_make_credential_name(target)} (no ${CREDENTIALS_VARIABLE} is set)"
    neither = f"key_file is not set, and there is neither {looked} nor ${KEY_VARIABLE}"
    return f"no key; {neither}; set one of the three"
