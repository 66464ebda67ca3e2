"""The sources of settings: a file and the environment. The environment replaces assignments of the file.

Only the form is checked here; the models judge the values of all sources.
"""

import contextlib
import json
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scheduler.settings.problems import InvalidSetting, Problem, SettingsUnreadable, find_nearest
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
    """The origin of a value: a file by path, a variable by name, or the default."""

    kind: Literal["default", "file", "environment"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for a setting: as written, or in force and in JSON's types."""

    path: SettingPath
    value: object
    origin: Origin


SourceContent = tuple[Sequence[Assignment], Sequence[Problem]]
"""The assignments of a source, and the problems of the source's form."""


def find_file(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Find the file to read: the given file, else ``$SCHEDULER_CONFIG``, else an existing default file."""
    if given is not None:
        return given
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_file(path: Path) -> SourceContent:
    """Read the assignments of a TOML file. Raises `SettingsUnreadable` without a readable file."""
    origin = Origin("file", str(path))
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        remedy = f"check the path and the permissions (--config, ${FILE_VARIABLE})"
        what = f"cannot be read: {error.strerror}"
        raise SettingsUnreadable([Problem(str(origin), what, remedy)]) from None
    except (ValueError, RecursionError) as error:
        remedy = "correct this first; the rest of the file has not been read"
        return [], [Problem(str(origin), _describe_parse_error(error), remedy)]
    return [Assignment(place, value, origin) for place, value in walk_leaves((), tables)], []


def _describe_parse_error(error: ValueError | RecursionError) -> str:
    """Describe the parser's error. A UnicodeDecodeError is replaced: the text repeats bytes of the file."""
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return f"is not TOML: {'it is not UTF-8 text' if isinstance(error, UnicodeDecodeError) else error}"


def walk_leaves(path: SettingPath, value: object) -> Iterator[tuple[SettingPath, object]]:
    """Yield every value that is no table, with the place.

    An empty table counts as a value, to detect an empty ``[[override]]``.
    """
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from walk_leaves((*path, name), inner)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from walk_leaves((*path, number), inner)
    else:
        yield path, value


def read_environment(environ: Mapping[str, str], targets: int) -> SourceContent:
    """Read the assignments of the variables ``SCHEDULER_SECTION__KEY``.

    ``targets`` is the number of targets in the file. A variable can set a target only when the target is the
    only one.
    """
    assignments: list[Assignment] = []
    problems: list[Problem] = []
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX) and "__" in name):
        origin = Origin("environment", name)
        try:
            leaves = _read_variable(name, environ[name], targets)
        except InvalidSetting as error:
            problems.append(Problem(str(origin), error.what, error.remedy))
        else:
            assignments += (Assignment(path, value, origin) for path, value in leaves)
    return assignments, problems


_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    make_variable_name(path): path for path in (*SETTINGS, *TABLES) if len(path) > 1
}


def _read_variable(name: str, text: str, targets: int) -> Iterable[tuple[SettingPath, object]]:
    path = _VARIABLES.get(name)
    if path is None:
        raise InvalidSetting("is no known setting", _suggest_variable(name))
    place, value = _find_path(path, targets), _parse_value(path, text)
    return walk_leaves(place, value) if path in TABLES else [(place, value)]


def _suggest_variable(name: str) -> str:
    possible = (known for known, path in _VARIABLES.items() if path[0] != "override")
    match = find_nearest(name, possible, cutoff=0)
    return f"did you mean {match}? Else unset it: variables of the form {VARIABLE_PREFIX}…__… are settings"


def _find_path(path: tuple[str, ...], targets: int) -> SettingPath:
    """Find the place for a variable. Among the lists of tables, only a single target has a place."""
    if path[0] == "override":
        what = "overrides cannot be set in the environment"
        raise InvalidSetting(what, "write an [[override]] table in the file")
    if path[0] != "target":
        return path
    if targets > 1:
        what = f"sets one target, but the file has {targets}"
        raise InvalidSetting(what, f"set {format_path(path)} in the [[target]] table that it is for")
    return ("target", 0, *path[1:])


def _parse_value(path: tuple[str, ...], text: str) -> object:
    """Parse a variable: text for settings with a text, JSON for all others.

    Invalid JSON stays text, and the models refuse it.
    """
    if path in SETTINGS and not _is_json_type(SETTINGS[path].annotation):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _is_json_type(annotation: object) -> bool:
    """Return whether a setting's type has values other than text: numbers, switches and lists."""
    if annotation in {bool, int} or typing.get_origin(annotation) is tuple:
        return True
    return any(map(_is_json_type, typing.get_args(annotation)))
