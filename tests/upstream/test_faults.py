"""What an attempt is taken for when the network or the API fails it, on real sockets and both event loops.

The line that matters: `NotStarted` may be sent again at once, so it must be certain; `MaybeStarted` is found
out about first.
"""

import asyncio
import socket

import pytest

from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from tests.fault_server import Behaviour, Visit, always, fault_server, response
from tests.ports import free_port
from tests.upstream.support import AUTOMATION, ID, LOOPS, Run, client

GOOD = response(200, AUTOMATION)
BODY = GOOD.partition(b"\r\n\r\n")[2]


async def resets_at_once(visit: Visit) -> None:
    visit.reset()


async def closes_at_once(visit: Visit) -> None:
    pass


async def speaks_without_tls(visit: Visit) -> None:
    await visit.send(response(400, b"The plain HTTP request was sent to HTTPS port"))


async def resets_after_the_request(visit: Visit) -> None:
    await visit.request()
    visit.reset()


async def closes_after_the_request(visit: Visit) -> None:
    await visit.request()


async def never_answers(visit: Visit) -> None:
    await visit.request()
    await visit.hang()


def sends(data: bytes, *, then_hang: bool = False) -> Behaviour:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.send(data)
        if then_hang:
            await visit.hang()

    return behave


async def drips(visit: Visit) -> None:
    await visit.request()
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await visit.send(b" ")
        await asyncio.sleep(0.02)


async def resets_within_the_body(visit: Visit) -> None:
    await visit.request()
    await visit.send(GOOD[:-10])
    visit.reset()


MAYBE_CARRIED_OUT: dict[str, Behaviour] = {
    "reset at once": resets_at_once,
    "closed at once": closes_at_once,
    "reset after the request": resets_after_the_request,
    "closed after the request": closes_after_the_request,
    "no answer": never_answers,
    "half a head": sends(GOOD[:30]),
    "half a head, then silence": sends(GOOD[:30], then_hang=True),
    "half a body": sends(GOOD[:-10]),
    "half a body, then silence": sends(GOOD[:-10], then_hang=True),
    "half a body, then a reset": resets_within_the_body,
    "half a chunk": sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"),
    "a body slower than the time-out": drips,
    "a body longer than it says": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdefgh"),
    "no HTTP": sends(b"\x16\x03\x01\x02\x00 SSH-2.0\r\n\r\n"),
    "a head without end": sends(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000),
    "two lengths": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "a length that is none": sends(b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabcd"),
}


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("behaviour", MAYBE_CARRIED_OUT.values(), ids=MAYBE_CARRIED_OUT)
def test_a_request_that_may_have_been_carried_out_is_lost_and_is_sent_only_once(
    behaviour: Behaviour, run: Run
) -> None:
    async def main() -> None:
        async with fault_server(behaviour) as server, client(server, request_timeout=0.25) as api:
            came = await api.run(ID, "key")
            assert isinstance(came, MaybeStarted), came
            assert server.connections == 1
            assert len(server.received) <= 1

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_refused_connection_means_not_sent(run: Run) -> None:
    async def main() -> None:
        async with client(f"http://127.0.0.1:{free_port()}") as api:
            assert await api.run(ID, "key") == NotStarted("connection refused")

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("host", ["nowhere.invalid", "127.1"], ids=["unknown", "a legacy form of address"])
def test_a_host_that_does_not_resolve_means_not_sent(host: str, run: Run) -> None:
    async def main() -> None:
        async with client(f"http://{host}") as api:
            assert isinstance(await api.run(ID, "key"), NotStarted)

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_connection_that_is_not_made_in_time_means_not_sent(run: Run) -> None:
    """A listener whose backlog is full: the kernel drops what asks for a connection."""

    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            with socket.create_connection(listener.getsockname()):
                async with client(
                    f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.3
                ) as api:
                    assert await api.run(ID, "key") == NotStarted("no connection within connect_timeout")

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_tls_handshake_that_is_never_answered_means_not_sent(run: Run) -> None:
    async def main() -> None:
        async with fault_server(Visit.hang) as server, client(server.https_url, connect_timeout=0.3) as api:
            assert await api.run(ID, "key") == NotStarted("no connection within connect_timeout")

    run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize(
    "behaviour", [resets_at_once, closes_at_once, speaks_without_tls], ids=["reset", "closed", "plain HTTP"]
)
def test_a_tls_handshake_that_fails_means_not_sent(behaviour: Behaviour, run: Run) -> None:
    async def main() -> None:
        async with fault_server(behaviour) as server, client(server.https_url) as api:
            assert isinstance(await api.run(ID, "key"), NotStarted)

    run(main())


def test_a_connect_timeout_beyond_the_request_timeout_still_tells_that_nothing_was_sent() -> None:
    async def main() -> None:
        async with (
            fault_server(Visit.hang) as server,
            client(server.https_url, connect_timeout=30, request_timeout=0.3) as api,
        ):
            assert isinstance(await api.run(ID, "key"), NotStarted)

    asyncio.run(main())


# ---------------------------------------------------------------- what is taken in spite of it all


def test_interim_answers_are_passed_over() -> None:
    async def main() -> None:
        async with (
            fault_server(always(b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + GOOD)) as server,
            client(server) as api,
        ):
            came = await api.run(ID, "key")
            assert isinstance(came, AttemptResponse)
            assert came.status == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    ],
    ids=["chunked", "until the end"],
)
def test_a_body_may_come_in_any_form_that_http_has(data: bytes) -> None:
    async def main() -> None:
        async with fault_server(sends(data)) as server, client(server) as api:
            came = await api.run(ID, "key")
            assert isinstance(came, AttemptResponse)
            assert came.automation is not None

    asyncio.run(main())
