"""The next steps after a command on an automation: its first fire, and how to follow a run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scheduler.cli.pauses import read_active_pauses, read_throttles
from scheduler.cli.times import format_timedelta, format_zone_and_utc
from scheduler.cli.upcoming_fires import PlannedSchedule, parse_schedule
from scheduler.core.command_line import format_command
from scheduler.core.cron.schedule import InvalidSchedule
from scheduler.core.errors import DatabaseRefused, Unreachable
from scheduler.core.instants import to_text_seconds
from scheduler.settings.models import Settings, TargetSection
from scheduler.upstream.client import Document


def check_schedule(fields: Mapping[str, Any], settings: Settings) -> None:
    """Check a given expression and zone before the API is asked. Raises `InvalidSchedule`.

    ``explain`` raises the same error.
    """
    if "cron_expression" in fields or "timezone" in fields:
        cron, timezone = fields.get("cron_expression", "* * * * *"), fields.get("timezone", "UTC")
        parse_schedule(cron, timezone, settings.schedule)


def describe_first_fire(document: Document, settings: Settings, target: TargetSection, now: datetime) -> str:
    """Return the time of an automation's first fire after ``now``, or the reason why no fire comes."""
    if not document.get("enabled"):
        return "none: the automation is disabled"
    automation_id, name = str(document.get("id")), str(document.get("name"))
    cron, timezone = str(document.get("cron_expression")), str(document.get("timezone"))
    try:
        schedule = parse_schedule(cron, timezone, settings.schedule)
    except InvalidSchedule as error:
        return f"none: {error.reason}"
    policies = settings.find_policies(automation_id, name)
    planned = PlannedSchedule(schedule, automation_id, name, target.name, policies)
    fire = next(planned.list_fires(now), None)
    if fire is None:
        return "none: the expression has no future fire time"
    due = fire.due or fire.scheduled_for
    delayed = "" if due == fire.scheduled_for else f", due {due.astimezone(fire.local.tzinfo):%H:%M:%S}"
    at = format_zone_and_utc(fire.scheduled_for, schedule.timezone)
    hindrance = _describe_hindrance(settings, planned, due, now)
    return f"{at}{delayed}, in {format_timedelta(due - now)}{hindrance}"


def _describe_hindrance(settings: Settings, planned: PlannedSchedule, due: datetime, now: datetime) -> str:
    """Return the reason why the fire will not happen on time.

    The result is empty without a ledger, because pauses and throttles are in the ledger.
    """
    if planned.policies and planned.policies.paused:
        return "; recorded and not fired, because the configuration pauses it"
    try:
        pauses = read_active_pauses(settings)
        is_paused = pauses.find_sources(planned.target, planned.automation_id, planned.name)
        end = read_throttles(settings, now).get(planned.target)
    except (Unreachable, DatabaseRefused):
        return ""
    if is_paused:
        return "; recorded and not fired, because it is paused"
    if end is None or due >= end:
        return ""
    return f"; not before the throttle of the target ends at {to_text_seconds(end)}"


def describe_follow(document: Document, settings: Settings, target: TargetSection) -> str:
    """Return the command that shows a run to its end.

    For an API other than the embedded API, return the command that shows the result of the run.
    """
    if target.url == f"http://{settings.api.listen}":
        return format_command(f"runs show {document.get('last_task_run_id')} --follow")
    return format_command(f"automations get {document.get('id')}", target=target.name)
