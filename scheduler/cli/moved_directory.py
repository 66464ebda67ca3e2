"""The check for a moved or copied state directory: its configuration still names the old files.

A copy would use the databases of the original, and a moved directory would use no database. So commands
refuse such a directory, and print the command for the correction.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from scheduler.core.command_line import FILE_NAME
from scheduler.core.errors import ConfigurationError
from scheduler.settings.load import Configuration
from scheduler.settings.registry import SettingPath, format_path


def refuse_moved_directory(configuration: Configuration, folder: Path) -> None:
    """Raise `ConfigurationError` when `up` made the configuration for another state directory."""
    made = list(_list_files(configuration))
    if any(path.parent.resolve() == folder.resolve() for _, path in made):
        return
    for place, path in made:
        old = path.parent
        if not old.exists() or (old / FILE_NAME).exists():  # otherwise the place was chosen on purpose
            file = folder / FILE_NAME
            correct = shlex.join(["sed", "-i", _make_sed_expression(old, folder.absolute()), str(file)])
            fault = f"{file} names files of another state directory: {format_path(place)} is {path}"
            question = f"Was {old} moved or copied?"
            raise ConfigurationError(f"{fault}. {question} Correct the paths: `{correct}`")


def _list_files(configuration: Configuration) -> Iterator[tuple[SettingPath, Path]]:
    """Yield the files that `up` puts into a state directory, by setting.

    Only settings of the configuration file count, with the names given by `up`.
    """
    settings, origins = configuration.settings, configuration.origins
    candidates: list[tuple[SettingPath, Path | None, str]] = [
        (("target", number, "key_file"), target.key_file, "api-key")
        for number, target in enumerate(settings.targets)
    ]
    candidates.append((("ledger", "url"), settings.ledger.url.path, "scheduler.db"))
    candidates.append((("api", "database"), settings.api.database.path, "api.db"))
    for place, path, name in candidates:
        is_in_file = place in origins and origins[place].kind == "file"
        if path is not None and path.name == name and is_in_file:
            yield place, path


def _make_sed_expression(old: Path, new: Path) -> str:
    """Return the sed expression that replaces a folder."""
    pattern = re.sub(r"([][\\.*^$|])", r"\\\1", f"{old}/")
    replacement = re.sub(r"([&|\\])", r"\\\1", f"{new}/")
    return f"s|{pattern}|{replacement}|g"
