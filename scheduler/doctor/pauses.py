"""Which automations are paused: by the configuration, or by hand, as the ledger has it."""

from scheduler.doctor.facts import Facts, KnownAutomation
from scheduler.ledger.operator_requests import EVERYTHING


class PauseLookup:
    """What is paused as the facts have it."""

    def __init__(self, facts: Facts) -> None:
        self._settings = facts.settings
        self._by_hand = facts.record.paused if facts.record else frozenset()

    def is_paused(self, each: KnownAutomation) -> bool:
        """Whether this one comes due without being fired."""
        by_hand = self._by_hand & {(each.target, each.id), (each.target, EVERYTHING)}
        return bool(by_hand) or self._settings.find_policies(each.id, each.name).paused
