"""From sources to settings: defaults, the file and the environment.

All mistakes are reported together.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scheduler.settings.conflicts import find_conflicts
from scheduler.settings.error_messages import describe_place, make_problems
from scheduler.settings.models import Settings
from scheduler.settings.problems import Problem, SettingsError
from scheduler.settings.registry import LISTS, SettingPath
from scheduler.settings.sources import (
    Assignment,
    Origin,
    find_file,
    read_environment,
    read_file,
    walk_leaves,
)

_DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Checked settings, the file, and the origin of each setting."""

    settings: Settings
    file: Path | None
    origins: Mapping[SettingPath, Origin]

    def list_effective(self) -> Iterator[Assignment]:
        """Yield every setting, in the order of the file. No key is included.

        Of an override, only the settings that the override sets are included.
        """
        shown = self.settings.model_dump(mode="json", by_alias=True)
        shown["override"] = [
            override.model_dump(mode="json", exclude_unset=True) for override in self.settings.overrides
        ]
        for path, value in walk_leaves((), shown):
            if path not in LISTS:  # an empty list of tables
                yield Assignment(path, value, self.origins.get(path, _DEFAULT))


def load(file: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read and check all sources. ``file`` is the file of ``--config``, if any.

    Raises `SettingsError` with all mistakes, or `SettingsUnreadable` when the file cannot be read.
    """
    found = find_file(file, environ)
    written, unread = ([], []) if found is None else read_file(found)
    variables, misread = read_environment(environ, _count_targets(written))
    assigned = {one.path: one for one in (*written, *variables)}
    settings, findings = _check_settings(assigned, partial=bool(unread))
    problems = (*unread, *misread, *findings)
    if settings is None or problems:
        raise SettingsError(problems)
    return Configuration(settings, found, {path: one.origin for path, one in assigned.items()})


def _count_targets(assignments: Iterable[Assignment]) -> int:
    """Count the ``[[target]]`` tables."""
    return len({one.path[1] for one in assignments if one.path[0] == "target" and len(one.path) > 1})


def _check_settings(
    assigned: Mapping[SettingPath, Assignment], *, partial: bool
) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, or all problems.

    With ``partial`` the file is unread: missing settings are no problems.
    """
    tree = _build_tree(assigned.values())
    settings, faults = _validate(tree)
    conflicts = find_conflicts(tree, {fault["loc"] for fault in faults})
    counted = [fault for fault in faults if not (partial and fault["type"] == "missing")]
    return settings, make_problems(counted, assigned) + [
        Problem(describe_place(path, assigned), what, remedy) for path, what, remedy in conflicts
    ]


def _validate(tree: Mapping[str, object]) -> tuple[Settings | None, list[ErrorDetails]]:
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _build_tree(assignments: Iterable[Assignment]) -> dict[str, object]:
    """Build nested tables from the assignments.

    Values below a value that is no table are left out: the value above is the mistake.
    """
    root: dict[str | int, object] = {}
    for one in sorted(assignments, key=lambda one: len(one.path)):
        table: object = root
        for part in one.path[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.setdefault(one.path[-1], dict(one.value) if isinstance(one.value, dict) else one.value)
    return {str(name): _convert_numbered_tables(value) for name, value in root.items()}


def _convert_numbered_tables(value: object) -> object:
    """Convert numbered tables to a list."""
    if not isinstance(value, dict):
        return value
    inner = {name: _convert_numbered_tables(below) for name, below in value.items()}
    if inner and all(isinstance(name, int) for name in inner):
        return [inner[number] for number in sorted(inner)]
    return inner
