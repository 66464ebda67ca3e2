"""The pauses, and the scope of the commands `pause` and `resume`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import click

from scheduler.cli.group import AUTOMATION_FORMS
from scheduler.cli.ledger_file import make_ledger_collection, open_read_only
from scheduler.cli.lookup import find_automation
from scheduler.core.command_line import resume_all
from scheduler.core.pauses import EVERYTHING, PauseSource, find_pause_sources
from scheduler.core.status import OperatorPause
from scheduler.ledger.history import read_named_pauses
from scheduler.ledger.targets import read_targets
from scheduler.settings.models import Settings


@dataclass(frozen=True, slots=True)
class PauseScope:
    """The scope of a pause: an automation of a target, or `EVERYTHING` of the target."""

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
    target = settings.choose_target(target_name).name
    if automation is None:
        return PauseScope(target, EVERYTHING, f"all automations of {target}")
    with open_read_only(settings.ledger.url.path) as connection:
        match = find_automation(make_ledger_collection(connection, target, only_present=True), automation)
    return PauseScope(target, match.automation_id, match.name)


def describe_remaining_pause(settings: Settings, scope: PauseScope) -> str | None:
    """Describe the pause that remains after the end of the scope's own pause; None when no pause remains."""
    sources = read_active_pauses(settings).find_sources(scope.target, scope.automation_id, scope.name)
    if PauseSource.TARGET in sources:
        end = f"{resume_all(scope.target)} ends the pause"
        return f"all automations of {scope.target} are paused, {scope.name} too; {end}"
    if PauseSource.CONFIGURATION in sources:
        return f"the configuration pauses {scope.name}; see `paused` in [schedule] and [[override]]"
    return None


def read_pauses(settings: Settings) -> list[OperatorPause]:
    """Read the manual pauses in force. Raises `NoLedger`."""
    with open_read_only(settings.ledger.url.path) as connection:
        return read_named_pauses(connection)


def read_throttles(settings: Settings, now: datetime) -> dict[str, datetime]:
    """Return the ends of the active throttles, by target. Raises `NoLedger`."""
    with open_read_only(settings.ledger.url.path) as connection:
        ends = {target.name: target.throttled_until for target in read_targets(connection)}
    return {target: end for target, end in ends.items() if end is not None and end > now}


def read_active_pauses(settings: Settings) -> "ActivePauses":
    """Read the active pauses. Raises `NoLedger`."""
    return ActivePauses(settings, read_pauses(settings))


class ActivePauses:
    """The active pauses, manual or in the configuration."""

    def __init__(self, settings: Settings, pauses: Iterable[OperatorPause]) -> None:
        self._settings = settings
        self._keys = {(pause.target, pause.automation_id or EVERYTHING) for pause in pauses}

    def find_sources(self, target: str, automation_id: str, name: str) -> frozenset[PauseSource]:
        """Find the sources that pause the automation, or for `EVERYTHING` all automations of the target."""
        policies = self._settings.find_policies(automation_id, name)
        if automation_id == EVERYTHING:
            policies = self._settings.schedule.to_policies()
        return find_pause_sources(self._keys, target, automation_id, policies)
