"""Whoever looks waits for what is due, for a bounded time, and for others who look."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from scheduler.ops.page_worker import MAX_WAIT, PageWorker
from tests.ops.page_client import asked
from tests.ops.support import pages
from tests.virtual import run_virtual


def waited(is_busy: Callable[[float], bool]) -> float:
    """The seconds that an answer waits, when the daemon is busy as this says of the seconds since it was
    asked for.
    """

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await PageWorker(lambda: is_busy(loop.time() - begin)).wait_until_idle()
        return loop.time() - begin

    return run_virtual(main())


def test_it_waits_while_the_daemon_fires_and_not_for_ever() -> None:
    assert waited(lambda _: False) == 0
    assert waited(lambda passed: passed < 0.5) == pytest.approx(0.5, abs=0.1)
    assert waited(lambda _: True) == pytest.approx(MAX_WAIT, abs=0.1)


def test_one_answer_is_made_at_a_time() -> None:
    at_once: list[int] = []
    making = threading.Semaphore(0)

    def work() -> None:
        making.release()
        at_once.append(making._value)
        making.acquire()

    async def main() -> None:
        workbench = PageWorker(lambda: False)
        await asyncio.gather(*(workbench.run(work) for _ in range(20)))

    asyncio.run(main())
    assert at_once == [1] * 20


class Busy:
    """Says that it is busy until it was asked so often."""

    def __init__(self, times: int) -> None:
        self.asked = 0
        self._times = times

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked <= self._times


@pytest.mark.parametrize(
    "path", ["/", "/occurrences", "/automations", "/api/v1/status", "/api/v1/upcoming", "/api/v1/occurrences"]
)
def test_every_page_waits(path: str) -> None:
    busy = Busy(2)
    assert asked(path, pages(busy=busy)).status_code == 200
    assert busy.asked >= 3


def test_health_does_not_wait() -> None:
    busy = Busy(2)
    asked("/healthz", pages(busy=busy))
    assert busy.asked == 0


def test_readiness_waits_half_a_second_at_most_and_not_until_the_daemon_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scheduler.ops.readiness._PATIENCE", 0.0)
    busy = Busy(10**9)
    assert asked("/readyz", pages(busy=busy)).json()["ready"] is True
    assert busy.asked <= 1
