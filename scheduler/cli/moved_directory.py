"""A state directory that was moved or copied: its configuration still names the files in the old place.

A copy would work on the databases of the original, and a moved one on none: so commands refuse it, and print what corrects it.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from scheduler.core.errors import ConfigurationError
from scheduler.settings import Configuration
from scheduler.settings.registry import SettingPath, format_path


def refuse_moved_directory(configuration: Configuration, folder: Path) -> None:
    """Raise `ConfigurationError` when the configuration in a state directory was made by `up` for another directory."""
    made = [(place, path) for place, path in _list_files(configuration) if configuration.origins[place].kind == "file"]
    if any(path.parent.resolve() == folder.resolve() for _, path in made):
        return
    for place, path in made:
        old = path.parent
        if not old.exists() or (old / "scheduler.toml").exists():  # else somebody chose this place
            file = folder / "scheduler.toml"
            raise ConfigurationError(
                f"{file} names files of another state directory: {format_path(place)} is {path}. Was {old} moved or copied? "
                f"Correct the paths: `sed -i {shlex.quote(_make_sed_expression(old, folder.absolute()))} {shlex.quote(str(file))}`"
            )


def _list_files(configuration: Configuration) -> Iterator[tuple[SettingPath, Path]]:
    """Yield the files that `up` puts into a state directory, by setting, as far as they have the names that `up` gives."""
    settings, origins = configuration.settings, configuration.origins
    found: list[tuple[SettingPath, Path | None, str]] = [
        *((("target", number, "key_file"), target.key_file, "api-key") for number, target in enumerate(settings.targets)),
        (("ledger", "url"), settings.ledger.url.path, "scheduler.db"),
        (("api", "database"), settings.api.database.path, "api.db"),
    ]
    yield from ((place, path) for place, path, name in found if path is not None and path.name == name and place in origins)


def _make_sed_expression(old: Path, new: Path) -> str:
    """Return the expression of sed that replaces a folder."""
    pattern = re.sub(r"([][\\.*^$|])", r"\\\1", f"{old}/")
    replacement = re.sub(r"([&|\\])", r"\\\1", f"{new}/")
    return f"s|{pattern}|{replacement}|g"
