"""DNS rebinding: who may be called by which name."""

import asyncio
import socket

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from scheduler.ops import hosts
from scheduler.ops.hosts import HostCheck


async def answered(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("here")(scope, receive, send)


def asked(check: HostCheck, *names: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(check), base_url="http://127.0.0.1"
        ) as client:
            return [await client.get("/", headers={"host": name}) for name in names]

    return asyncio.run(ask())


class Resolver:
    """What this machine is called, and how often somebody wanted to know."""

    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        self.asked = 0

    def __call__(self) -> set[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"vm1", "VM1.corp.example.com"}


@pytest.mark.parametrize(
    ("listen", "host", "code"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464", 200),
        ("127.0.0.1:9464", "localhost:9464", 200),
        ("127.0.0.1:9464", "LOCALHOST.", 200),
        ("127.0.0.1:9464", "[::1]:9464", 200),
        ("127.0.0.1:9464", "192.0.2.7:9464", 200),
        ("127.0.0.1:9464", "evil.example.com:9464", 421),
        ("127.0.0.1:9464", "vm1", 421),
        ("127.0.0.1:9464", "vm1.corp.example.com", 421),
        ("127.0.0.1:9464", "127.0.0.1.evil.example.com", 421),
        ("127.0.0.1:9464", "", 421),
        ("127.0.0.1:9464", "127.0.0.1:9464@evil.example.com", 421),
        ("127.0.0.1:9464", "evil.example.com, localhost", 421),
        ("127.0.0.1:9464", "[evil.example.com]", 421),
        ("[::1]:9464", "[::1]:9464", 200),
        ("[::1]:9464", "evil.example.com", 421),
        ("localhost:9464", "localhost:9464", 200),
        ("localhost:9464", "evil.example.com", 421),
        ("0.0.0.0:9464", "192.0.2.7:9464", 200),
        ("0.0.0.0:9464", "[2001:db8::1]:9464", 200),
        ("0.0.0.0:9464", "scheduler:9464", 200),
        ("0.0.0.0:9464", "scheduler.default.svc.cluster.local:9464", 200),
        ("0.0.0.0:9464", "host.docker.internal:9464", 200),
        ("0.0.0.0:9464", "vm1.corp.example.com:9464", 200),
        ("0.0.0.0:9464", "VM1.Corp.example.com.", 200),
        ("0.0.0.0:9464", "vm1.evil.example.com:9464", 421),
        ("0.0.0.0:9464", "evil.notlocal", 421),
        ("[::]:9464", "vm1.corp.example.com:9464", 200),
        ("sched.corp.example.com:9464", "sched.corp.example.com:9464", 200),
        ("sched.corp.example.com:9464", "other.example.com:9464", 421),
    ],
)
def test_only_names_that_no_page_of_the_internet_can_have_are_answered(
    listen: str, host: str, code: int
) -> None:
    (answer,) = asked(HostCheck(answered, listen, Resolver()), host)
    assert answer.status_code == code
    assert code == 200 or "is not called" in answer.json()["error"]


def test_the_resolver_is_asked_once_and_only_for_a_name_that_nothing_else_explains() -> None:
    resolver = Resolver()
    check = HostCheck(answered, "0.0.0.0:9464", resolver)
    asked(check, "192.0.2.7", "localhost", "prometheus-target", "a.internal")
    assert resolver.asked == 0
    asked(check, "evil.example.com", "vm1.corp.example.com", "evil.example.com")
    assert resolver.asked == 1


def test_a_resolver_that_fails_is_asked_again_and_lets_nobody_in() -> None:
    resolver = Resolver(OSError("no name server"))
    check = HostCheck(answered, "0.0.0.0:9464", resolver)
    assert [answer.status_code for answer in asked(check, "vm1.corp.example.com")] == [421]
    resolver.error = None
    assert [answer.status_code for answer in asked(check, "vm1.corp.example.com")] == [200]


def test_a_request_without_a_host_comes_from_no_browser_and_is_answered() -> None:
    async def ask() -> list[int]:
        codes: list[int] = []

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            codes.extend([message["status"]] if "status" in message else [])

        async def receive() -> dict[str, object]:
            raise AssertionError("nobody reads a body here")

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await HostCheck(answered, "127.0.0.1:9464", Resolver())(scope, receive, send)
        return codes

    assert asyncio.run(ask()) == [200]


def test_this_machine_is_called_what_the_system_says() -> None:
    assert socket.gethostname() in hosts.find_own_names()
