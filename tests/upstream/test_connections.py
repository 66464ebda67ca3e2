"""Which connections are used: kept while they are fresh, never when they may be closing or hold something
that nobody asked for.
"""

import asyncio
import socket
from unittest import mock

import pytest

from scheduler.core.response import AttemptResponse, MaybeStarted
from scheduler.upstream import pool
from tests.fault_server import Behaviour, Visit, always, fault_server, response, until
from tests.upstream.support import AUTOMATION, ID, LOOPS, Run, client

GOOD = response(200, AUTOMATION)


async def drops_the_second_request(visit: Visit) -> None:
    await visit.request()
    await visit.send(GOOD)
    await visit.request()
    visit.reset()


def says_something_unasked(data: bytes) -> Behaviour:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.send(GOOD)
        await asyncio.sleep(0.02)  # on its own, after the answer was taken
        await visit.send(data)
        while await visit.request():
            await visit.send(GOOD)

    return behave


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_connection_that_answered_is_used_again(run: Run) -> None:
    async def main() -> None:
        async with fault_server(always(GOOD)) as server, client(server) as api:
            for _ in range(5):
                await api.run(ID, "key")
            assert (server.connections, len(server.received)) == (1, 5)

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_post_on_a_connection_that_the_server_drops_is_lost_and_never_sent_twice(run: Run) -> None:
    async def main() -> None:
        async with fault_server(drops_the_second_request) as server, client(server) as api:
            assert isinstance(await api.run(ID, "first"), AttemptResponse)
            assert isinstance(await api.run(ID, "second"), MaybeStarted)
            assert [request.headers["idempotency-key"] for request in server.received] == ["first", "second"]

    run(main())


def test_a_reading_on_a_connection_that_the_server_drops_is_made_again() -> None:
    async def main() -> None:
        async with fault_server(drops_the_second_request) as server, client(server) as api:
            for _ in range(2):
                assert await api.retrieve(ID) is not None
            assert server.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize(
    "unasked",
    [response(408, b"too late"), response(200, AUTOMATION), b"noise"],
    ids=["a 408", "a 200", "noise"],
)
def test_what_arrives_unasked_is_never_taken_for_the_next_answer(unasked: bytes, run: Run) -> None:
    async def main() -> None:
        async with fault_server(says_something_unasked(unasked)) as server, client(server) as api:
            await api.run(ID, "first")
            await asyncio.sleep(0.1)  # nothing tells that the stray bytes have come
            came = await api.run(ID, "second")
            assert isinstance(came, AttemptResponse)
            assert came.status == 200
            assert [request.connection for request in server.received] == [1, 2]

    run(main())


def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used() -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.send(GOOD)

    async def main() -> None:
        async with fault_server(behave) as server, client(server) as api:
            await api.run(ID, "first")
            await until(lambda: server.open == 0)
            assert isinstance(await api.run(ID, "second"), AttemptResponse)
            assert server.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_connection_that_the_server_closed_while_our_loop_was_busy_is_not_used(run: Run) -> None:
    """The end has arrived, but the loop has not looked since: that is a whole burst of fires at a full
    minute.
    """

    async def serve_one(listener: socket.socket) -> socket.socket:
        loop = asyncio.get_running_loop()
        visitor, _ = await loop.sock_accept(listener)
        await loop.sock_recv(visitor, 65536)
        await loop.sock_sendall(visitor, GOOD)
        return visitor

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            async with client(f"http://127.0.0.1:{listener.getsockname()[1]}") as api:
                visitor, _ = await asyncio.gather(serve_one(listener), api.run(ID, "first"))
                visitor.close()
                came, visitor = await asyncio.gather(api.run(ID, "second"), serve_one(listener))
                visitor.close()
                assert isinstance(came, AttemptResponse)

    run(main())


def test_a_connection_that_idled_for_too_long_is_not_used() -> None:
    async def main() -> None:
        with mock.patch.object(pool, "KEPT_ALIVE", 0.05):
            async with fault_server(always(GOOD)) as server, client(server) as api:
                await api.run(ID, "first")
                await until(lambda: server.open == 0)
                await api.run(ID, "second")
                assert server.connections == 2

    asyncio.run(main())


# ---------------------------------------------------------------- warm


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_warming_opens_connections_without_a_request_and_attempts_use_them(run: Run) -> None:
    async def main() -> None:
        async with fault_server(always(GOOD)) as server, client(server) as api:
            await api.warm(5)
            await until(lambda: server.open == 5)
            assert server.received == []
            await asyncio.gather(*(api.run(ID, "key") for _ in range(5)))
            assert sorted(request.connection for request in server.received) == [1, 2, 3, 4, 5]

    run(main())


def test_warming_keeps_what_is_fresh_and_replaces_what_is_old() -> None:
    """Warming again and again must not keep a connection alive that has never answered."""

    async def main() -> None:
        async with fault_server(always(GOOD)) as server, client(server) as api:
            await api.warm(3)
            await api.warm(3)
            await until(lambda: server.open == 3)
            assert server.connections == 3
            await asyncio.sleep(0.1)  # what is to pass here is the time itself
            with mock.patch.object(pool, "KEPT_ALIVE", 0.09):
                await api.warm(3)
            await until(lambda: server.open == 3)
            assert server.connections == 6

    asyncio.run(main())


def test_warming_never_opens_more_than_may_be_in_flight() -> None:
    async def main() -> None:
        async with fault_server(always(GOOD)) as server, client(server) as api:
            await api.warm(1000)
            await until(lambda: server.open == 64)
            assert server.connections == 64

    asyncio.run(main())


def test_warming_gives_up_quietly_on_what_cannot_be_had() -> None:
    async def main() -> None:
        async with fault_server(Visit.hang) as server, client(server.https_url, connect_timeout=0.1) as api:
            await api.warm(3)
            assert server.connections == 3

    asyncio.run(main())


def test_warming_that_is_cancelled_leaves_no_connection_behind() -> None:
    """A connection that nobody closed is a ResourceWarning, and that a failure."""

    async def main() -> None:
        async with fault_server(always(GOOD)) as server, client(server) as api:
            warming = asyncio.ensure_future(api.warm(20))
            await until(lambda: server.connections > 0)
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)

    asyncio.run(main())


# ---------------------------------------------------------------- nobody waits for another's connection


def test_an_attempt_never_waits_behind_readings_that_hang() -> None:
    async def behave(visit: Visit) -> None:
        while request := await visit.request():
            if request.method == "GET":
                await visit.hang()
            await visit.send(GOOD)

    async def main() -> None:
        async with fault_server(behave) as server, client(server) as api:
            readings = [asyncio.ensure_future(api.retrieve(ID)) for _ in range(200)]
            await until(lambda: len(server.received) == 8)
            await api.admit()
            async with asyncio.timeout(2):
                assert isinstance(await api.run(ID, "key"), AttemptResponse)
            assert server.connections == 9  # no more than eight readings are under way at a time
            for reading in readings:
                reading.cancel()
            await asyncio.gather(*readings, return_exceptions=True)

    asyncio.run(main())
