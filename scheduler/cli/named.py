"""Which automation on record a command means: by its id, by a name, or by the first characters of its id."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.cli.lookup import Candidate, advise, last_with, read_prefix, refuse_ambiguous, refuse_unknown
from scheduler.core.model import InvalidAutomation, canonical_id


@dataclass(frozen=True, slots=True)
class Named:
    """An automation of a target, with its newest name, and the zone of its newest definition; UTC if it never had one."""

    target: str
    automation_id: str
    name: str
    timezone: str


def named(connection: sqlite3.Connection, target: str | None, automation: str) -> Named:
    """Find an automation by its id, by its name, or by a name that it had; by the beginning of its id when nothing is called so.

    Also one that is gone. Raises `AnswerIsNo` when there is none, or are several.
    """
    return _choose(connection, target, automation, (_NOW, _ONCE, _BEGINS), "in the ledger")


def named_now(connection: sqlite3.Connection, target: str | None, automation: str) -> Named:
    """Find an automation of the newest snapshot by its id, its name or the beginning of its id. Raises as `named` does."""
    return _choose(connection, target, automation, (_PRESENT, _PRESENT_BEGINS), "in the newest snapshot")


def widen(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str | None:
    """Return the id that begins with the text, for a filter by id, name or pattern; the text itself when something is called so.

    Raises `AnswerIsNo` when several ids begin with it.
    """
    if automation is None or read_prefix(automation) is None:
        return automation
    if _search(connection, _NOW, target, automation) or _search(connection, _ONCE, target, automation):
        return automation
    found = _search(connection, _BEGINS, target, automation)
    if len({each.automation_id for each in found}) > 1:
        raise refuse_ambiguous(automation, _candidates(found))
    return found[0].automation_id if found else automation


def advise_on(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str:
    """Return the advice about a text that matches nothing, to follow a message; an empty text when there is none."""
    advice = "" if automation is None else advise(automation, read_names(connection, target))
    return f"; {advice}" if advice else ""


def _choose(connection: sqlite3.Connection, target: str | None, automation: str, selects: Sequence[str], where: str) -> Named:
    for select in selects:
        found = _search(connection, select, target, automation)
        if len(found) > 1:
            several = len({each.target for each in found}) > 1
            raise refuse_ambiguous(automation, _candidates(found), advice=", or --target" if several else "")
        if found:
            return found[0]
    of_target = "" if target is None else f", target {target}"
    raise refuse_unknown(automation, read_names(connection, target), f" {where}{of_target}")


def _candidates(found: Iterable[Named]) -> list[Candidate]:
    return [Candidate(each.automation_id, each.name, f"target {each.target}") for each in found]


def _read_id(text: str) -> str:
    """Return the text in the usual form of an id, if it is an id."""
    try:
        return canonical_id(text)
    except InvalidAutomation:
        return text


def _search(connection: sqlite3.Connection, select: str, target: str | None, automation: str) -> list[Named]:
    prefix = read_prefix(automation)
    if prefix is None and select in {_BEGINS, _PRESENT_BEGINS}:
        return []
    values = {"target": target, "text": _read_id(automation), "begin": prefix, "end": last_with(prefix or "")}
    return [Named(*row) for row in connection.execute(select, values)]


def read_names(connection: sqlite3.Connection, target: str | None) -> Iterable[str]:
    """Return the names of the automations of the newest snapshot, each once."""
    select = "SELECT DISTINCT name FROM automation WHERE removed_at IS NULL AND (:target IS NULL OR target = :target)"
    return (name for (name,) in connection.execute(select, {"target": target}))


_FIELDS: Final = """
    target, automation_id, name,
    coalesce((SELECT timezone FROM definition WHERE target = found.target AND automation_id = found.automation_id
              AND timezone IS NOT NULL ORDER BY id DESC LIMIT 1), 'UTC')
"""
_OF_TARGET: Final = f"SELECT {_FIELDS} FROM automation AS found WHERE (:target IS NULL OR target = :target)"  # noqa: S608 -- a literal
_NOW: Final = f"{_OF_TARGET} AND (automation_id = :text OR (name = :text AND removed_at IS NULL))"
_PRESENT: Final = f"{_OF_TARGET} AND removed_at IS NULL AND :text IN (automation_id, name)"
_BEGINS: Final = f"{_OF_TARGET} AND automation_id >= :begin AND automation_id < :end"
_PRESENT_BEGINS: Final = f"{_BEGINS} AND removed_at IS NULL"
_ONCE: Final = f"""
    SELECT {_FIELDS.replace("name,", "max(name),", 1)} FROM definition AS found
    WHERE (:target IS NULL OR target = :target) AND (automation_id = :text OR name = :text) GROUP BY target, automation_id
"""  # noqa: S608 -- a literal of this module
