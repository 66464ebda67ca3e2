"""The automations of the ledger as a collection."""

import sqlite3
from dataclasses import replace
from functools import partial

from scheduler.cli.lookup import AutomationCollection, Candidate
from scheduler.ledger import automations
from scheduler.ledger.automations import AutomationMatch


def make_ledger_collection(
    connection: sqlite3.Connection, target: str | None = None, *, only_present: bool = False
) -> AutomationCollection[AutomationMatch]:
    """Make the collection for a target, or for all targets, removed automations included.

    ``only_present``: only the automations of the newest snapshot, by their current names.
    """
    where = " in the newest snapshot" if only_present else " in the ledger"
    collection = AutomationCollection(
        where if target is None else f"{where}, target {target}",
        partial(automations.find_named, connection, target, only_present=only_present),
        partial(automations.find_with_prefix, connection, target, only_present=only_present),
        partial(automations.read_names, connection, target),
        lambda match: Candidate(match.automation_id, match.name, f"target {match.target}", match.target),
    )
    find_formerly_named = partial(automations.find_formerly_named, connection, target)
    return collection if only_present else replace(collection, find_formerly_named=find_formerly_named)
