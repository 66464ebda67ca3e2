"""The policies of an automation at an earlier time, from the settings recorded in the ledger."""

import json

from pydantic import ValidationError

from scheduler.audit.evidence import RecordedPolicy
from scheduler.core.policy import Policies
from scheduler.settings.durations import format_duration
from scheduler.settings.models import Settings


def parse_policies(policy: RecordedPolicy, automation_id: str, name: str) -> Policies | None:
    """Return the policies for an automation with this id and name, from recorded settings.

    Return None when the recorded settings belong to a version with other settings.
    """
    settings = parse_settings(policy)
    return None if settings is None else settings.find_policies(automation_id, name)


def parse_settings(policy: RecordedPolicy) -> Settings | None:
    """Parse recorded settings; None when the settings belong to a version with other settings."""
    recorded = {"schedule": json.loads(policy.schedule), "override": json.loads(policy.overrides)}
    try:
        return Settings.model_validate(recorded)
    except ValidationError:
        return None


def format_policies(policies: Policies) -> dict[str, str | bool]:
    """Format the policies as in the configuration."""
    return {
        "start_within": "auto" if policies.start_within is None else format_duration(policies.start_within),
        "catch_up": policies.catch_up.value,
        "concurrency": policies.concurrency.value,
        "jitter": format_duration(policies.jitter),
        "paused": policies.paused,
    }
