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
from scheduler.settings.models import KEY_VARIABLE, TargetSection

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
    if place is None:
        raise _make_missing_error(target, _find_credential(target, environ))
    if place.file is not None:
        return _read_key_file(target, place.file)
    return _parse_key(target, environ[KEY_VARIABLE], str(place))


def _find_credential(target: TargetSection, environ: Mapping[str, str]) -> Path | None:
    """Return the file of systemd's credential, existing or not; None without a folder from systemd."""
    folder = environ.get(CREDENTIALS_VARIABLE)
    return Path(folder) / _make_credential_name(target) if folder else None


def _make_credential_name(target: TargetSection) -> str:
    named = target.name != TargetSection.model_fields["name"].default
    return f"{CREDENTIAL}.{target.name}" if named else CREDENTIAL


def _read_key_file(target: TargetSection, path: Path) -> SecretKey:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise _missing(target, path) from None
    except OSError as error:
        raise UnusableKey(
            f"target {target.name}: the key file {path} cannot be read: {error.strerror}; check the "
            "path and the permissions"
        ) from None
    if len(content) > _LONGEST:
        raise UnusableKey(
            f"target {target.name}: the file {path} is too long for a key; put the key into it and "
            "nothing else"
        )
    return _parse_key(target, content.decode("ascii", errors="replace"), f"the file {path}")


def _missing(target: TargetSection, path: Path) -> UnusableKey:
    """Return the error for a key file that is not there. `scheduler up` makes the key of the embedded API."""
    makes_key = is_state_dir() and is_loopback(urlsplit(target.url).hostname or "")
    advice = f"start `{format_api_command()}`, which makes the key" if makes_key else "check the path"
    return UnusableKey(f"target {target.name}: the key file {path} is not there; {advice}")


def _parse_key(target: TargetSection, text: str, place: str) -> SecretKey:
    try:
        return SecretKey(text.rstrip("\r\n"))
    except ValueError as error:
        raise UnusableKey(
            f"target {target.name}: {error}, in {place}; put the key there and nothing else"
        ) from None


def _make_missing_error(target: TargetSection, credential: Path | None) -> UnusableKey:
    looked = (
        f"the credential {credential}"
        if credential
        else f"a systemd credential {_make_credential_name(target)} (no ${CREDENTIALS_VARIABLE} is set)"
    )
    return UnusableKey(
        f"target {target.name}: no key; key_file is not set, and there is neither {looked} nor "
        f"${KEY_VARIABLE}; set one of the three"
    )
