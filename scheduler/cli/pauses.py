"""What is paused, and which automation `pause` and `resume` mean."""

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
    """An automation of a target, or `EVERYTHING` of it."""

    ledger: Path
    target: str
    automation_id: str
    name: str


def choose_scope(settings: Settings, target_name: str | None, automation: str | None, *, everything: bool) -> PauseScope:
    """What was asked for, as the ledger's newest snapshot knows it. Raises `AnswerIsNo` when it is not there, or not one."""
    if everything == (automation is not None):
        raise click.UsageError(f"give AUTOMATION ({AUTOMATION_FORMS}) or --all")
    target, ledger = choose_target(settings, target_name).name, settings.ledger.url.path
    if automation is None:
        return PauseScope(ledger, target, EVERYTHING, f"all automations of {target}")
    with open_read_only(ledger) as connection:
        which = find_present_automation(connection, target, automation)
    return PauseScope(ledger, target, which.automation_id, which.name)


def describe_remaining_pause(settings: Settings, which: PauseScope) -> str | None:
    """What goes on pausing an automation, or some of all, when its own pause has ended; None when nothing does."""
    if any(each["target"] == which.target and each["automation_id"] == EVERYTHING for each in read_pauses(settings)):
        return f"all automations of {which.target} are paused, {which.name} too; end that with {resume_all(which.target)}"
    everything = which.automation_id == EVERYTHING
    if settings.schedule.paused if everything else settings.find_policies(which.automation_id, which.name).paused:
        return f"the configuration pauses {which.name}; see `paused` in [schedule] and [[override]]"
    return None


def read_pauses(settings: Settings) -> list[dict[str, Any]]:
    """What is paused by hand: target, id, name, zone, since when, and by whom. Raises `NoLedger`."""
    with open_read_only(settings.ledger.url.path) as connection:
        rows = connection.execute(
            """
            SELECT pause.target, pause.automation_id, coalesce(automation.name, 'all automations') AS name, timezone, since, "by"
            FROM pause LEFT JOIN automation USING (target, automation_id) ORDER BY since
            """
        )
        return [dict(row) for row in rows]


def read_throttles(settings: Settings, now: datetime) -> dict[str, datetime]:
    """Return the ends of the throttles that last, by target. Raises `NoLedger`."""
    select = "SELECT name, throttled_until FROM target WHERE throttled_until > ?"
    with open_read_only(settings.ledger.url.path) as connection:
        return {name: from_text(until) for name, until in connection.execute(select, (to_text(now),))}


class ActivePauses:
    """Whether an automation is paused, by hand or by the configuration, so that what comes due is recorded but not fired."""

    def __init__(self, settings: Settings, by_hand: Iterable[Mapping[str, Any]]) -> None:
        self._settings = settings
        self._pauses = {(each["target"], each["automation_id"]) for each in by_hand}

    def is_complete(self, target: str) -> bool:
        """Whether all automations of the target are paused by hand."""
        return (target, EVERYTHING) in self._pauses

    def is_single(self, target: str, automation_id: str) -> bool:
        """Whether the automation is paused by hand, by itself."""
        return (target, automation_id) in self._pauses

    def is_configured(self, automation_id: str, name: str) -> bool:
        """Whether the configuration pauses the automation."""
        return self._settings.find_policies(automation_id, name).paused

    def covers(self, target: str, automation_id: str, name: str) -> bool:
        """Whether that is so of this one."""
        return self.is_complete(target) or self.is_single(target, automation_id) or self.is_configured(automation_id, name)
