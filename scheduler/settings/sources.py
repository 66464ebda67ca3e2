"""The sources of settings: a file, the environment, the command line. Later assignments replace earlier ones.

Only the form is checked here; the models judge the values of all sources.
"""

import contextlib
import json
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable, find_nearest
from scheduler.settings.registry import (
    SETTINGS,
    TABLES,
    VARIABLE_PREFIX,
    SettingPath,
    format_path,
    make_variable_name,
)

FILE_VARIABLE: Final = "SCHEDULER_CONFIG"
DEFAULT_FILE: Final = Path("/etc/scheduler/scheduler.toml")


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a value: a file by path, a variable or an option by name, or the default."""

    kind: Literal["default", "file", "environment", "command line"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for a setting, as written."""

    path: SettingPath
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """The assignments of a source, and the problems of the source's form."""

    assignments: tuple[Assignment, ...] = ()
    problems: tuple[Problem, ...] = ()


def make_option_assignment(path: str, value: object, name: str) -> Assignment:
    """Make the assignment of an option, for example ``("server.listen", "127.0.0.1:0", "--listen")``."""
    return Assignment(tuple(path.split(".")), value, Origin("command line", name))


def find_file(given: Path | None, environ: Mapping[str, str], default: Path = DEFAULT_FILE) -> Path | None:
    """Find the file to read: the given file, else ``$SCHEDULER_CONFIG``, else an existing default file."""
    if given is not None:
        return given
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    return default if default.exists() else None


def read_file(path: Path) -> SettingsSource:
    """Read the assignments of a TOML file. Raises `SettingsUnreadable` without a readable file."""
    origin = Origin("file", str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise SettingsUnreadable(
            [Problem(str(origin), what, f"check the path and the permissions (--config, ${FILE_VARIABLE})")]
        ) from None
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        what = (
            "is nested too deep"
            if isinstance(error, RecursionError)
            else f"is not TOML: {_describe_parse_error(error)}"
        )
        return SettingsSource(
            problems=(
                Problem(str(origin), what, "correct this first; the rest of the file has not been read"),
            )
        )
    return SettingsSource(
        tuple(Assignment(place, value, origin) for place, value in _walk_leaves((), tables))
    )


def _describe_parse_error(error: ValueError) -> str:
    """Describe the parser's error. A UnicodeDecodeError is replaced: the text repeats bytes of the file."""
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _walk_leaves(path: SettingPath, value: object) -> Iterator[tuple[SettingPath, object]]:
    """Yield every value that is no table, with the place.

    An empty table counts as a value, to detect an empty ``[[override]]``.
    """
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _walk_leaves((*path, name), inner)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _walk_leaves((*path, number), inner)
    else:
        yield path, value


def read_environment(environ: Mapping[str, str], targets: int) -> SettingsSource:
    """Read the assignments of the variables ``SCHEDULER_SECTION__KEY``.

    ``targets`` is the number of targets in the file. A variable can set a target only when the target is the
    only one.
    """
    assignments: list[Assignment] = []
    problems: list[Problem] = []
    for name in sorted(environ):
        if not name.startswith(VARIABLE_PREFIX) or "__" not in name:
            continue
        try:
            assignments += _read_variable(name, environ[name], targets)
        except SettingsError as error:
            problems += error.problems
    return SettingsSource(tuple(assignments), tuple(problems))


_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    make_variable_name(path): path for path in (*SETTINGS, *TABLES) if len(path) > 1
}


def _read_variable(name: str, text: str, targets: int) -> Iterable[Assignment]:
    origin = Origin("environment", name)
    path = _VARIABLES.get(name)
    if path is None:
        raise SettingsError([Problem(str(origin), "is no known setting", _suggest_variable(name))])
    place = _find_path(path, targets, origin)
    value = _parse_value(path, text)
    leaves = _walk_leaves(place, value) if path in TABLES else [(place, value)]
    return [Assignment(leaf, inner, origin) for leaf, inner in leaves]


def _suggest_variable(name: str) -> str:
    match = find_nearest(
        name, (known for known, path in _VARIABLES.items() if path[0] != "override"), cutoff=0
    )
    return f"did you mean {match}? Else unset it: variables of the form {VARIABLE_PREFIX}…__… are settings"


def _find_path(path: tuple[str, ...], targets: int, origin: Origin) -> SettingPath:
    """Find the place for a variable. Among the lists of tables, only a single target has a place."""
    if path[0] == "override":
        raise SettingsError(
            [
                Problem(
                    str(origin),
                    "overrides cannot be set in the environment",
                    "write an [[override]] table in the file",
                )
            ]
        )
    if path[0] != "target":
        return path
    if targets > 1:
        what = f"sets one target, but the file has {targets}"
        raise SettingsError(
            [Problem(str(origin), what, f"set {format_path(path)} in the [[target]] table that it is for")]
        )
    return ("target", 0, *path[1:])


def _parse_value(path: tuple[str, ...], text: str) -> object:
    """Parse a variable: text for settings with a text, JSON for all others.

    Invalid JSON stays text, and the models refuse it.
    """
    if path in SETTINGS and not _is_json_type(SETTINGS[path].field.annotation):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _is_json_type(annotation: object) -> bool:
    """Return whether a setting's type has values other than text: numbers, switches and lists."""
    return (
        annotation in {bool, int}
        or typing.get_origin(annotation) is tuple
        or any(map(_is_json_type, typing.get_args(annotation)))
    )
