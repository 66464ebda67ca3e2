"""The policies of an automation at an earlier time, from the settings recorded in the ledger."""

import json
import sqlite3

from pydantic import ValidationError

from scheduler.core.policy import Policies
from scheduler.ledger.occurrence_records import RecordedPolicy, read_policy
from scheduler.settings.models import Settings
from scheduler.settings.units import format_duration


def parse_settings(policy: RecordedPolicy) -> Settings | None:
    """Parse recorded settings; None when the settings belong to a version with other settings."""
    recorded = {"schedule": json.loads(policy.schedule), "override": json.loads(policy.overrides)}
    try:
        return Settings.model_validate(recorded)
    except ValidationError:
        return None


def read_settings(connection: sqlite3.Connection, settings: Settings) -> Settings:
    """Read the settings recorded last, or return ``settings`` without a usable record."""
    policy = read_policy(connection)
    return (None if policy is None else parse_settings(policy)) or settings


def format_policies(policies: Policies) -> dict[str, str | bool]:
    """Format the policies as in the configuration."""
    return {
        "start_within": "auto" if policies.start_within is None else format_duration(policies.start_within),
        "catch_up": policies.catch_up.value,
        "concurrency": policies.concurrency.value,
        "jitter": format_duration(policies.jitter),
        "paused": policies.paused,
    }
