"""The pause rule: an operator pauses an automation or all of a target, and the configuration pauses too."""

import pytest

from scheduler.core.pauses import EVERYTHING, PauseSource, find_pause_sources
from tests.defaults import make_policies

OPERATOR = {("main", EVERYTHING), ("main", "a"), ("other", "b")}


@pytest.mark.parametrize(
    ("target", "automation_id", "configured", "sources"),
    [
        ("main", "a", False, {PauseSource.TARGET, PauseSource.AUTOMATION}),
        ("main", "b", False, {PauseSource.TARGET}),
        ("main", EVERYTHING, False, {PauseSource.TARGET}),
        ("other", "a", False, set()),
        ("other", "b", True, {PauseSource.AUTOMATION, PauseSource.CONFIGURATION}),
        ("other", EVERYTHING, True, {PauseSource.CONFIGURATION}),
    ],
)
def test_each_source_of_a_pause_is_found(
    target: str, automation_id: str, *, configured: bool, sources: set[PauseSource]
) -> None:
    policies = make_policies(paused=configured)
    assert find_pause_sources(OPERATOR, target, automation_id, policies) == sources
