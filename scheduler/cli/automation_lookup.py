"""The ledger as a place of automations."""

import sqlite3
from dataclasses import replace
from functools import partial

from scheduler.cli.lookup import AutomationPlace, Candidate
from scheduler.ledger import automations
from scheduler.ledger.automations import AutomationMatch


def make_ledger_place(
    connection: sqlite3.Connection, target: str | None = None, *, only_present: bool = False
) -> AutomationPlace[AutomationMatch]:
    """Make the place of the automations of a target, or of all targets, removed automations included.

    ``only_present``: only the automations of the newest snapshot, by their current names.
    """
    where = " in the newest snapshot" if only_present else " in the ledger"
    place = AutomationPlace(
        where if target is None else f"{where}, target {target}",
        partial(automations.find_named, connection, target, only_present=only_present),
        partial(automations.find_with_prefix, connection, target, only_present=only_present),
        partial(automations.read_names, connection, target),
        _describe,
    )
    if only_present:
        return place
    return replace(place, find_formerly_named=partial(automations.find_formerly_named, connection, target))


def _describe(automation: AutomationMatch) -> Candidate:
    target = automation.target
    return Candidate(automation.automation_id, automation.name, f"target {target}", target)
