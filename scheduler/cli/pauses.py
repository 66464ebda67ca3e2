"""The pauses, and the scope of the commands `pause` and `resume`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from scheduler.cli.automation_lookup import find_present_automation
from scheduler.cli.group import AUTOMATION_FORMS
from scheduler.cli.ledger_file import open_read_only
from scheduler.cli.targets import choose_target
from scheduler.core.command_line import resume_all
from scheduler.core.instants import from_text, to_text
from scheduler.ledger.operator_requests import EVERYTHING
from scheduler.settings import Settings


@dataclass(frozen=True, slots=True)
class PauseScope:
    """The scope of a pause: an automation of a target, or `EVERYTHING` of the target."""

    ledger: Path
    target: str
    automation_id: str
    name: str


def choose_scope(
    settings: Settings, target_name: str | None, automation: str | None, *, everything: bool
) -> PauseScope:
    """Choose the scope of a pause, as the newest snapshot in the ledger knows the automation.

    Raises `AnswerIsNo` when no automation matches, or several match.
    """
    if everything == (automation is not None):
        raise click.UsageError(f"give AUTOMATION ({AUTOMATION_FORMS}) or --all")
    target, ledger = choose_target(settings, target_name).name, settings.ledger.url.path
    if automation is None:
        return PauseScope(ledger, target, EVERYTHING, f"all automations of {target}")
    with open_read_only(ledger) as connection:
        which = find_present_automation(connection, target, automation)
    return PauseScope(ledger, target, which.automation_id, which.name)


def describe_remaining_pause(settings: Settings, which: PauseScope) -> str | None:
    """Describe the pause that remains after the end of the scope's own pause; None when no pause remains."""
    if any(
        each["target"] == which.target and each["automation_id"] == EVERYTHING
        for each in read_pauses(settings)
    ):
        return f"all automations of {which.target} are paused, {which.name} too; end that with {resume_all(which.target)}"
    everything = which.automation_id == EVERYTHING
    if (
        settings.schedule.paused
        if everything
        else settings.find_policies(which.automation_id, which.name).paused
    ):
        return f"the configuration pauses {which.name}; see `paused` in [schedule] and [[override]]"
    return None


def read_pauses(settings: Settings) -> list[dict[str, Any]]:
    """Read the manual pauses: target, id, name, zone, begin and author. Raises `NoLedger`."""
    with open_read_only(settings.ledger.url.path) as connection:
        rows = connection.execute(
            """
            SELECT pause.target, pause.automation_id, coalesce(automation.name, 'all automations') AS name, timezone, since, "by"
            FROM pause LEFT JOIN automation USING (target, automation_id) ORDER BY since
            """
        )
        return [dict(row) for row in rows]


def read_throttles(settings: Settings, now: datetime) -> dict[str, datetime]:
    """Return the ends of the active throttles, by target. Raises `NoLedger`."""
    select = "SELECT name, throttled_until FROM target WHERE throttled_until > ?"
    with open_read_only(settings.ledger.url.path) as connection:
        return {name: from_text(until) for name, until in connection.execute(select, (to_text(now),))}


class ActivePauses:
    """The active pauses, manual or in the configuration.

    A paused occurrence is recorded but not fired.
    """

    def __init__(self, settings: Settings, by_hand: Iterable[Mapping[str, Any]]) -> None:
        self._settings = settings
        self._pauses = {(each["target"], each["automation_id"]) for each in by_hand}

    def is_complete(self, target: str) -> bool:
        """Return whether all automations of the target are paused manually."""
        return (target, EVERYTHING) in self._pauses

    def is_single(self, target: str, automation_id: str) -> bool:
        """Return whether the automation itself is paused manually."""
        return (target, automation_id) in self._pauses

    def is_configured(self, automation_id: str, name: str) -> bool:
        """Return whether the configuration pauses the automation."""
        return self._settings.find_policies(automation_id, name).paused

    def covers(self, target: str, automation_id: str, name: str) -> bool:
        """Return whether any pause covers the automation."""
        return (
            self.is_complete(target)
            or self.is_single(target, automation_id)
            or self.is_configured(automation_id, name)
        )
