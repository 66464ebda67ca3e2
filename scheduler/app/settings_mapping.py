"""The mapping from settings to the plain values of the other packages. No decision is made here."""

import json
import os
from collections.abc import Mapping
from functools import partial

from scheduler.core.cron.schedule import Schedule
from scheduler.daemon.context import Parse, TargetSettings
from scheduler.settings.keys import load_key
from scheduler.settings.models import Settings, TargetSection
from scheduler.upstream.target import TargetConfig


def make_parser(settings: Settings) -> Parse:
    """Make the parser of expressions, with the configured rules for clock changes."""
    return partial(Schedule.parse, dst_gap=settings.schedule.dst_gap, dst_repeat=settings.schedule.dst_repeat)


def make_policy_texts(settings: Settings) -> tuple[str, str]:
    """Format ``[schedule]`` and the ``[[override]]`` tables as JSON, for the ledger.

    The JSON has everything needed to find the policies of an automation later.
    """
    overrides = [
        override.model_dump(mode="json", include={"automation", *override.changes})
        for override in settings.overrides
    ]
    return settings.schedule.model_dump_json(), json.dumps(overrides)


def make_upstream_config(target: TargetSection, environ: Mapping[str, str] = os.environ) -> TargetConfig:
    """Make the configuration of a target's API client. Raises `UnusableKey`."""
    return TargetConfig(
        name=target.name,
        url=target.url,
        project_id=target.project_id,
        key=load_key(target, environ),
        connect_timeout=target.connect_timeout.total_seconds(),
        request_timeout=target.request_timeout.total_seconds(),
        max_in_flight=target.max_in_flight,
        requests_per_minute=target.requests_per_minute,
        requests_per_hour=target.requests_per_hour,
        ca_file=target.ca_file,
        proxy=target.proxy,
    )


def make_target_settings(target: TargetSection, settings: Settings) -> TargetSettings:
    """Make the settings for the serving parts of a target."""
    schedule = settings.schedule
    return TargetSettings(
        name=target.name,
        url=target.url,
        project_id=target.project_id,
        policies=settings.find_policies,
        idempotent=target.idempotent,
        max_in_flight=target.max_in_flight,
        max_waiting=target.waiting_limit,
        poll_interval=schedule.poll_interval,
        fresh_for=schedule.fresh_for,
        stale_limit=schedule.stale_limit,
        settle_time=schedule.settle_time,
        run_timeout=schedule.run_timeout,
    )
