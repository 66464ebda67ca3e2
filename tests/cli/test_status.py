"""`scheduler status`: what a target lacks, as lines for a person."""

from dataclasses import replace

from scheduler.cli.commands.status import _of_targets
from scheduler.core.status import PlacesStatus
from scheduler.ops.views import status_view
from tests.ops.support import NOW, STATUS, TARGET


def lines(places: PlacesStatus) -> list[str]:
    status = status_view(replace(STATUS, targets=[replace(TARGET, places=places)]))
    return [line.strip() for line in _of_targets(status)]


def test_what_waits_for_a_place_is_listed_with_the_beginning_of_the_shortage() -> None:
    waiting = "nightly 2026-11-23T19:20:00Z (waits for the request budget)"
    said = lines(PlacesStatus(waiting=1, occurrences=[waiting], exhausted_since=NOW))
    assert "budget       occurrences or polls wait for requests_per_minute or requests_per_hour since 2026-11-23T19:20:00.000000Z" in said
    assert said[said.index("waiting      1") + 1] == waiting


def test_requests_that_hang_and_a_saturated_target_are_said() -> None:
    said = lines(PlacesStatus(hanging=256, saturated_since=NOW))
    assert "saturated    as many requests hang as max_waiting allows since 2026-11-23T19:20:00.000000Z" in said
    assert "hanging      256 without an answer for a second" in said


def test_without_a_shortage_nothing_is_said_of_it() -> None:
    assert not any(line.startswith(("budget", "saturated", "hanging", "waiting")) for line in lines(PlacesStatus()))
