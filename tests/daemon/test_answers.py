"""What the API answers to an attempt decides how its occurrence goes on."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.events import OccurrenceConcluded, TargetHeld, TargetReleased
from scheduler.core.model import AttemptResult, Outcome
from scheduler.core.response import NotStarted
from tests.daemon.world import NOON, World, in_world
from tests.defaults import make_policies
from tests.fakes import GONE, REFUSED, SERVED, Deed, answered

HOURLY = "0 * * * *"  # half an hour to be started within
Story = Callable[[World], Coroutine[Any, Any, None]]


def before_one(story: Story, **world: Any) -> None:
    """Tell it from just before one o'clock."""
    in_world(story, begin=NOON + timedelta(minutes=59, seconds=20), **world)


def results(world: World, automation: str, clock: str = "13:00") -> list[str | None]:
    return [attempt.result for attempt in world.row(automation, clock).attempts.values()]


def test_accepted_is_told_with_its_run() -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.start()
        await world.until("12:01:05")
        (run,) = world.api.runs
        (concluded,) = world.told(OccurrenceConcluded)
        assert (concluded.outcome, concluded.attempts, concluded.run_id, concluded.count) == (
            Outcome.ACCEPTED,
            1,
            run.id,
            1,
        )
        row = world.row(automation, "12:01")
        assert row.run_id == run.id
        assert results(world, automation, "12:01") == [AttemptResult.ANSWERED]
        assert row.attempts[1].http_status == 200

    in_world(story)


@pytest.mark.parametrize("status", [400, 403, 409, 422])
def test_a_refusal_is_final(status: int) -> None:
    async def story(world: World) -> None:
        automation = world.api.create()
        world.api.script(automation, answered(status, error="no"))
        world.start()
        await world.until("12:02:05")
        assert world.fates(automation) == {"12:01": "rejected: refused", "12:02": "accepted: answered"}
        assert world.row(automation, "12:01").error == f"HTTP {status}: no"
        assert results(world, automation, "12:01") == [AttemptResult.REFUSED]

    in_world(story)


def test_what_never_left_is_tried_again_with_back_off_until_it_is_started() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, *[REFUSED] * 5)
        world.start()
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert results(world, automation) == [AttemptResult.NOT_SENT] * 5 + [AttemptResult.ANSWERED]
        assert [attempt.sent_at is None for attempt in world.row(automation, "13:00").attempts.values()] == [
            True
        ] * 5 + [False]
        assert len(world.api.arrivals) == 1
        assert world.concluded(automation)[0].kind == "retry"

    before_one(story)


def test_back_off_grows_and_has_an_end() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = REFUSED
        world.start()
        await world.until("13:30:10")
        written = [attempt.written_at for attempt in world.row(automation, "13:00").attempts.values()]
        assert 30 < len(written) < 120  # half of up to a minute in the mean

    before_one(story)


def test_what_is_not_started_within_its_time_expires() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = REFUSED
        world.start()
        await world.until("13:29:59")
        assert world.fates(automation) == {"13:00": "waiting"}
        await world.until("13:30:01")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert world.row(automation, "13:00").error == "connection refused"
        assert world.api.runs == []

    before_one(story)


def test_start_within_is_how_long_it_is_tried() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = REFUSED
        world.start()
        await world.until("13:01:31")
        assert world.fates(automation) == {"13:00": "expired: not_started"}

    before_one(story, policies=make_policies(start_within=timedelta(seconds=90)))


# ---------------------------------------------------------------- 429


