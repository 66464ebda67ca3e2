"""The pause rule: who pauses an automation. Its occurrences are recorded and not fired."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from scheduler.core.policy import Policies

EVERYTHING: Final = "*"
"""Stands in place of an automation's id, and means all automations of the target."""


class PauseSource(StrEnum):
    """The source of a pause."""

    TARGET = "target"  # an operator paused all automations of the target
    AUTOMATION = "automation"  # an operator paused the automation itself
    CONFIGURATION = "configuration"  # `paused` in [schedule] or [[override]]


def find_pause_sources(
    operator_pauses: Collection[tuple[str, str]], target: str, automation_id: str, policies: Policies
) -> frozenset[PauseSource]:
    """Find the sources that pause an automation; empty for an automation that is not paused.

    ``operator_pauses``: target and automation id, or `EVERYTHING`, of each pause in force. ``policies``: the
    policies of the automation.
    """
    applies = {
        PauseSource.TARGET: (target, EVERYTHING) in operator_pauses,
        PauseSource.AUTOMATION: automation_id != EVERYTHING and (target, automation_id) in operator_pauses,
        PauseSource.CONFIGURATION: policies.paused,
    }
    return frozenset(source for source, is_paused in applies.items() if is_paused)
