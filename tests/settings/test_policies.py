"""Which policies hold for which automation."""

from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.settings.load import load
from scheduler.settings.models import Settings

ID = "0192c4e8-1111-7abc-8def-000000000001"
TEXT = f"""
    [schedule]
    jitter = "5s"
    catch_up = "none"
    start_within = "10m"

    [[override]]
    automation = "nightly-*"
    catch_up = "all"

    [[override]]
    automation = "{ID.replace("-", "").upper()}"
    paused = true
    start_within = "auto"

    [[override]]
    automation = "*-report"
    concurrency = "queue"
    jitter = "0s"

    [[override]]
    automation = "[prod] sync"
    concurrency = "forbid"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "scheduler.toml"
    file.write_text(TEXT)
    return load(file, {}).settings


@pytest.mark.parametrize(
    ("automation_id", "name", "changed"),
    [
        ("other", "daily", {}),
        ("other", "nightly-sync", {"catch_up": "all"}),
        ("other", "Nightly-sync", {}),
        ("other", "a-nightly-sync", {}),
        (ID, "daily", {"paused": True, "start_within": None}),
        (ID, "nightly-sync", {"catch_up": "all"}),
        ("other", "nightly-report", {"catch_up": "all"}),
        ("other", "weekly-report", {"concurrency": "queue", "jitter": timedelta(0)}),
        ("other", "[prod] sync", {"concurrency": "forbid"}),
        ("other", "a\n-report", {"concurrency": "queue", "jitter": timedelta(0)}),
    ],
)
def test_the_first_override_that_matches_counts_and_leaves_the_rest_to_the_schedule(
    settings: Settings, automation_id: str, name: str, changed: dict[str, object]
) -> None:
    base: dict[str, object] = {
        "start_within": timedelta(minutes=10),
        "catch_up": "none",
        "concurrency": "allow",
        "jitter": timedelta(seconds=5),
        "paused": False,
    }
    policies = settings.find_policies(automation_id, name)
    assert {field: getattr(policies, field) for field in base} == base | changed


def test_settings_do_not_change_once_made(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.schedule.paused = True