def test_429_makes_the_whole_target_wait_as_long_as_it_says() -> None:
    async def story(world: World) -> None:
        first, second = world.api.create(HOURLY), world.api.create("1 * * * *")
        world.api.script(first, answered(429, retry_after=90.0))
        world.start()
        await world.until("13:01:29")
        assert world.fates(first) == {"13:00": "waiting"}
        assert world.fates(second) == {"13:01": "waiting"}
        assert len(world.api.arrivals) == 1
        await world.until("13:01:31")
        assert world.fates(first) == {"13:00": "accepted: answered"}
        assert world.fates(second) == {"13:01": "accepted: answered"}
        assert results(world, first) == [AttemptResult.THROTTLED, AttemptResult.ANSWERED]

    before_one(story)


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_429_that_says_nothing_is_answered_with_back_off(retry_after: float | None) -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = answered(429, retry_after=retry_after)
        world.start()
        await world.until("13:10:00")
        assert 5 < len(world.api.arrivals) < 60
        world.api.deed = SERVED
        await world.until("13:12:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


def test_a_list_that_answers_429_makes_the_attempts_wait_too() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:30")
        world.api.list_error = UpstreamError("HTTP 429", status=429, retry_after=120.0)
        await world.until("13:00:01")
        assert world.api.arrivals == []
        polls = len(world.api.polls)
        await world.until("13:01:50")
        assert len(world.api.polls) == polls
        world.api.list_error = None
        await world.until("13:02:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


# ---------------------------------------------------------------- held


@pytest.mark.parametrize(
    "deed",
    [
        answered(401, error="bad key"),
        answered(403, missing_scope=True),
        answered(308, location="https://new/"),
    ],
)
def test_a_bad_key_scope_or_address_holds_the_target_and_a_probe_releases_it(deed: Deed) -> None:
    async def story(world: World) -> None:
        automations = [world.api.create(HOURLY) for _ in range(20)]
        world.api.deed = deed
        world.start()
        await world.until("13:05:00")
        assert 20 <= len(world.api.arrivals) <= 60  # at most those that were on their way, then one at a time
        assert {world.row(each, "13:00").fate for each in automations} == {"waiting"}
        assert world.process is not None
        assert world.process.target.make_status().held is not None
        assert len(world.told(TargetHeld)) == 1
        world.api.deed = SERVED
        await world.until("13:06:05")  # the longest back-off is a minute
        assert {world.row(each, "13:00").fate for each in automations} == {"accepted: answered"}
        assert world.process.target.make_status().held is None
        assert len(world.told(TargetReleased)) == 1
        # the first to be sent was the probe; when it was accepted all the others followed at once
        sent = sorted(run.at for run in world.api.runs)
        assert sent[-1] - sent[0] < timedelta(seconds=1)

    before_one(story)


def test_while_held_one_attempt_at_a_time_is_the_probe() -> None:
    async def story(world: World) -> None:
        for _ in range(20):
            world.api.create(HOURLY)
        world.start()
        await world.until("12:59:30")
        world.api.list_error = UpstreamError("HTTP 401: bad key", status=401, held=True)
        world.api.deed = answered(401, took=5.0)
        await world.until("13:20:00")
        sent = [arrival.at for arrival in world.api.arrivals]
        assert len(sent) >= 5
        assert all(later - earlier >= timedelta(seconds=5) for earlier, later in pairwise(sent))

    before_one(story)


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_list_that_cannot_be_had_holds_the_target_and_removes_nothing(status: int) -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:30")
        world.api.list_error = UpstreamError(f"HTTP {status}: mend it", status=status, held=True)
        world.api.deed = answered(status, missing_scope=True, location="https://new/")
        await world.until("13:05:00")
        assert world.fates(automation) == {"13:00": "waiting"}
        assert world.told(TargetHeld)[0].error == f"HTTP {status}: mend it"
        world.api.list_error, world.api.deed = None, SERVED
        await world.until("13:06:05")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert len(world.told(TargetReleased)) >= 1

    before_one(story)


def test_what_is_held_for_too_long_expires_and_says_why() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.deed = answered(401, error="bad key")
        world.start()
        await world.until("13:30:01")
        assert world.fates(automation) == {"13:00": "expired: not_started"}
        assert world.row(automation, "13:00").error == "HTTP 401: bad key"

    before_one(story)


def test_a_target_that_is_held_sends_what_comes_due_as_its_probe() -> None:
    """It was mended while nothing was due: the next occurrence finds that out, on time."""

    async def story(world: World) -> None:
        automation = world.api.create("*/20 * * * *")
        world.api.script(automation, answered(403, missing_scope=True, error="no scope"))
        world.own_policies[automation] = make_policies(start_within=timedelta(milliseconds=50))
        world.start()
        await world.until("12:20:05")
        assert world.fates(automation) == {"12:20": "expired: not_started"}
        await world.until("12:40:05")
        assert world.fates(automation)["12:40"] == "accepted: answered"
        assert world.runs(automation)[0].startswith("12:40:00.0")

    in_world(story)


# ---------------------------------------------------------------- 404


def test_404_of_an_automation_that_is_gone_is_skipped_as_deleted() -> None:
    async def story(world: World) -> None:
        automation, other = world.api.create(HOURLY), world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        world.api.delete(automation)
        await world.until("13:00:05")
        assert world.fates(automation) == {"13:00": "skipped: deleted"}
        assert world.row(automation, "13:00").error == "HTTP 404: Not found."
        assert world.fates(other) == {"13:00": "accepted: answered"}

    before_one(story)


def test_404_of_one_that_is_still_listed_is_tried_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, GONE, GONE)
        world.start()
        await world.until("13:01:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}
        assert results(world, automation) == [
            AttemptResult.REFUSED,
            AttemptResult.REFUSED,
            AttemptResult.ANSWERED,
        ]

    before_one(story)


def test_404_while_the_list_is_404_too_holds_the_target() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        world.api.list_error = UpstreamError("HTTP 404: no such project", status=404, held=True)
        world.api.deed = GONE
        await world.until("13:10:00")
        assert world.fates(automation) == {"13:00": "waiting"}
        assert world.process is not None
        assert world.process.target.make_status().held == "HTTP 404: no such project"
        world.api.list_error, world.api.deed = None, SERVED
        await world.until("13:11:05")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


def test_404_while_the_list_cannot_be_read_is_tried_again() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.start()
        await world.until("12:59:59")
        world.api.list_error = UpstreamError("HTTP 500", status=500)
        world.api.script(automation, GONE)
        await world.until("13:03:00")
        assert world.fates(automation) == {"13:00": "accepted: answered"}

    before_one(story)


def test_a_refused_connection_says_so_in_the_attempt() -> None:
    async def story(world: World) -> None:
        automation = world.api.create(HOURLY)
        world.api.script(automation, Deed(took=5.0, starts=None, hears=NotStarted("no route to host")))
        world.start()
        await world.until("13:01:00")
        attempt = world.row(automation, "13:00").attempts[1]
        assert (attempt.result, attempt.error, attempt.sent_at) == (
            AttemptResult.NOT_SENT,
            "no route to host",
            None,
        )

    before_one(story)


def test_the_probe_of_a_held_target_that_leaves_at_its_due_instant_is_on_time() -> None:
    async def story(world: World) -> None:
        held, probe = world.api.create("10 12 * * *"), world.api.create("20 12 * * *")
        world.api.deed = answered(401, error="bad key")
        world.start()
        await world.until("12:19:50")
        assert world.fates(held) == {"12:10": "expired: not_started"}
        assert world.told(TargetReleased) == []
        world.api.deed = SERVED
        await world.until("12:20:05")
        assert world.fates(probe) == {"12:20": "accepted: answered"}
        assert len(world.told(TargetReleased)) == 1
        assert world.told(OccurrenceConcluded)[-1].kind == "on_time"

    in_world(story, policies=make_policies(start_within=timedelta(minutes=5)))
