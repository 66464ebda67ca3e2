"""The policies that an automation had at some time, from the settings that the ledger recorded then."""

import json

from pydantic import ValidationError

from scheduler.audit.evidence import RecordedPolicy
from scheduler.core.policy import Policies
from scheduler.settings.durations import format_duration
from scheduler.settings.models import Settings


def parse_policies(policy: RecordedPolicy, automation_id: str, name: str) -> Policies | None:
    """What the recorded settings come to for an automation of this id and name; None when they are of a version with other settings."""
    settings = parse_settings(policy)
    return None if settings is None else settings.find_policies(automation_id, name)


def parse_settings(policy: RecordedPolicy) -> Settings | None:
    """Return the recorded settings; None when they are of a version with other settings."""
    recorded = {"schedule": json.loads(policy.schedule), "override": json.loads(policy.overrides)}
    try:
        return Settings.model_validate(recorded)
    except ValidationError:
        return None


def format_policies(policies: Policies) -> dict[str, str | bool]:
    """As they would stand in the configuration."""
    return {
        "start_within": "auto" if policies.start_within is None else format_duration(policies.start_within),
        "catch_up": policies.catch_up.value,
        "concurrency": policies.concurrency.value,
        "jitter": format_duration(policies.jitter),
        "paused": policies.paused,
    }
