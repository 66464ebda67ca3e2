"""Applications on real sockets: bound before anything begins, told of plainly when that fails, and gone when
they are stopped.
"""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.core.errors import ConfigurationError
from scheduler.ops import http_server
from scheduler.ops.http_server import HttpServer
from scheduler.ops.web import build_app
from tests.ops.support import pages

DEADLINE = 20.0


async def greeting(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def served(app: ASGIApp = greeting, listen: str = "127.0.0.1:0", **how: Any) -> HttpServer:
    return HttpServer(app, listen, setting="server.listen", **how)


async def get(address: str, path: str = "/", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=DEADLINE) as client:
        return await client.get(f"http://{address}{path}", headers=headers)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="this machine has no IPv6 loopback address; enable IPv6 on lo"
)


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        ("127.0.0.1:0", "127.0.0.1"),
        pytest.param("[::1]:0", "[::1]", marks=needs_ipv6),
    ],
)
def test_it_is_reachable_where_it_says(listen: str, host: str) -> None:
    async def run() -> None:
        async with served(listen=listen) as running:
            assert running.address.startswith(f"{host}:")
            assert not running.address.endswith(":0")
            assert (await get(running.address)).text == "hello"

    asyncio.run(run())


def test_localhost_is_every_address_that_the_machine_calls_so() -> None:
    async def run() -> None:
        async with served(listen="localhost:0") as running:
            port = running.address.rpartition(":")[2]
            for host in ("127.0.0.1", *(["[::1]"] if has_ipv6() and "::1" in called_localhost() else [])):
                assert (await get(f"{host}:{port}")).status_code == 200

    asyncio.run(run())


def test_a_host_with_two_addresses_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]

    async def run() -> None:
        async with served(listen="both.example.com:0") as running:
            port = running.address.rpartition(":")[2]
            assert [(await get(f"{host}:{port}")).status_code for host in ("127.0.0.1", "127.0.0.2")] == [
                200,
                200,
            ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
    asyncio.run(run())


def called_localhost() -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}


@needs_ipv6
def test_all_addresses_are_those_of_ipv4_too() -> None:
    async def run() -> None:
        async with served(listen="[::]:0") as running:
            port = running.address.rpartition(":")[2]
            assert [(await get(f"{host}:{port}")).status_code for host in ("127.0.0.1", "[::1]")] == [
                200,
                200,
            ]

    asyncio.run(run())


def test_nowhere_is_nowhere() -> None:
    async def run() -> str:
        async with served(listen="") as running:
            return running.address

    assert asyncio.run(run()) == ""


def test_the_daemons_pages_answer_over_a_real_connection() -> None:
    async def run() -> None:
        app = build_app(pages(), listen="127.0.0.1:0")
        async with served(app) as running:
            assert (await get(running.address, "/healthz")).json()["alive"] is True
            assert (await get(running.address, "/metrics")).text.startswith("# HELP")
            assert (await get(running.address, "/", host="rebound.example.com")).status_code == 421
            assert "server" not in (await get(running.address)).headers

    asyncio.run(run())


# ------------------------------------------------------------ what cannot be


def refusal(listen: str) -> str:
    async def run() -> None:
        async with served(listen=listen):
            raise AssertionError("it should not have started")

    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(run())
    return str(raised.value)


