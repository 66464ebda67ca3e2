"""The next steps after a command on an automation: its first fire, and how to follow a run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scheduler.cli.pauses import ActivePauses, read_pauses, read_throttles
from scheduler.cli.times import format_timedelta, format_zone_and_utc
from scheduler.cli.upcoming_fires import PlannedSchedule, find_upcoming_fires
from scheduler.core.command_line import format_command
from scheduler.core.cron.schedule import InvalidSchedule
from scheduler.core.errors import DatabaseRefused, Unreachable
from scheduler.core.instants import to_text_seconds
from scheduler.settings import Settings, TargetSection

Document = Mapping[str, Any]
"""An automation as the API shows it."""


def check_schedule(fields: Mapping[str, Any], settings: Settings) -> None:
    """Check a given expression and zone before the API is asked. Raises `InvalidSchedule`.

    ``explain`` raises the same error.
    """
    if "cron_expression" in fields or "timezone" in fields:
        PlannedSchedule.parse(
            fields.get("cron_expression", "* * * * *"), fields.get("timezone", "UTC"), settings.schedule
        )


def describe_first_fire(document: Document, settings: Settings, target: TargetSection, now: datetime) -> str:
    """Return the time of an automation's first fire after ``now``, or the reason why no fire comes."""
    if not document.get("enabled"):
        return "none: the automation is disabled"
    automation_id, name = str(document.get("id")), str(document.get("name"))
    try:
        schedule = PlannedSchedule.parse(
            str(document.get("cron_expression")), str(document.get("timezone")), settings.schedule
        ).schedule
    except InvalidSchedule as error:
        return f"none: {error.reason}"
    policies = settings.find_policies(automation_id, name)
    fire = next(
        find_upcoming_fires([PlannedSchedule(schedule, automation_id, name, target.name, policies)], now, 1),
        None,
    )
    if fire is None:
        return "none: the expression has no future fire time"
    due = fire.due or fire.scheduled_for
    delayed = "" if due == fire.scheduled_for else f", due {due.astimezone(fire.local.tzinfo):%H:%M:%S}"
    hindrance = _describe_hindrance(settings, target.name, automation_id, name, due=due, now=now)
    return (
        f"{format_zone_and_utc(fire.scheduled_for, schedule.timezone)}{delayed}, in "
        f"{format_timedelta(due - now)}{hindrance}"
    )


def _describe_hindrance(
    settings: Settings, target: str, automation_id: str, name: str, *, due: datetime, now: datetime
) -> str:
    """Return the reason why the fire will not happen on time.

    The result is empty without a ledger, because pauses and throttles are in the ledger.
    """
    if settings.find_policies(automation_id, name).paused:
        return "; recorded and not fired, because the configuration pauses it"
    try:
        is_paused = ActivePauses(settings, read_pauses(settings)).find_sources(target, automation_id, name)
        end = read_throttles(settings, now).get(target)
    except (Unreachable, DatabaseRefused):
        return ""
    if is_paused:
        return "; recorded and not fired, because it is paused"
    return (
        ""
        if end is None or due >= end
        else f"; not before the throttle of the target ends at {to_text_seconds(end)}"
    )


def describe_follow(document: Document, settings: Settings, target: TargetSection) -> str:
    """Return the command that shows a run to its end.

    For an API other than the embedded API, return the command that shows the result of the run.
    """
    if target.url == f"http://{settings.api.listen}":
        return format_command(f"runs show {document.get('last_task_run_id')} --follow")
    return format_command(f"automations get {document.get('id')}", target=target.name)
