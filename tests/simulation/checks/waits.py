"""How long occurrences and automations waited, seen from outside: from when an occurrence was due until its
request left.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.core.policy import Concurrency
from tests.simulation.evidence import Evidence, Row

JITTER = timedelta(seconds=2)
"""Between the place that a request gets in the budget and its first byte lie a commit and a connection."""


@dataclass(frozen=True, slots=True)
class Wait:
    """An occurrence that was due and known at ``begin``, and had neither been sent nor got its outcome before
    ``end``.
    """

    row: Row
    begin: datetime
    end: datetime
    sent: bool


def find_waits(evidence: Evidence, target: str) -> list[Wait]:
    """Find how long each occurrence waited that could have been sent at any time, in the order of due."""
    waits = []
    doubted: dict[
        str, datetime
    ] = {}  # by automation, until when an attempt of an earlier occurrence was unknown
    for row in sorted(evidence.rows, key=lambda row: row.due):
        is_tried_in_vain = row.error is not None and bool(row.attempts)
        if row.target == target and row.count == 1 and not is_tried_in_vain and _is_free(evidence, row):
            sent = evidence.sent.get(evidence.key(row.occurrence), [])
            end = sent[0].at if sent else row.finished_at
            known = evidence.known_since(row) or row.due  # an edit may be seen late
            begin = max(row.due, known, doubted.get(row.automation_id, row.due))
            if end is not None and end > begin:
                waits.append(Wait(row, begin, end, bool(sent)))
        if row.finished_at is not None and any(
            attempt.result in {None, "unknown"} for attempt in row.attempts
        ):
            doubted[row.automation_id] = max(doubted.get(row.automation_id, row.finished_at), row.finished_at)
    return sorted(waits, key=lambda wait: wait.begin)


def _is_free(evidence: Evidence, row: Row) -> bool:
    """Return whether nothing but its budget may hold it up."""
    policies = evidence.policies(row, row.due, row.finished_at or row.due)
    return all(each.concurrency is Concurrency.ALLOW and not each.paused for each in policies)


@dataclass(slots=True)
class Turn:
    """An automation waited from ``begin``, when its first occurrence was due or the one before was sent,
    until ``end``.
    """

    row: Row
    begin: datetime
    end: datetime


def find_turns(evidence: Evidence, target: str) -> list[Turn]:
    """Find the turns of all automations. An occurrence that coalesces a waiting one goes on with the turn of
    that one.
    """
    turns: list[Turn] = []
    newest: dict[str, Turn] = {}
    sent_at: dict[str, datetime] = {}
    for wait in find_waits(evidence, target):
        automation_id = wait.row.automation_id
        turn = newest.pop(automation_id, None)
        if turn is None or wait.begin > turn.end + JITTER:
            turn = Turn(wait.row, max(wait.begin, sent_at.get(automation_id, wait.begin)), wait.end)
            turns.append(turn)
        turn.row, turn.end = wait.row, wait.end
        if wait.sent:
            sent_at[automation_id] = wait.end
        else:
            newest[automation_id] = turn
    return turns
