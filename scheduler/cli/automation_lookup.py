"""The search for a recorded automation: by id, by name, or by the first characters of the id."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.cli.lookup import (
    Candidate,
    advise,
    make_ambiguous_error,
    make_prefix_end,
    make_unknown_error,
    read_prefix,
)
from scheduler.core.model import InvalidAutomation, to_canonical_id


@dataclass(frozen=True, slots=True)
class AutomationMatch:
    """An automation of a target, with its newest name and the zone of its newest definition.

    The zone is UTC for an automation that never had a definition.
    """

    target: str
    automation_id: str
    name: str
    timezone: str


def find_automation(connection: sqlite3.Connection, target: str | None, automation: str) -> AutomationMatch:
    """Find an automation by id, by present name or by former name, otherwise by the beginning of its id.

    Removed automations count too. Raises `AnswerIsNo` when no automation matches, or several match.
    """
    return _choose(
        connection, target, automation, (_SELECT_NAME, _SELECT_FORMER_NAME, _SELECT_PREFIX), "in the ledger"
    )


def find_present_automation(
    connection: sqlite3.Connection, target: str | None, automation: str
) -> AutomationMatch:
    """Find an automation of the newest snapshot by id, by name or by the beginning of its id.

    Raises `AnswerIsNo` when no automation matches, or several match.
    """
    return _choose(
        connection, target, automation, (_SELECT_PRESENT, _SELECT_PRESENT_PREFIX), "in the newest snapshot"
    )


def expand_prefix(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str | None:
    """Return the id that begins with the text, for a filter by id, name or pattern.

    Return the text itself when an automation has this name, or when no id begins with the text. Raises
    `AnswerIsNo` when several ids begin with the text.
    """
    if automation is None or read_prefix(automation) is None:
        return automation
    if _search(connection, _SELECT_NAME, target, automation) or _search(
        connection, _SELECT_FORMER_NAME, target, automation
    ):
        return automation
    found = _search(connection, _SELECT_PREFIX, target, automation)
    if len({each.automation_id for each in found}) > 1:
        raise make_ambiguous_error(automation, _make_candidates(found))
    return found[0].automation_id if found else automation


def advise_on(connection: sqlite3.Connection, target: str | None, automation: str | None) -> str:
    """Return the advice about a text without a match, to follow a message; empty without advice."""
    advice = "" if automation is None else advise(automation, read_names(connection, target))
    return f"; {advice}" if advice else ""


def _choose(
    connection: sqlite3.Connection, target: str | None, automation: str, selects: Sequence[str], where: str
) -> AutomationMatch:
    for select in selects:
        found = _search(connection, select, target, automation)
        if len(found) > 1:
            several = len({each.target for each in found}) > 1
            raise make_ambiguous_error(
                automation, _make_candidates(found), advice=", or --target" if several else ""
            )
        if found:
            return found[0]
    of_target = "" if target is None else f", target {target}"
    raise make_unknown_error(automation, read_names(connection, target), f" {where}{of_target}")


def _make_candidates(found: Iterable[AutomationMatch]) -> list[Candidate]:
    return [Candidate(each.automation_id, each.name, f"target {each.target}") for each in found]


def _read_id(text: str) -> str:
    """Return an id in canonical form, and any other text unchanged."""
    try:
        return to_canonical_id(text)
    except InvalidAutomation:
        return text


def _search(
    connection: sqlite3.Connection, select: str, target: str | None, automation: str
) -> list[AutomationMatch]:
    prefix = read_prefix(automation)
    if prefix is None and select in {_SELECT_PREFIX, _SELECT_PRESENT_PREFIX}:
        return []
    values = {
        "target": target,
        "text": _read_id(automation),
        "begin": prefix,
        "end": make_prefix_end(prefix or ""),
    }
    return [AutomationMatch(*row) for row in connection.execute(select, values)]


def read_names(connection: sqlite3.Connection, target: str | None) -> Iterable[str]:
    """Return the names of the automations of the newest snapshot, each name once."""
    select = "SELECT DISTINCT name FROM automation WHERE removed_at IS NULL AND (:target IS NULL OR target = :target)"
    return (name for (name,) in connection.execute(select, {"target": target}))


_FIELDS: Final = """
    target, automation_id, name,
    coalesce((SELECT timezone FROM definition WHERE target = found.target AND automation_id = found.automation_id
              AND timezone IS NOT NULL ORDER BY id DESC LIMIT 1), 'UTC')
"""
_SELECT_TARGET: Final = (
    f"SELECT {_FIELDS} FROM automation AS found WHERE (:target IS NULL OR target = :target)"  # noqa: S608 -- a literal
)
_SELECT_NAME: Final = f"{_SELECT_TARGET} AND (automation_id = :text OR (name = :text AND removed_at IS NULL))"
_SELECT_PRESENT: Final = f"{_SELECT_TARGET} AND removed_at IS NULL AND :text IN (automation_id, name)"
_SELECT_PREFIX: Final = f"{_SELECT_TARGET} AND automation_id >= :begin AND automation_id < :end"
_SELECT_PRESENT_PREFIX: Final = f"{_SELECT_PREFIX} AND removed_at IS NULL"
_SELECT_FORMER_NAME: Final = f"""
    SELECT {_FIELDS.replace("name,", "max(name),", 1)} FROM definition AS found
    WHERE (:target IS NULL OR target = :target) AND (automation_id = :text OR name = :text) GROUP BY target, automation_id
"""  # noqa: S608 -- a literal of this module
