"""The automations that the ledger recorded, as schedules to evaluate."""

import sqlite3

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.fires import Planned
from scheduler.cli.ledger_file import reading
from scheduler.cli.output import complain
from scheduler.cli.pauses import Paused, paused
from scheduler.core.cron import InvalidSchedule, Schedule
from scheduler.core.printable import escaped
from scheduler.settings import Settings

_SELECT = """
    SELECT target, automation_id, name, cron_expression, timezone, enabled FROM automation
    WHERE removed_at IS NULL AND (?1 IS NULL OR ?1 IN (automation_id, name)) ORDER BY name, automation_id
"""


def planned(settings: Settings, automation: str | None) -> list[Planned]:
    """What comes due: all enabled automations, or the one of this id or name. Says which of them have no valid schedule, or are paused.

    Raises `AnswerIsNo` when the one that is asked for is not there or fires nothing, and `NoLedger`.
    """
    with reading(settings.ledger.url.path) as connection:
        rows = connection.execute(_SELECT, (automation,)).fetchall()
    if automation is not None:
        _check(automation, rows)
    enabled = [row for row in rows if row["enabled"]]
    _tell_of_pauses(enabled, settings)
    return [found for row in enabled if (found := _planned(row, settings))]


def _check(automation: str, rows: list[sqlite3.Row]) -> None:
    if not rows:
        raise AnswerIsNo(f"there is no automation {automation!r} in the newest snapshot; see `scheduler automations list`")
    if not any(row["enabled"] for row in rows):
        raise AnswerIsNo(f"{automation} is disabled and fires nothing")


def _tell_of_pauses(rows: list[sqlite3.Row], settings: Settings) -> None:
    pauses = Paused(settings, paused(settings))
    names = [row["name"] for row in rows if pauses.covers(row["target"], row["automation_id"], row["name"])]
    if names:
        which = escaped(names[0]) if len(names) == 1 else f"{len(names)} automations"
        complain(f"paused: {which}; what comes due is recorded and not fired until `scheduler resume`")


def _planned(row: sqlite3.Row, settings: Settings) -> Planned | None:
    schedule = settings.schedule
    try:
        parsed = Schedule.parse(row["cron_expression"], row["timezone"], dst_gap=schedule.dst_gap, dst_repeat=schedule.dst_repeat)
    except InvalidSchedule as error:
        complain(f"{escaped(row['name'])} ({row['automation_id']}) fires nothing: {escaped(error.reason)}")
        return None
    return Planned(parsed, row["automation_id"], row["name"])
