"""Which automation `pause` and `resume` mean."""

from dataclasses import dataclass
from pathlib import Path

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.ledger_file import reading
from scheduler.cli.target_api import choose
from scheduler.ledger.intents import EVERYTHING
from scheduler.settings import Settings


@dataclass(frozen=True, slots=True)
class Chosen:
    """An automation of a target, or `EVERYTHING` of it."""

    ledger: Path
    target: str
    automation_id: str
    name: str


def chosen(settings: Settings, target_name: str | None, automation: str | None, *, everything: bool) -> Chosen:
    """What was asked for, as the ledger's newest snapshot knows it. Raises `AnswerIsNo` when it is not there, or not one."""
    if everything == (automation is not None):
        raise click.UsageError("give AUTOMATION, an id or a name, or --all")
    target, ledger = choose(settings, target_name).name, settings.ledger.url.path
    if automation is None:
        return Chosen(ledger, target, EVERYTHING, f"all automations of {target}")
    with reading(ledger) as connection:
        rows = connection.execute(
            "SELECT automation_id, name FROM automation WHERE target = ? AND removed_at IS NULL AND ? IN (automation_id, name)",
            (target, automation),
        ).fetchall()
    if len(rows) != 1:
        found = f"there are {len(rows)} automations called {automation!r}; give an id" if rows else f"there is no automation {automation!r}"
        raise AnswerIsNo(f"{found} in the newest snapshot of target {target}; see `scheduler automations list`")
    return Chosen(ledger, target, *rows[0])


def paused(settings: Settings) -> list[dict[str, str]]:
    """What is paused by hand: target, id, name, since when, and by whom."""
    with reading(settings.ledger.url.path) as connection:
        rows = connection.execute(
            """
            SELECT pause.target, pause.automation_id, coalesce(automation.name, 'all automations') AS name, since, "by"
            FROM pause LEFT JOIN automation USING (target, automation_id) ORDER BY since
            """
        )
        return [dict(row) for row in rows]
