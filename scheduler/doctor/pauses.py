"""Which automations are paused: by the configuration, or by hand, as the ledger has it."""

from scheduler.doctor.facts import Facts, KnownAutomation
from scheduler.ledger.operator_requests import EVERYTHING


class PauseLookup:
    """What is paused as the facts have it."""

    def __init__(self, facts: Facts) -> None:
        self._settings = facts.settings
        self._by_hand = facts.record.paused if facts.record else frozenset()

    def is_complete(self, automation: KnownAutomation) -> bool:
        """Whether all automations of its target are paused by hand."""
        return (automation.target, EVERYTHING) in self._by_hand

    def is_single(self, automation: KnownAutomation) -> bool:
        """Whether the automation is paused by hand, by itself."""
        return (automation.target, automation.id) in self._by_hand

    def is_configured(self, automation: KnownAutomation) -> bool:
        """Whether the configuration pauses the automation."""
        return self._settings.find_policies(automation.id, automation.name).paused

    def is_paused(self, automation: KnownAutomation) -> bool:
        """Whether the automation comes due without being fired."""
        return self.is_complete(automation) or self.is_single(automation) or self.is_configured(automation)
