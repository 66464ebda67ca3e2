"""Occurrences between their instant and their due time, as lines of the history.

These occurrences have no row, and the lines are derived: a daemon derives lines from the timetable, a command
from the record. This module sorts the derived lines into the recorded lines.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from heapq import merge

from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import State
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import WaitStatus
from scheduler.ledger.history import Line, read_occurrences, round_up_to_second


def make_line(target: str, wait: WaitStatus) -> Line:
    """Return the line of an occurrence before the due time, with the keys of ``scheduler history --json``."""
    return {
        "target": target,
        "automation_id": wait.automation_id,
        "name": wait.name,
        "scheduled_for": to_text_seconds(wait.scheduled_for),
        "due": to_text(wait.due),
        "outcome": None,
        "reason": None,
        "attempts": 0,
        "claimed_at": None,
        "sent_at": None,
        "finished_at": None,
        "lateness_seconds": None,
        "task_run_id": None,
        "run_status": None,
        "error": None,
        "node": None,
        "count": 1,
        "state": State.WAITING.value,
    }


def select_with_derived(
    connection: sqlite3.Connection, selection: OccurrenceQuery, derived: Sequence[Line]
) -> list[Line]:
    """Return the lines of a selection, the newest first, together with the derived lines.

    ``derived`` belong to the automations of the selection. For each derived line, one more recorded line is
    read. Recorded lines that come before the page whatever lies between are not read.
    """
    chosen = sorted(
        (line for line in derived if _is_selected(line, selection)), key=_to_sort_key, reverse=True
    )
    first = max(selection.offset - len(chosen), 0)
    recorded = read_occurrences(
        connection, replace(selection, offset=first, limit=selection.limit + len(chosen))
    )
    lines = list(merge(recorded, chosen, key=_to_sort_key, reverse=True))
    return lines[selection.offset - first :][: selection.limit]


def _to_sort_key(line: Line) -> tuple[str, str, str]:
    return str(line["scheduled_for"]), str(line["automation_id"]), str(line["target"])


def _is_selected(line: Line, selection: OccurrenceQuery) -> bool:
    scheduled_for = str(line["scheduled_for"])
    return (
        selection.outcome is None
        and selection.run_status is None
        and selection.target in {None, line["target"]}
        and (selection.since is None or scheduled_for >= str(round_up_to_second(selection.since)))
        and (selection.until is None or scheduled_for < str(round_up_to_second(selection.until)))
    )