def test_an_address_in_use_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        error = refusal(listen)
    assert error == (
        f"cannot listen on {listen} (server.listen): another program listens there already; stop it, "
        "or choose another port"
    )


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("no-such-host.invalid:0", "the host 'no-such-host.invalid' is not known"),
        ("127.0.0.1", "it should be host:port"),
        (":9464", "it should be host:port"),
        ("127.0.0.1:http", "it should be host:port"),
        ("127.0.0.1:65536", "it should be host:port"),
        ("127.0.0.1:²", "it should be host:port"),
    ],
)
def test_what_is_no_address_of_ours_is_a_plain_error(listen: str, says: str) -> None:
    error = refusal(listen)
    assert says in error
    assert "(server.listen)" in error


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.EACCES, "below 1024"), (errno.EPERM, "below 1024"), (errno.ENOBUFS, "No buffer space available")],
)
def test_what_the_system_refuses_is_said_so(number: int, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise OSError(number, "No buffer space available")

    monkeypatch.setattr(http_server, "_bind_address", refused)
    assert says in refusal("127.0.0.1:0")


@pytest.fixture
def _half_a_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that calls two addresses localhost and has one of them."""

    async def both(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)


@pytest.mark.usefixtures("_half_a_localhost")
def test_an_address_that_is_missing_is_no_fault_as_long_as_there_is_another() -> None:
    async def run() -> str:
        async with served(listen="localhost:0") as running:
            return running.address

    assert asyncio.run(run()).startswith("127.0.0.1:")


@pytest.mark.usefixtures("_half_a_localhost")
def test_an_address_in_use_is_a_fault_though_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    bind, bound = http_server._bind_address, list[socket.socket]()

    def one_in_use(family: int, _: str, port: int) -> socket.socket:
        if bound:
            raise OSError(errno.EADDRINUSE, "in use")
        bound.append(bind(family, "127.0.0.1", port))
        return bound[0]

    monkeypatch.setattr(http_server, "_bind_address", one_in_use)
    assert "another program listens there already" in refusal("localhost:0")
    assert bound[0].fileno() == -1, "the one that could be had is given back"


# ------------------------------------------------------------ its end


def test_when_it_is_stopped_nothing_listens_any_more() -> None:
    async def run() -> None:
        running = served()
        await running.__aenter__()
        address = running.address
        await running.__aexit__()
        await running.__aexit__()
        with pytest.raises(httpx.ConnectError):
            await get(address)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def a_request_under_way(
    patience: int,
) -> AsyncIterator[tuple[HttpServer, asyncio.Event, "asyncio.Task[httpx.Response]"]]:
    begun, answer = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await answer.wait()
        await greeting(scope, receive, send)

    running = served(slow, patience=patience)
    await running.__aenter__()
    request = asyncio.create_task(get(running.address))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
    yield running, answer, request


def test_a_request_under_way_comes_to_its_end_when_it_is_stopped() -> None:
    async def run() -> str:
        async with a_request_under_way(patience=10) as (running, answer, request):
            stopping = asyncio.create_task(running.__aexit__())
            await asyncio.sleep(0)
            answer.set()
            await stopping
            return (await request).text

    assert asyncio.run(run()) == "hello"


def test_a_request_that_does_not_end_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with a_request_under_way(patience=1) as (running, _, request):
            async with asyncio.timeout(DEADLINE):
                await running.__aexit__()
            with contextlib.suppress(httpx.HTTPError):
                assert (await request).status_code == 500

    with caplog.at_level(logging.CRITICAL + 1, "uvicorn.error"):
        asyncio.run(run())


def test_an_idle_connection_does_not_keep_it_from_stopping() -> None:
    async def run() -> None:
        running = served(keep_alive=600)
        await running.__aenter__()
        async with httpx.AsyncClient() as client:
            await client.get(f"http://{running.address}")
            async with asyncio.timeout(DEADLINE):
                await running.__aexit__()

    asyncio.run(run())


# ------------------------------------------------------------ a part of a process, not its owner


def test_signals_and_logging_are_left_alone() -> None:
    def state() -> list[object]:
        loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error")]
        return [
            signal.getsignal(signal.SIGTERM),
            signal.getsignal(signal.SIGINT),
            *((list(each.handlers), each.level) for each in loggers),
        ]

    async def run() -> list[object]:
        async with served() as running:
            await get(running.address)
            return state()

    before = state()
    during = asyncio.run(asyncio.wait_for(run(), DEADLINE))
    assert during[0] == before[0]
    assert during[2:] == before[2:]
    assert state() == before


def test_what_the_application_raises_is_one_answer_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("a fault")
        await greeting(scope, receive, send)

    async def run() -> list[int]:
        async with served(app) as running:
            return [(await get(running.address, path)).status_code for path in ("/bad", "/good")]

    assert asyncio.run(run()) == [500, 200]
    assert "Exception in ASGI application" in caplog.text


def test_more_connections_than_allowed_are_told_so() -> None:
    async def run() -> list[int]:
        async with served(connections=2) as running, httpx.AsyncClient() as one, httpx.AsyncClient() as two:
            return [(await client.get(f"http://{running.address}")).status_code for client in (one, two)]

    assert asyncio.run(run()) == [200, 503]
