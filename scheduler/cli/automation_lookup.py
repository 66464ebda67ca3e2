"""Which automation on record a command means: by its id, by a name, or by the first characters of its id."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.cli.lookup import Candidate, advise, make_ambiguous_error, make_prefix_end, make_unknown_error, read_prefix
from scheduler.core.model import InvalidAutomation, to_canonical_id


@dataclass(frozen=True, slots=True)
class AutomationMatch:
    """An automation of a target, with its newest name, and the zone of its newest definition; UTC if it never had one."""

    target: str
    automation_id: str
    name: str
    timezone: str


def find_automation(connection: sqlite3.Connection, target: str | None, automation: str) -> AutomationMatch:
    """Find an automation by its id, by its name, or by a name that it had; by the beginning of its id when nothing is called so.

    Also one that is gone. Raises `AnswerIsNo` when there is none, or are several.
    """
    return _choose(connection, target, automation, (_SELECT_NAME, _SELECT_FORMER_NAME, _SELECT_PREFIX), "in the ledger")


def find_present_automation(connection: sqlite3.Connection, target: str | None, automation: str) -> AutomationMatch:
    """Find an automation of the newest snapshot by its id, its name or the beginning of its id. Raises as `find_automation` does."""
    return _choose(connection, target, automation, (_SELECT_PRESENT, _SELECT_PRESENT_PREFIX), "in the newest snapshot")


def expand_prefix(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str | None:
    """Return the id that begins with the text, for a filter by id, name or pattern; the text itself when something is called so.

    Raises `AnswerIsNo` when several ids begin with it.
    """
    if automation is None or read_prefix(automation) is None:
        return automation
    if _search(connection, _SELECT_NAME, target, automation) or _search(connection, _SELECT_FORMER_NAME, target, automation):
        return automation
    found = _search(connection, _SELECT_PREFIX, target, automation)
    if len({each.automation_id for each in found}) > 1:
        raise make_ambiguous_error(automation, _make_candidates(found))
    return found[0].automation_id if found else automation


def advise_on(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str:
    """Return the advice about a text that matches nothing, to follow a message; an empty text when there is none."""
    advice = "" if automation is None else advise(automation, read_names(connection, target))
    return f"; {advice}" if advice else ""


def _choose(connection: sqlite3.Connection, target: str | None, automation: str, selects: Sequence[str], where: str) -> AutomationMatch:
    for select in selects:
        found = _search(connection, select, target, automation)
        if len(found) > 1:
            several = len({each.target for each in found}) > 1
            raise make_ambiguous_error(automation, _make_candidates(found), advice=", or --target" if several else "")
        if found:
            return found[0]
    of_target = "" if target is None else f", target {target}"
    raise make_unknown_error(automation, read_names(connection, target), f" {where}{of_target}")


def _make_candidates(found: Iterable[AutomationMatch]) -> list[Candidate]:
    return [Candidate(each.automation_id, each.name, f"target {each.target}") for each in found]


def _read_id(text: str) -> str:
    """Return the text in the usual form of an id, if it is an id."""
    try:
        return to_canonical_id(text)
    except InvalidAutomation:
        return text


def _search(connection: sqlite3.Connection, select: str, target: str | None, automation: str) -> list[AutomationMatch]:
    prefix = read_prefix(automation)
    if prefix is None and select in {_SELECT_PREFIX, _SELECT_PRESENT_PREFIX}:
        return []
    values = {"target": target, "text": _read_id(automation), "begin": prefix, "end": make_prefix_end(prefix or "")}
    return [AutomationMatch(*row) for row in connection.execute(select, values)]


def read_names(connection: sqlite3.Connection, target: str | None) -> Iterable[str]:
    """Return the names of the automations of the newest snapshot, each once."""
    select = "SELECT DISTINCT name FROM automation WHERE removed_at IS NULL AND (:target IS NULL OR target = :target)"
    return (name for (name,) in connection.execute(select, {"target": target}))


_FIELDS: Final = """
    target, automation_id, name,
    coalesce((SELECT timezone FROM definition WHERE target = found.target AND automation_id = found.automation_id
              AND timezone IS NOT NULL ORDER BY id DESC LIMIT 1), 'UTC')
"""
_SELECT_TARGET: Final = f"SELECT {_FIELDS} FROM automation AS found WHERE (:target IS NULL OR target = :target)"  # noqa: S608 -- a literal
_SELECT_NAME: Final = f"{_SELECT_TARGET} AND (automation_id = :text OR (name = :text AND removed_at IS NULL))"
_SELECT_PRESENT: Final = f"{_SELECT_TARGET} AND removed_at IS NULL AND :text IN (automation_id, name)"
_SELECT_PREFIX: Final = f"{_SELECT_TARGET} AND automation_id >= :begin AND automation_id < :end"
_SELECT_PRESENT_PREFIX: Final = f"{_SELECT_PREFIX} AND removed_at IS NULL"
_SELECT_FORMER_NAME: Final = f"""
    SELECT {_FIELDS.replace("name,", "max(name),", 1)} FROM definition AS found
    WHERE (:target IS NULL OR target = :target) AND (automation_id = :text OR name = :text) GROUP BY target, automation_id
"""  # noqa: S608 -- a literal of this module
