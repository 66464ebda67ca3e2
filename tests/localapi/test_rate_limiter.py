"""How many requests a key may make."""

import asyncio
from pathlib import Path

import pytest

from scheduler.localapi.http.errors import ApiError
from scheduler.localapi.http.rate_limiter import KeyRateLimiter
from scheduler.localapi.keys import Scope
from tests.localapi.support import COLLECTION, serving


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait(throttle: KeyRateLimiter, key: str = "a") -> str | None:
    """Of a request: the Retry-After, None when it is taken."""
    try:
        throttle.count_request(key)
    except ApiError as error:
        return error.headers["Retry-After"]
    return None


def test_so_many_are_taken_in_any_minute_and_no_more() -> None:
    clock = Seconds()
    throttle = KeyRateLimiter(3, clock)
    assert [wait(throttle) for _ in range(4)] == [None, None, None, "60"]
    clock.now += 30.5
    assert wait(throttle) == "30"
    clock.now += 29.5
    assert [wait(throttle) for _ in range(4)] == [None, None, None, "60"]


def test_one_that_is_refused_does_not_count() -> None:
    clock = Seconds()
    throttle = KeyRateLimiter(1, clock)
    assert wait(throttle) is None
    for _ in range(5):
        clock.now += 10.0
        assert wait(throttle) is not None
    clock.now += 10.0
    assert wait(throttle) is None


def test_each_key_has_its_own() -> None:
    throttle = KeyRateLimiter(1, Seconds())
    assert [wait(throttle, key) for key in "abab"] == [None, None, "60", "60"]


def test_zero_is_no_limit() -> None:
    throttle = KeyRateLimiter(0, Seconds())
    assert [wait(throttle) for _ in range(1000)] == [None] * 1000


@pytest.mark.parametrize(("left", "words"), [(1.0, "1 second."), (12.0, "12 seconds.")])
def test_it_is_told_in_the_words_of_the_framework(left: float, words: str) -> None:
    clock = Seconds()
    throttle = KeyRateLimiter(1, clock)
    throttle.count_request("a")
    clock.now += 60.0 - left
    with pytest.raises(ApiError, match=f"^Request was throttled. Expected available in {words}$"):
        throttle.count_request("a")


def test_what_a_client_sees(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, requests_per_minute=2) as served:
            other = await served.key(Scope.READ)
            assert (
                await served.client.get(COLLECTION, headers={"Accept": "text/html"})
            ).status_code == 406, "judged before it is counted"
            assert (await served.client.put(COLLECTION)).status_code == 405, "counted before it is judged"
            answers = [await served.client.get(COLLECTION) for _ in range(2)]
            assert [each.status_code for each in answers] == [200, 429]
            assert 55 <= int(answers[1].headers["Retry-After"]) <= 60
            assert answers[1].json()["type"] == "throttled_error"
            assert (await served.client.get(COLLECTION, headers=other)).status_code == 200

    asyncio.run(story())
