"""The request budget: the sums by table and property, the waiting in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.upstream.budget import HOUR, MINUTE, Allowance, Budget, Window
from tests.virtual import VirtualClock, run_virtual

Ask = Callable[[], Awaitable[None]]


def budget(*, per_minute: int = 4, per_hour: int = 1000) -> tuple[Budget, VirtualClock]:
    clock = VirtualClock()
    return Budget(Allowance(per_minute=per_minute, per_hour=per_hour), clock), clock


async def admitted_at(ask: Ask, log: list[tuple[str, float]], who: str) -> None:
    await ask()
    log.append((who, asyncio.get_running_loop().time()))


# ---------------------------------------------------------------- the sums


@given(limit=st.integers(1, 12), gaps=st.lists(st.floats(0, 30), max_size=60))
def test_no_span_of_the_window_ever_holds_more_than_the_limit(limit: int, gaps: list[float]) -> None:
    window, now, taken = Window(limit, MINUTE), 0.0, []
    for gap in gaps:
        now = max(now + gap, window.free_at(background=False))
        window.take(now)
        taken.append(now)
    for first, beyond in zip(taken, taken[limit:], strict=False):
        assert beyond >= first + MINUTE


@pytest.mark.parametrize(("limit", "for_background"), [(1, 1), (3, 3), (4, 3), (8, 6), (400, 300)])
def test_the_background_leaves_a_quarter_to_the_fires(limit: int, for_background: int) -> None:
    window = Window(limit, MINUTE)
    for _ in range(for_background):
        assert window.free_at(background=True) <= 0.0
        window.take(0.0)
    assert window.free_at(background=True) == MINUTE
    if for_background < limit:
        assert window.free_at(background=False) <= 0.0


def test_the_stricter_of_minute_and_hour_decides() -> None:
    allowance = Allowance(per_minute=3, per_hour=4)
    for at in (0.0, 1.0, 2.0):
        allowance.take(at)
    assert allowance.free_at(background=False) == MINUTE
    allowance.take(61.0)
    assert allowance.free_at(background=False) == HOUR


def test_a_block_is_never_shortened_by_a_later_one() -> None:
    allowance = Allowance(per_minute=3, per_hour=4)
    allowance.block(50.0)
    allowance.block(20.0)
    assert allowance.free_at(background=False) == 50.0


# ---------------------------------------------------------------- the waiting


def test_what_is_within_the_budget_does_not_wait() -> None:
    async def main() -> None:
        asked, _ = budget(per_minute=4)
        for _ in range(4):
            await asked.fire()
        assert asyncio.get_running_loop().time() == 0.0

    run_virtual(main())


def test_what_is_beyond_the_budget_goes_when_its_minute_is_over() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget(per_minute=2)
        log: list[tuple[str, float]] = []
        await asyncio.gather(*(admitted_at(asked.fire, log, str(number)) for number in range(5)))
        return log

    log = run_virtual(main())
    assert [who for who, _ in log] == ["0", "1", "2", "3", "4"]
    assert [at for _, at in log] == pytest.approx([0, 0, 60, 60, 120], abs=0.01)


def test_fires_go_before_polls_that_have_waited_for_longer() -> None:
    async def main() -> list[str]:
        asked, _ = budget(per_minute=4)
        for _ in range(4):
            await asked.fire()
        log: list[tuple[str, float]] = []
        polls = [asyncio.ensure_future(admitted_at(asked.background, log, "poll")) for _ in range(2)]
        await asyncio.sleep(1)
        fires = [asyncio.ensure_future(admitted_at(asked.fire, log, "fire")) for _ in range(3)]
        await asyncio.gather(*polls, *fires)
        return [who for who, _ in log]

    assert run_virtual(main()) == ["fire", "fire", "fire", "poll", "poll"]


def test_a_fire_goes_at_once_while_polls_wait_for_their_share() -> None:
    async def main() -> float:
        asked, _ = budget(per_minute=4)
        polls = [asyncio.ensure_future(asked.background()) for _ in range(5)]
        await asyncio.sleep(1)
        await asked.fire()
        fired = asyncio.get_running_loop().time()
        await asyncio.gather(*polls)
        return fired

    assert run_virtual(main()) == 1.0


def test_nothing_passes_while_the_target_has_told_us_to_wait() -> None:
    async def main() -> list[tuple[str, float]]:
        asked, _ = budget()
        log: list[tuple[str, float]] = []
        asked.block(12.0)
        await asyncio.gather(admitted_at(asked.background, log, "poll"), admitted_at(asked.fire, log, "fire"))
        return log

    log = run_virtual(main())
    assert [who for who, _ in log] == ["fire", "poll"]
    assert [at for _, at in log] == pytest.approx([12, 12], abs=0.01)


def test_a_block_also_stops_those_who_wait_already() -> None:
    async def main() -> float:
        asked, _ = budget(per_minute=1)
        await asked.fire()
        waiting = asyncio.ensure_future(asked.fire())
        await asyncio.sleep(30)
        asked.block(100.0)
        await waiting
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(130, abs=0.01)


def test_a_suspend_counts_as_time_that_went_by() -> None:
    async def main() -> float:
        asked, clock = budget(per_minute=1)
        await asked.fire()
        waiting = asyncio.ensure_future(asked.fire())
        await asyncio.sleep(1)
        clock.suspend(300.0)
        await waiting
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 60.0


def test_a_wait_that_is_cancelled_in_the_queue_stops_nobody_behind_it() -> None:
    async def main() -> float:
        asked, _ = budget(per_minute=1)
        await asked.fire()
        first, second = asyncio.ensure_future(asked.fire()), asyncio.ensure_future(asked.fire())
        await asyncio.sleep(1)
        first.cancel()
        await second
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(60, abs=0.01)


def test_a_wait_that_is_cancelled_between_its_admission_and_its_hearing_of_it_gives_its_place_back() -> None:
    async def main() -> tuple[bool, float]:
        asked, _ = budget(per_minute=1)
        await asked.fire()
        first, second = asyncio.ensure_future(asked.fire()), asyncio.ensure_future(asked.fire())
        asyncio.get_running_loop().call_at(MINUTE + 5e-10, first.cancel)  # in the same turn of the loop as the admission, after it
        await second
        return first.cancelled(), asyncio.get_running_loop().time()

    cancelled, at = run_virtual(main())
    assert cancelled
    assert at == pytest.approx(60, abs=0.01)
