"""One client takes over from another: what was sent counts, and what is under way comes to its end."""

import asyncio

import pytest

from scheduler.clock import SystemClock
from scheduler.core.response import AttemptResponse
from scheduler.upstream.client import ApiClient
from tests.fault_server import Visit, always, fault_server, response, until
from tests.upstream.support import AUTOMATION, ID, client, target


def test_an_answer_that_is_under_way_is_waited_for() -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def slow(visit: Visit) -> None:
            while await visit.request():
                await answered.wait()
                await visit.send(response(200, AUTOMATION))

        async with fault_server(slow) as server:
            old = client(server)
            run = asyncio.create_task(old.run(ID, "key-1"))
            await until(lambda: len(server.received) == 1)
            retiring = asyncio.create_task(old.retire())
            await asyncio.sleep(0)
            answered.set()
            assert isinstance(await run, AttemptResponse)
            await retiring
            await until(lambda: server.open == 0)

    asyncio.run(main())


def test_whoever_ends_the_waiting_closes_at_once() -> None:
    async def main() -> None:
        async def silent(visit: Visit) -> None:
            await visit.request()
            await visit.hang()

        async with fault_server(silent) as server:
            old = client(server)
            run = asyncio.create_task(old.run(ID, "key-1"))
            await until(lambda: len(server.received) == 1)
            retiring = asyncio.create_task(old.retire())
            await asyncio.sleep(0)
            retiring.cancel()
            await asyncio.wait([retiring])
            assert not isinstance(await asyncio.wait_for(run, 2), AttemptResponse)

    asyncio.run(main())


def test_a_wait_that_the_api_asked_for_outlives_the_client() -> None:
    async def main() -> None:
        async with (
            fault_server(always(response(429, headers={"Retry-After": "3600"}))) as server,
            client(server) as old,
        ):
            await old.run(ID, "key-1")
            async with ApiClient(target(server.url), SystemClock()) as new:
                await asyncio.wait_for(new.admit(), 1)  # on its own it knows nothing of it
                new.continue_from(old)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(new.admit(), 0.05)

    asyncio.run(main())
