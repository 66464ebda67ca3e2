"""The search for automations by id, by name, by a name that a run shows, or by a prefix of an id."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from scheduler.localapi.early_ends import WAITING
from scheduler.localapi.runs import RUNNING, select_runs


class AutomationName(NamedTuple):
    """An automation with its name, or a deleted automation with the name that a run shows."""

    id: str
    name: str


def find_named(connection: sqlite3.Connection, text: str) -> Sequence[AutomationName]:
    """Find the automations with this id or name, each automation once.

    Deleted automations with unfinished runs are found too.
    """
    # an unfinished run may show an earlier name of its automation
    names = dict(connection.execute(_NAMED, (text,)))
    return [AutomationName(*item) for item in names.items()]


def find_in_runs(connection: sqlite3.Connection, text: str, limit: int) -> Sequence[AutomationName]:
    """Find the automations whose newest runs show this id or name, deleted automations included."""
    runs = select_runs(connection, automation=text, status=None, limit=limit)
    return list(
        {run["automation_id"]: AutomationName(run["automation_id"], run["name"]) for run in runs}.values()
    )


def find_with_prefix(connection: sqlite3.Connection, prefix: str, limit: int) -> list[AutomationName]:
    """Find the automations with ids that begin with a prefix."""
    rows = connection.execute(_WITH_PREFIX, {"prefix": prefix, "limit": limit})
    return [AutomationName(*row) for row in rows]


def read_names(connection: sqlite3.Connection) -> list[str]:
    """Read the names of the automations."""
    return [name for (name,) in connection.execute("SELECT DISTINCT name FROM automations")]


_NAMED: Final = f"""
    SELECT id, name FROM automations WHERE id = ?1
    UNION SELECT id, name FROM automations WHERE name = ?1
    UNION SELECT automation_id, name {WAITING} AND ?1 IN (automation_id, name)
    UNION SELECT automation_id, name {RUNNING} AND ?1 IN (automation_id, name)
"""  # noqa: S608 - the names are constants
_WITH_PREFIX: Final = (
    "SELECT id, name FROM automations WHERE id >= :prefix AND id < :prefix || 'g' ORDER BY id LIMIT :limit"
)
