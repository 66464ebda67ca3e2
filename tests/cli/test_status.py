"""`scheduler status`: what a target lacks, as lines for a person."""

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.cli.commands.status import JsonObject, _format_targets, _format_upcoming
from scheduler.cli.pauses import ActivePauses
from scheduler.cli.times import format_machine_and_utc
from scheduler.core.instants import to_text_seconds
from scheduler.core.occurrence_log import WAITS_FOR, Cause
from scheduler.core.status import FailingAutomations, PlacesStatus, TargetStatus, WaitsStatus
from scheduler.ops.views import make_status
from scheduler.settings.models import Settings
from tests.ops.support import FAILED_RUN, ID, NO_WAITS, NOW, STATUS, TARGET, WAITS


def lines(places: PlacesStatus, waits: WaitsStatus = NO_WAITS) -> list[str]:
    return lines_of(replace(TARGET, places=places), None, waits)


def lines_of(
    target: TargetStatus, failing: FailingAutomations | None, waits: WaitsStatus = NO_WAITS
) -> list[str]:
    status = make_status(replace(STATUS, targets=[target]), failing, {target.name: waits})
    return [line.strip() for line in _format_targets(status)]


def test_a_shortage_is_said_with_its_beginning() -> None:
    said = lines(PlacesStatus(waiting=1, exhausted_since=NOW))
    assert (
        "budget       occurrences or polls wait for requests_per_minute or requests_per_hour since "
        "2026-11-23T19:20:00.000000Z"
    ) in said


def test_requests_that_hang_and_a_saturated_target_are_said() -> None:
    said = lines(PlacesStatus(hanging=256, saturated_since=NOW))
    assert (
        "saturated    as many requests hang as max_waiting allows since 2026-11-23T19:20:00.000000Z" in said
    )
    assert "hanging      256 without an answer for a second" in said


def test_until_when_a_throttled_target_waits_is_said() -> None:
    assert f"throttled    until {format_machine_and_utc(NOW)}, HTTP 429" in lines_of(
        replace(TARGET, throttled_until=NOW), None
    )


def test_a_waiting_occurrence_that_expires_before_the_throttle_ends_is_said_to_do_so() -> None:
    end = NOW + timedelta(hours=1)
    (wait, *_) = WAITS.first
    waits = [
        replace(wait, cause=Cause.THROTTLED, deadline=end - timedelta(minutes=1)),
        replace(wait, cause=Cause.ANSWER, deadline=end - timedelta(minutes=2)),
        replace(wait, cause=Cause.THROTTLED, deadline=end),
    ]
    said = lines_of(replace(TARGET, throttled_until=end), None, WaitsStatus({Cause.THROTTLED: 3}, waits))
    expiries = [line for line in said if "expires" in line]
    assert expiries == ["expires at 2026-11-23T20:19:00Z, before the throttle ends at 2026-11-23T20:20:00Z"]
    assert not any(
        "expires" in line for line in lines(PlacesStatus(), WaitsStatus({Cause.THROTTLED: 3}, waits))
    )


def test_the_next_fires_say_which_of_them_are_throttled() -> None:
    status = make_status(
        replace(STATUS, targets=[replace(TARGET, throttled_until=NOW + timedelta(minutes=5))]),
        None,
        {"main": NO_WAITS},
    )
    fires: list[JsonObject] = [
        {
            "target": "main",
            "automation_id": ID,
            "name": "nightly",
            "scheduled_for": to_text_seconds(NOW + after),
            "timezone": "UTC",
        }
        for after in (timedelta(minutes=4), timedelta(minutes=6))
    ]
    delayed = {**fires[0], "due": to_text_seconds(NOW + timedelta(minutes=4, seconds=7))}
    (*_, row) = _format_upcoming(status, [delayed], ActivePauses(Settings(), []))
    assert "4 min 7 s" in row, "until the due time"
    _, _, first, second = _format_upcoming(status, fires, ActivePauses(Settings(), []))
    assert first.endswith("nightly     throttled")
    assert second.endswith("nightly")


def test_without_a_shortage_nothing_is_said_of_it() -> None:
    assert not any(
        line.startswith(("budget", "saturated", "hanging", "waiting", "throttled"))
        for line in lines(PlacesStatus())
    )


def test_the_number_of_failing_automations_is_said_with_the_newest_names_and_errors() -> None:
    once = replace(FAILED_RUN, name="weekly \x1b[2J", failures=1, error=None)
    said = lines_of(
        TARGET,
        FailingAutomations({"main": 12, "other": 3}, [FAILED_RUN, once, replace(once, target="other")]),
    )
    first = said.index("failing      12 automations: the newest finished run failed or was lost")
    assert said[first + 1 : first + 4] == [
        "nightly: failed, 3 in a row: exit status 3: no room",
        "weekly \\x1b[2J: failed",
        "and 10 more",
    ]


@pytest.mark.parametrize("failing", [None, FailingAutomations({}, [])])
def test_without_a_failing_automation_nothing_is_said_of_failures(failing: FailingAutomations | None) -> None:
    assert not any(line.startswith("failing") for line in lines_of(TARGET, failing))


def test_each_waiting_occurrence_is_said_with_its_cause_and_since_when() -> None:
    said = lines(PlacesStatus(), WAITS)
    begin = said.index("open         5: 4 in_flight, 1 waiting")
    assert said[begin + 1 : begin + 7] == [
        "1 waits for its due time",
        "1 waits for the release of its held target",
        "nightly 2026-11-23T19:15:00Z",
        "waits for the release of its held target, since 19:16:00Z: bad key",
        "nightly 2026-11-23T19:20:00Z",
        "waits for its due time 19:27:13Z, in 7 min 13 s, since 19:20:00Z",
    ]


def test_several_waiting_occurrences_are_counted_in_the_plural() -> None:
    said = lines(PlacesStatus(), WaitsStatus({cause: 1 + (cause is not Cause.HELD) for cause in WAITS_FOR}))
    assert "2 wait for their due time" in said
    assert "1 waits for the release of its held target" in said
    words = {word for line in said if " wait for " in line for word in line.replace("'", " ").split()}
    assert not words & {"its", "it", "waits"}
