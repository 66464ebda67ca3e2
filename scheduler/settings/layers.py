"""Where settings come from: a file, the environment, the command line. Each gives assignments, of which the later ones count.

Nothing is checked here but the form; the models judge the values, whatever layer they came from.
"""

import contextlib
import json
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scheduler.settings.catalogue import PREFIX, SETTINGS, TABLES, Dotted, dotted, variable
from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable, nearest

FILE_VARIABLE: Final = "SCHEDULER_CONFIG"
DEFAULT_FILE: Final = Path("/etc/scheduler/scheduler.toml")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who set a value: a file by its path, a variable or an option by its name, or nobody."""

    kind: Literal["default", "file", "environment", "command line"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value for one setting, as it was written."""

    path: Dotted
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says, and what is wrong with its form."""

    assignments: tuple[Assignment, ...] = ()
    problems: tuple[Problem, ...] = ()


def option(path: str, value: object, name: str) -> Assignment:
    """A setting that a command's option gives: ``option("server.listen", "127.0.0.1:0", "--listen")``."""
    return Assignment(tuple(path.split(".")), value, Origin("command line", name))


def find_file(given: Path | None, environ: Mapping[str, str], default: Path = DEFAULT_FILE) -> Path | None:
    """The file to read: the one given, else ``$SCHEDULER_CONFIG``, else the default one where it exists."""
    if given is not None:
        return given
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    return default if default.exists() else None


def from_file(path: Path) -> Layer:
    """The assignments of a TOML file. Raises `SettingsUnreadable` when there is none to read."""
    origin = Origin("file", str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise SettingsUnreadable([Problem(str(origin), what, f"check the path and who may read it (--config, ${FILE_VARIABLE})")]) from None
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else f"is not TOML: {_one_line(error)}"
        return Layer(problems=(Problem(str(origin), what, "mend this first; the rest of the file has not been read"),))
    return Layer(tuple(Assignment(place, value, origin) for place, value in _leaves((), tables)))


def _one_line(error: ValueError) -> str:
    """What the parser says. A UnicodeDecodeError says too much: it repeats bytes of the file."""
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _leaves(path: Dotted, value: object) -> Iterator[tuple[Dotted, object]]:
    """Every value that is no table, with its place; an empty table counts as a value, so that ``[[override]]`` alone is seen."""
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _leaves((*path, number), inner)
    else:
        yield path, value


def from_environment(environ: Mapping[str, str], targets: int) -> Layer:
    """The assignments of the variables ``SCHEDULER_SECTION__KEY``. ``targets``: how many the file has; a variable can set the only one."""
    assignments: list[Assignment] = []
    problems: list[Problem] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        try:
            assignments += _from_variable(name, environ[name], targets)
        except SettingsError as error:
            problems += error.problems
    return Layer(tuple(assignments), tuple(problems))


_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {variable(path): path for path in (*SETTINGS, *TABLES) if len(path) > 1}


def _from_variable(name: str, text: str, targets: int) -> Iterable[Assignment]:
    origin = Origin("environment", name)
    path = _VARIABLES.get(name)
    if path is None:
        raise SettingsError([Problem(str(origin), "is no known setting", _suggestion(name))])
    place = _place(path, targets, origin)
    value = _value(path, text)
    leaves = _leaves(place, value) if path in TABLES else [(place, value)]
    return [Assignment(leaf, inner, origin) for leaf, inner in leaves]


def _suggestion(name: str) -> str:
    match = nearest(name, (known for known, path in _VARIABLES.items() if path[0] != "override"), cutoff=0)
    return f"did you mean {match}? Else unset it: variables of the form {PREFIX}…__… are settings"


def _place(path: tuple[str, ...], targets: int, origin: Origin) -> Dotted:
    """The place that a variable sets. Of the lists of tables, only a single target has one."""
    if path[0] == "override":
        raise SettingsError([Problem(str(origin), "overrides cannot be set in the environment", "write an [[override]] table in the file")])
    if path[0] != "target":
        return path
    if targets > 1:
        what = f"sets one target, but the file has {targets}"
        raise SettingsError([Problem(str(origin), what, f"set {dotted(path)} in the [[target]] table that it is for")])
    return ("target", 0, *path[1:])


def _value(path: tuple[str, ...], text: str) -> object:
    """Text for settings that are texts; JSON for all else. What is no JSON stays text, for the models to refuse."""
    if path in SETTINGS and not _reads_json(SETTINGS[path].field.annotation):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _reads_json(annotation: object) -> bool:
    """Whether a setting's type has values that are no text: numbers, switches and lists."""
    return annotation in {bool, int} or typing.get_origin(annotation) is tuple or any(map(_reads_json, typing.get_args(annotation)))
