"""The ledger as a place of automations, removed automations included."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.cli.lookup import Candidate
from scheduler.ledger import automations
from scheduler.ledger.automations import AutomationMatch


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """The automations of a target, or of all targets, in the ledger.

    ``only_present``: only the automations of the newest snapshot, by their current names.
    """

    connection: sqlite3.Connection
    target: str | None = None
    only_present: bool = False

    @property
    def where(self) -> str:
        """The place in words."""
        where = " in the newest snapshot" if self.only_present else " in the ledger"
        return where if self.target is None else f"{where}, target {self.target}"

    def find_named(self, text: str) -> Sequence[AutomationMatch]:
        """Find the automations with this id or current name."""
        return automations.find_named(self.connection, self.target, text, only_present=self.only_present)

    def find_formerly_named(self, text: str) -> Sequence[AutomationMatch]:
        """Find the automations that had this name."""
        if self.only_present:
            return ()
        return automations.find_formerly_named(self.connection, self.target, text)

    def find_with_prefix(self, prefix: str) -> Sequence[AutomationMatch]:
        """Find the automations with ids that begin with a prefix."""
        return automations.find_with_prefix(
            self.connection, self.target, prefix, only_present=self.only_present
        )

    def read_names(self) -> Iterable[str]:
        """Read the names of the newest snapshot."""
        return automations.read_names(self.connection, self.target)

    def describe(self, automation: AutomationMatch) -> Candidate:
        """Return the automation as a candidate."""
        target = automation.target
        return Candidate(automation.automation_id, automation.name, f"target {target}", target)
