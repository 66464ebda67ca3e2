"""Where a target's key is found: its file, else a credential from systemd, else the environment. Read anew on every reload."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scheduler.core.errors import ConfigurationError
from scheduler.core.key import Key
from scheduler.settings.models import KEY_VARIABLE, Target

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIAL: Final = "posthog-api-key"
_LONGEST: Final = 4096  # bytes; a key has some 50


class KeyUnusable(ConfigurationError):
    """A target's key is nowhere, cannot be read, or is none. The text says where it was looked for, and never what it is."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a target's key is, whether it is any good or not; ``file`` is None for the environment."""

    kind: Literal["key_file", "credential", "environment"]
    file: Path | None = None

    def __str__(self) -> str:
        return f"the environment variable {KEY_VARIABLE}" if self.file is None else f"the file {self.file}"


def key_place(target: Target, environ: Mapping[str, str]) -> KeyPlace | None:
    """The one place that the target's key is read from: a ``key_file`` that is set, else the first that there is; None: there is none."""
    if target.key_file is not None:
        return KeyPlace("key_file", target.key_file)
    credential = _credential(target, environ)
    if credential is not None and credential.exists():
        return KeyPlace("credential", credential)
    return KeyPlace("environment") if KEY_VARIABLE in environ else None


def load_key(target: Target, environ: Mapping[str, str]) -> Key:
    """The target's key, from its `key_place`. Raises `KeyUnusable`."""
    place = key_place(target, environ)
    if place is None:
        raise _nowhere(target, _credential(target, environ))
    if place.file is not None:
        return _from_file(target, place.file)
    return _key(target, environ[KEY_VARIABLE], str(place))


def _credential(target: Target, environ: Mapping[str, str]) -> Path | None:
    """The file of systemd's credential, whether it exists or not; None where systemd gave us no folder for them."""
    folder = environ.get(CREDENTIALS_VARIABLE)
    return Path(folder) / _credential_name(target) if folder else None


def _credential_name(target: Target) -> str:
    named = target.name != Target.model_fields["name"].default
    return f"{CREDENTIAL}.{target.name}" if named else CREDENTIAL


def _from_file(target: Target, path: Path) -> Key:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise KeyUnusable(
            f"target {target.name}: the key file {path} cannot be read: {error.strerror}; check the path and who may read it"
        ) from None
    if len(content) > _LONGEST:
        raise KeyUnusable(f"target {target.name}: the file {path} is too long for a key; put the key into it and nothing else")
    return _key(target, content.decode("ascii", errors="replace"), f"the file {path}")


def _key(target: Target, text: str, place: str) -> Key:
    try:
        return Key(text.rstrip("\r\n"))
    except ValueError as error:
        raise KeyUnusable(f"target {target.name}: {error}, in {place}; put the key there and nothing else") from None


def _nowhere(target: Target, credential: Path | None) -> KeyUnusable:
    looked = (
        f"the credential {credential}"
        if credential
        else f"a systemd credential {_credential_name(target)} (no ${CREDENTIALS_VARIABLE} is set)"
    )
    return KeyUnusable(
        f"target {target.name}: no key; key_file is not set, and there is neither {looked} nor ${KEY_VARIABLE}; set one of the three"
    )
