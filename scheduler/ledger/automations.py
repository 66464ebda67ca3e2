"""The automations on record: the newest snapshot, and the search by id, name, former name or prefix of an id.

The functions take a connection for reading, see `scheduler.ledger.schema.open_for_reading`.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scheduler.core.instants import to_text
from scheduler.ledger.rows import parse_rows


@dataclass(frozen=True, slots=True)
class AutomationRow:
    """An automation of the newest snapshot. The definition is None when the API's object is broken.

    ``invalid``: why the definition cannot be evaluated. ``run_at``: by the API's clock.
    """

    target: str
    automation_id: str
    name: str
    cron_expression: str | None
    timezone: str | None
    enabled: bool
    invalid: str | None = None
    run_id: str | None = None
    run_at: datetime | None = None

    @property
    def broken(self) -> str | None:
        """The reason why the definition is missing; None with a definition."""
        return (self.invalid or "it has no usable definition") if self.cron_expression is None else None


def read_automations(
    connection: sqlite3.Connection, key: tuple[str, str] | None = None
) -> list[AutomationRow]:
    """Read the automations of the newest snapshot, or the one with this target and id, ordered by name."""
    return parse_rows(AutomationRow, connection.execute(_AUTOMATIONS, key or (None, None)))


_AUTOMATIONS: Final = """
    SELECT * FROM automation
    WHERE removed_at IS NULL AND (?1 IS NULL OR (target, automation_id) = (?1, ?2))
    ORDER BY name, automation_id
"""


def find_changed(connection: sqlite3.Connection, since: datetime) -> set[tuple[str, str]]:
    """Find the target and id of each automation with a definition version that begins after an instant."""
    select = "SELECT target, automation_id FROM definition WHERE effective_from > ?"
    return {
        (target, automation_id) for target, automation_id in connection.execute(select, (to_text(since),))
    }


def read_names(connection: sqlite3.Connection, target: str | None) -> Iterable[str]:
    """Return the names of the automations of the newest snapshot, each name once."""
    select = "SELECT DISTINCT name FROM automation WHERE removed_at IS NULL AND (?1 IS NULL OR target = ?1)"
    return (name for (name,) in connection.execute(select, (target,)))


# ---------------------------------------------------------------- search


@dataclass(frozen=True, slots=True)
class AutomationMatch:
    """An automation of a target, with its newest name and the zone of its newest definition.

    The zone is UTC for an automation that never had a definition.
    """

    target: str
    automation_id: str
    name: str
    timezone: str


def find_named(
    connection: sqlite3.Connection, target: str | None, text: str, *, only_present: bool
) -> list[AutomationMatch]:
    """Find the automations with this id or current name. ``only_present``: without removed automations."""
    rows = connection.execute(_NAMED, {"target": target, "text": text, "only_present": only_present})
    return [AutomationMatch(*row) for row in rows]


def find_formerly_named(
    connection: sqlite3.Connection, target: str | None, text: str
) -> list[AutomationMatch]:
    """Find the automations with this id or name in any recorded definition version."""
    rows = connection.execute(_FORMERLY_NAMED, {"target": target, "text": text})
    return [AutomationMatch(*row) for row in rows]


def find_with_prefix(
    connection: sqlite3.Connection, target: str | None, prefix: str, *, only_present: bool
) -> list[AutomationMatch]:
    """Find the automations with ids that begin with a prefix."""
    values = {"target": target, "prefix": prefix, "only_present": only_present}
    return [AutomationMatch(*row) for row in connection.execute(_WITH_PREFIX, values)]


_MATCH: Final = """
    target, automation_id, name,
    coalesce((SELECT timezone FROM definition
        WHERE target = found.target AND automation_id = found.automation_id
              AND timezone IS NOT NULL ORDER BY id DESC LIMIT 1), 'UTC')
"""
_MATCHES: Final = f"""
    SELECT {_MATCH} FROM automation AS found
    WHERE (:target IS NULL OR target = :target) AND (removed_at IS NULL OR NOT :only_present)
"""  # noqa: S608 -- a literal
_NAMED: Final = f"{_MATCHES} AND (automation_id = :text OR (name = :text AND removed_at IS NULL))"
_WITH_PREFIX: Final = f"{_MATCHES} AND automation_id >= :prefix AND automation_id < :prefix || 'g'"
_FORMERLY_NAMED: Final = f"""
    SELECT {_MATCH.replace("name,", "max(name),", 1)} FROM definition AS found
    WHERE (:target IS NULL OR target = :target) AND (automation_id = :text OR name = :text)
    GROUP BY target, automation_id
"""  # noqa: S608 -- a literal of this module
