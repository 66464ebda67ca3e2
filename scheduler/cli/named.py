"""Which automation on record a command means by an id or a name: also one that is gone by now, or was called so once."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.core.model import InvalidAutomation, canonical_id


@dataclass(frozen=True, slots=True)
class Named:
    """An automation of a target, with its newest name, and the zone of its newest definition; UTC if it never had one."""

    target: str
    automation_id: str
    name: str
    timezone: str


def named(connection: sqlite3.Connection, target: str | None, automation: str) -> Named:
    """The one that is meant: by its id, else by the name that it has, else by one that it had. Raises `AnswerIsNo`."""
    try:
        wanted = (target, canonical_id(automation))
    except InvalidAutomation:
        wanted = (target, automation)
    for select in (_NOW, _ONCE):
        rows = connection.execute(select, wanted).fetchall()
        if len(rows) > 1:
            which = ", ".join(f"{row['automation_id']} (target {row['target']})" for row in rows)
            raise AnswerIsNo(f"there are {len(rows)} automations called {automation!r}; give the id of one, or --target: {which}")
        if rows:
            return Named(*rows[0])
    raise AnswerIsNo(f"the ledger has no automation {automation!r}" + ("" if target is None else f" of target {target!r}"))


_ZONE: Final = """
    coalesce((SELECT timezone FROM definition WHERE target = found.target AND automation_id = found.automation_id
              AND timezone IS NOT NULL ORDER BY id DESC LIMIT 1), 'UTC')
"""
_NOW: Final = f"""
    SELECT target, automation_id, name, {_ZONE} FROM automation AS found
    WHERE (?1 IS NULL OR target = ?1) AND (automation_id = ?2 OR (name = ?2 AND removed_at IS NULL))
"""  # noqa: S608 -- a literal of this module
_ONCE: Final = f"""
    SELECT target, automation_id, max(name), {_ZONE} FROM definition AS found
    WHERE (?1 IS NULL OR target = ?1) AND (automation_id = ?2 OR name = ?2) GROUP BY target, automation_id
"""  # noqa: S608 -- a literal of this module
