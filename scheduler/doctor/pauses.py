"""The paused automations: by the configuration, or by hand according to the ledger."""

from scheduler.doctor.facts import Facts, KnownAutomation
from scheduler.ledger.operator_requests import EVERYTHING


class PauseLookup:
    """The pauses in the facts."""

    def __init__(self, facts: Facts) -> None:
        self._settings = facts.settings
        self._by_hand = facts.record.paused if facts.record else frozenset()

    def is_complete(self, automation: KnownAutomation) -> bool:
        """Return whether all automations of the automation's target are paused by hand."""
        return (automation.target, EVERYTHING) in self._by_hand

    def is_single(self, automation: KnownAutomation) -> bool:
        """Return whether the automation is paused by hand, by itself."""
        return (automation.target, automation.id) in self._by_hand

    def is_configured(self, automation: KnownAutomation) -> bool:
        """Return whether the configuration pauses the automation."""
        return self._settings.find_policies(automation.id, automation.name).paused

    def is_paused(self, automation: KnownAutomation) -> bool:
        """Return whether the automation comes due without being fired, because of any pause."""
        return self.is_complete(automation) or self.is_single(automation) or self.is_configured(automation)
