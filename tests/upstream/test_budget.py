"""The request budget at work: fires get a place or none, polls and readings wait, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from scheduler.core.request_budget import MINUTE, Purpose, compute_need
from scheduler.upstream.budget import Budget
from tests.virtual import VirtualClock, run_virtual

Ask = Callable[[], Awaitable[None]]


def budget(*, per_minute: int = 4, per_hour: int = 1000) -> tuple[Budget, VirtualClock]:
    clock = VirtualClock()
    return Budget(per_minute=per_minute, per_hour=per_hour, clock=clock), clock


def fire(asked: Budget) -> bool:
    """Send a fire if there is a place for it."""
    place = asked.reserve()
    if place is not None:
        place.use()
    return place is not None


async def sent_at(ask: Ask, log: list[tuple[str, float]], who: str) -> None:
    await ask()
    log.append((who, asyncio.get_running_loop().time()))


def test_what_is_within_the_budget_does_not_wait() -> None:
    async def main() -> None:
        asked, _ = budget(per_minute=4)
        assert [fire(asked) for _ in range(5)] == [True] * 4 + [False]
        assert asked.estimate_wait() == MINUTE
        assert asyncio.get_running_loop().time() == 0.0

    run_virtual(main())


def test_a_place_serves_one_request_and_is_given_back_once() -> None:
    async def main() -> None:
        asked, _ = budget(per_minute=1)
        place = asked.reserve()
        assert place is not None
        assert asked.reserve() is None
        place.give_back()
        place.give_back()
        second = asked.reserve()
        assert second is not None
        assert asked.reserve() is None
        second.use()
        second.give_back()
        assert asked.reserve() is None
        with pytest.raises(AssertionError, match="one request"):
            second.use()

    run_virtual(main())


def test_a_poll_that_the_reserve_admits_goes_before_a_fire() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget(per_minute=4)
        asked.expect(compute_need(poll_interval=30.0, polls=0.0, pages=1))
        assert [fire(asked) for _ in range(4)] == [True, True, True, False]
        log: list[tuple[str, float]] = []
        await asyncio.gather(
            *(sent_at(partial(asked.wait_for_place, Purpose.POLL), log, "poll") for _ in range(2))
        )
        return log

    assert [at for _, at in run_virtual(main())] == [0.0, pytest.approx(60.0, abs=0.01)]


def test_polls_go_before_readings_that_have_waited_for_longer() -> None:
    async def main() -> list[str]:
        asked, _ = budget(per_minute=4)
        log: list[tuple[str, float]] = []
        for _ in range(4):
            fire(asked)
        waiting = [
            asyncio.ensure_future(sent_at(partial(asked.wait_for_place, Purpose.READING), log, "reading"))
        ]
        await asyncio.sleep(1)
        waiting.append(
            asyncio.ensure_future(sent_at(partial(asked.wait_for_place, Purpose.POLL), log, "poll"))
        )
        await asyncio.gather(*waiting)
        return [who for who, _ in log]

    assert run_virtual(main()) == ["poll", "reading"]


def test_a_fire_goes_at_once_while_readings_wait_for_their_share() -> None:
    async def main() -> float:
        asked, _ = budget(per_minute=4)
        log: list[tuple[str, float]] = []
        readings = [
            asyncio.ensure_future(sent_at(partial(asked.wait_for_place, Purpose.READING), log, "reading"))
            for _ in range(5)
        ]
        await asyncio.sleep(1)
        assert fire(asked)
        fired = asyncio.get_running_loop().time()
        await asyncio.gather(*readings)
        return fired

    assert run_virtual(main()) == 1.0


def test_nothing_passes_while_the_target_has_told_us_to_wait() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget()
        log: list[tuple[str, float]] = []
        asked.block(12.0)
        assert not fire(asked)
        await sent_at(partial(asked.wait_for_place, Purpose.POLL), log, "poll")
        assert fire(asked)
        return log

    assert [at for _, at in run_virtual(main())] == pytest.approx([12], abs=0.01)


def test_a_block_also_stops_those_who_wait_already() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget(per_minute=1)
        log: list[tuple[str, float]] = []
        fire(asked)
        waiting = asyncio.ensure_future(
            sent_at(partial(asked.wait_for_place, Purpose.READING), log, "reading")
        )
        await asyncio.sleep(30)
        asked.block(100.0)
        await waiting
        return log

    assert [at for _, at in run_virtual(main())] == pytest.approx([130], abs=0.01)


def test_a_suspend_counts_as_time_that_went_by() -> None:
    async def main() -> float:
        asked, clock = budget(per_minute=1)
        fire(asked)
        waiting = asyncio.ensure_future(
            sent_at(partial(asked.wait_for_place, Purpose.READING), [], "reading")
        )
        await asyncio.sleep(1)
        clock.suspend(300.0)
        await waiting
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 60.0


def test_who_waits_goes_when_another_limit_lets_it() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget(per_minute=1)
        log: list[tuple[str, float]] = []
        fire(asked)
        waiting = asyncio.create_task(sent_at(partial(asked.wait_for_place, Purpose.READING), log, "reading"))
        await asyncio.sleep(5.0)
        asked.set_limits(per_minute=2, per_hour=100)
        await waiting
        return log

    assert run_virtual(main()) == [("reading", 5.0)]


def test_a_wait_that_is_cancelled_in_the_queue_stops_nobody_behind_it() -> None:
    async def main() -> float:
        asked, _ = budget(per_minute=1)
        fire(asked)
        first, second = (
            asyncio.ensure_future(sent_at(partial(asked.wait_for_place, Purpose.READING), [], "reading"))
            for _ in range(2)
        )
        await asyncio.sleep(1)
        first.cancel()
        await second
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(60, abs=0.01)


def test_a_wait_that_is_cancelled_between_its_place_and_its_hearing_of_it_gives_the_place_back() -> None:
    async def main() -> tuple[bool, float]:
        asked, _ = budget(per_minute=1)
        fire(asked)
        first, second = (
            asyncio.ensure_future(sent_at(partial(asked.wait_for_place, Purpose.READING), [], "reading"))
            for _ in range(2)
        )
        asyncio.get_running_loop().call_at(
            MINUTE + 5e-10, first.cancel
        )  # in the same turn of the loop as the place, after it
        await second
        return first.cancelled(), asyncio.get_running_loop().time()

    cancelled, at = run_virtual(main())
    assert cancelled
    assert at == pytest.approx(60, abs=0.01)
