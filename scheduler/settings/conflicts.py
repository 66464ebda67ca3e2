"""Mistakes in the combination of values: two targets with the same API, two databases in the same file.

The module reads the values as written and skips values with a mistake of their own, so that both kinds of
mistakes are reported together.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from scheduler.settings.addresses import DatabaseUrl, parse_api_url, parse_database_url
from scheduler.settings.models import DEFAULT_TARGET, ApiSettings, LedgerSettings, parse_project
from scheduler.settings.registry import SettingPath, format_path

Conflict = tuple[SettingPath, str, str]
"""The place, the mistake, and the remedy."""

_Value = TypeVar("_Value", bound=Hashable)


def find_conflicts(tree: Mapping[str, object], faulty: Collection[SettingPath]) -> list[Conflict]:
    """Find the contradictions between values. ``faulty`` are the places already known to be wrong."""
    listed = tree.get("target")
    tables = enumerate(listed) if isinstance(listed, list) else ()
    targets = {number: table for number, table in tables if isinstance(table, dict)}
    return [
        *_find_name_conflicts(targets, faulty),
        *_find_duplicate_targets(targets, faulty),
        *_find_database_conflicts(tree, faulty),
    ]


def _find_name_conflicts(
    targets: Mapping[int, Mapping[str, object]], faulty: Collection[SettingPath]
) -> Iterator[Conflict]:
    names = [
        (number, str(table.get("name", DEFAULT_TARGET)))
        for number, table in targets.items()
        if ("target", number, "name") not in faulty
    ]
    for first, again, name in _find_repeats(names):
        what = f'has the same name as {format_path(("target", first))}: "{name}"'
        yield ("target", again, "name"), what, "give each [[target]] a name of its own"


def _find_duplicate_targets(
    targets: Mapping[int, Mapping[str, object]], faulty: Collection[SettingPath]
) -> Iterator[Conflict]:
    known = [
        (number, (parse_api_url(table["url"]), parse_project(table["project_id"])))
        for number, table in targets.items()
        if not {("target", number, "url"), ("target", number, "project_id")} & set(faulty)
    ]
    for first, again, _ in _find_repeats(known):
        what = f"is the same URL and project as {format_path(('target', first))}"
        what += ", so everything would be fired twice"
        yield ("target", again), what, "remove one of them, or correct its url or project_id"


def _find_repeats(values: Iterable[tuple[int, _Value]]) -> Iterator[tuple[int, int, _Value]]:
    """Yield each repeated value, with the number of the first table and of the repeating table."""
    seen: dict[_Value, int] = {}
    for number, value in values:
        first = seen.setdefault(value, number)
        if first != number:
            yield first, number, value


def _find_database_conflicts(
    tree: Mapping[str, object], faulty: Collection[SettingPath]
) -> Iterator[Conflict]:
    ledger = _find_database_file(tree, "ledger", "url", LedgerSettings().url, faulty)
    api = _find_database_file(tree, "api", "database", ApiSettings().database, faulty)
    if ledger is not None and ledger == api:
        what = "is the same file as the ledger (ledger.url)"
        yield ("api", "database"), what, "give the embedded API a database of its own"


def _find_database_file(
    tree: Mapping[str, object], section: str, key: str, default: DatabaseUrl, faulty: Collection[SettingPath]
) -> Path | None:
    if {(section,), (section, key)} & set(faulty):
        return None
    table = tree.get(section, {})
    url = parse_database_url(table[key]) if isinstance(table, dict) and key in table else default
    return url.path.resolve()
