"""The six calls on the wire, and what the client learns from every answer."""

import asyncio
import json
import re
import traceback
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scheduler import __version__
from scheduler.clock import SystemClock
from scheduler.core.errors import UpstreamError
from scheduler.core.events import RequestEnded
from scheduler.core.model import InvalidAutomation
from scheduler.core.response import AttemptResponse
from scheduler.upstream.client import ApiClient
from scheduler.upstream.fields import NewAutomation
from tests.defaults import target_config
from tests.fault_server import Received, Visit, always, by_request, fault_server, response, until
from tests.ports import free_port
from tests.upstream.support import AUTOMATION, ID, KEY, client

if TYPE_CHECKING:
    from scheduler.daemon.ports import Upstream

PAGE = {"count": 1, "next": None, "previous": None, "results": [AUTOMATION]}
LIST = "/api/projects/1/task_automations/"
DETAIL = f"{LIST}{ID}/"
NEW: NewAutomation = {
    "name": "Nightly",
    "prompt": "Tidy up.",
    "repository": "acme/app",
    "cron_expression": "0 3 * * *",
}

Call = Callable[[ApiClient], Coroutine[Any, Any, Any]]


async def call_on(answer: bytes, call: Call) -> tuple[Any, list[Received]]:
    async with fault_server(always(answer)) as server, client(server) as api:
        return await call(api), server.received


def received(answer: bytes, call: Call) -> Received:
    _, requests = asyncio.run(call_on(answer, call))
    assert len(requests) == 1
    return requests[0]


# ---------------------------------------------------------------- the calls


CALLS: dict[str, tuple[Call, bytes, str, str, object]] = {
    "list": (
        lambda api: api.list_documents(),
        response(200, PAGE),
        "GET",
        f"{LIST}?limit=1000&offset=0",
        None,
    ),
    "snapshot": (
        lambda api: api.read_snapshot(),
        response(200, PAGE),
        "GET",
        f"{LIST}?limit=1000&offset=0",
        None,
    ),
    "retrieve": (lambda api: api.retrieve(ID), response(200, AUTOMATION), "GET", DETAIL, None),
    "document": (lambda api: api.read_document(ID), response(200, AUTOMATION), "GET", DETAIL, None),
    "create": (lambda api: api.create(NEW), response(201, AUTOMATION), "POST", LIST, NEW),
    "update": (
        lambda api: api.update(ID, {"enabled": False}),
        response(200, AUTOMATION),
        "PATCH",
        DETAIL,
        {"enabled": False},
    ),
    "delete": (lambda api: api.delete(ID), b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", DETAIL, None),
    "run": (lambda api: api.run(ID, "key-1"), response(200, AUTOMATION), "POST", f"{DETAIL}run/", None),
}


@pytest.mark.parametrize(("call", "answer", "method", "path", "body"), CALLS.values(), ids=CALLS)
def test_each_call_sends_what_the_contract_says(
    call: Call, answer: bytes, method: str, path: str, body: object
) -> None:
    request = received(answer, call)
    assert (request.method, request.target) == (method, path)
    assert (json.loads(request.body) if request.body else None) == body
    assert request.headers.get("content-type") == ("application/json" if body else None)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"] == f"task-automation-scheduler/{__version__}"
    assert request.headers["accept"] == "application/json"


def test_an_attempt_carries_its_idempotency_key_and_no_body() -> None:
    request = received(response(200, AUTOMATION), lambda api: api.run(ID, "key-1"))
    assert request.headers["idempotency-key"] == "key-1"
    assert (request.headers["content-length"], request.body) == ("0", b"")


def test_what_the_calls_bring_back() -> None:
    async def main() -> None:
        def answer(request: Received) -> bytes:
            return response(200, PAGE if request.target.startswith(f"{LIST}?") else AUTOMATION)

        async with fault_server(by_request(answer)) as server, client(server) as api:
            snapshot = await api.read_snapshot()
            automation = await api.retrieve(ID)
            assert automation == snapshot.automations[ID]
            assert snapshot.complete
            assert await api.read_document(ID) == AUTOMATION
            assert await api.update(ID, {"enabled": True}) == AUTOMATION
            assert await api.list_documents() == [AUTOMATION]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "project_id", "path"),
    [
        ("/", "1", LIST),
        ("/behind/a/proxy", "1", f"/behind/a/proxy{LIST}"),
        ("", "@current", "/api/projects/@current/task_automations/"),
    ],
)
def test_the_address_is_the_targets_with_its_path(url: str, project_id: str, path: str) -> None:
    config = target_config(f"https://us.posthog.com{url}", KEY, project_id=project_id)
    assert config.collection == f"https://us.posthog.com{path}"


@pytest.mark.parametrize("automation_id", ["", "7", "../../users", f"{ID}/../..", f"{ID}?x=", "01890a5d%2f"])
def test_what_is_no_id_leads_nowhere(automation_id: str) -> None:
    async def main() -> None:
        async with fault_server(always(response(200, AUTOMATION))) as server, client(server) as api:
            for call in (
                api.retrieve(automation_id),
                api.delete(automation_id),
                api.run(automation_id, "key"),
            ):
                with pytest.raises(InvalidAutomation):
                    await call
            assert server.connections == 0

    asyncio.run(main())


def test_the_client_is_what_the_daemon_asks_for() -> None:
    upstream: Upstream = client("http://127.0.0.1:1")
    assert upstream.clock_offset is None


# ---------------------------------------------------------------- refusals


def test_a_404_on_one_automation_is_an_answer() -> None:
    found, _ = asyncio.run(call_on(response(404, {"detail": "Not found."}), lambda api: api.retrieve(ID)))
    assert found is None


def test_an_automation_that_is_broken_raises_what_is_wrong_with_it() -> None:
    with pytest.raises(InvalidAutomation, match="its enabled is missing or null"):
        asyncio.run(call_on(response(200, {**AUTOMATION, "enabled": None}), lambda api: api.retrieve(ID)))


@pytest.mark.parametrize("name", [name for name in CALLS if name != "run"])
@pytest.mark.parametrize(
    ("answer", "status", "held"),
    [
        (response(401, {"detail": "Bad key."}), 401, True),
        (response(302, b"", {"Location": "http://elsewhere.invalid/"}), 302, True),
        (response(500, b"<h1>Server Error</h1>"), 500, False),
    ],
    ids=["401", "redirect", "500"],
)
def test_what_is_no_success_is_an_upstream_error_and_no_redirect_is_followed(
    name: str, answer: bytes, status: int, held: bool
) -> None:
    async def main() -> None:
        async with fault_server(always(answer)) as server, client(server) as api:
            with pytest.raises(UpstreamError) as raised:
                await CALLS[name][0](api)
            assert (raised.value.status, raised.value.held) == (status, held)
            assert re.match(
                rf"(GET|POST|PATCH|DELETE) {server.url}{LIST}\S* answered HTTP {status}", str(raised.value)
            )
            assert len(server.received) == 1

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_attempt_follows_no_redirect(status: int) -> None:
    async def main() -> None:
        async with (
            fault_server(always(response(status, b"", {"Location": "/elsewhere/"}))) as server,
            client(server) as api,
        ):
            assert await api.run(ID, "key") == AttemptResponse(status, location="/elsewhere/")
            assert len(server.received) == 1

    asyncio.run(main())


def test_a_404_on_the_list_holds_the_target_and_says_what_to_check() -> None:
    with pytest.raises(UpstreamError, match="check the url and the project_id of target main") as raised:
        asyncio.run(call_on(response(404, {"detail": "Not found."}), lambda api: api.read_snapshot()))
    assert raised.value.held


def test_another_automation_is_no_answer() -> None:
    other = {**AUTOMATION, "id": "00000000-0000-0000-0000-000000000001"}
    with pytest.raises(UpstreamError, match="another automation"):
        asyncio.run(call_on(response(200, other), lambda api: api.retrieve(ID)))


@pytest.mark.parametrize("name", ["list", "snapshot", "retrieve", "create", "update"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"[1]", b'"text"'])
def test_a_success_of_no_use_is_an_upstream_error(name: str, body: bytes) -> None:
    with pytest.raises(UpstreamError):
        asyncio.run(call_on(response(200, body), CALLS[name][0]))


def test_a_list_of_which_not_one_object_can_be_read_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="a page of a single automation is too large"):
        asyncio.run(
            call_on(response(200, b"[" + b"[]," * 3_000_000 + b"1]"), lambda api: api.list_documents())
        )


# ---------------------------------------------------------------- the budget


def test_a_429_stops_the_whole_target_for_as_long_as_it_says() -> None:
    async def main() -> None:
        async with (
            fault_server(always(response(429, {"detail": "Slow down."}, {"Retry-After": "30"}))) as server,
            client(server) as api,
        ):
            with pytest.raises(UpstreamError) as raised:
                await api.read_snapshot()
            assert (raised.value.status, raised.value.retry_after, raised.value.held) == (429, 30.0, False)
            for waiting in (api.admit(), api.read_snapshot(), api.retrieve(ID)):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(waiting, 0.02)
            assert len(server.received) == 1

    asyncio.run(main())


def test_a_429_to_an_attempt_stops_it_too_and_without_a_retry_after_for_a_while() -> None:
    async def main() -> None:
        async with (
            fault_server(always(response(429, {"detail": "Slow down."}))) as server,
            client(server) as api,
        ):
            assert await api.run(ID, "key") == AttemptResponse(429, error="Slow down.")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(api.admit(), 0.02)

    asyncio.run(main())


def test_an_attempt_that_was_admitted_is_sent_at_once_whatever_the_budget_says_since() -> None:
    async def main() -> None:
        config = target_config("http://127.0.0.1:1", KEY, requests_per_minute=1)
        async with ApiClient(config, SystemClock()) as api:
            await api.admit()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(api.admit(), 0.02)
            async with asyncio.timeout(2):
                await api.run(ID, "key")

    asyncio.run(main())


# ---------------------------------------------------------------- what is learnt and told


def test_the_apis_clock_is_told_from_its_dates() -> None:
    def answer(_: Received) -> bytes:
        date = datetime.now(UTC) + timedelta(hours=1)
        return response(200, PAGE, {"Date": format_datetime(date, usegmt=True)})

    async def main() -> None:
        async with fault_server(by_request(answer)) as server, client(server) as api:
            before = api.clock_offset
            snapshot = await api.read_snapshot()
            assert before is None
            assert api.clock_offset is not None
            seconds, margin = api.clock_offset
            assert abs(seconds - 3600) <= margin < 2.5
            assert snapshot.clock_offset == seconds

    asyncio.run(main())


@pytest.mark.parametrize("date", ["yesterday", "", "Mon, 99 Nov 2026 19:20:00 GMT"])
def test_a_date_that_is_none_teaches_nothing(date: str) -> None:
    async def main() -> None:
        async with fault_server(always(response(200, PAGE, {"Date": date}))) as server, client(server) as api:
            assert (await api.read_snapshot()).clock_offset is None

    asyncio.run(main())


def test_every_request_is_told_with_its_endpoint_and_what_became_of_it() -> None:
    async def main() -> list[RequestEnded]:
        told: list[RequestEnded] = []
        async with fault_server(always(response(503))) as server, client(server, observe=told.append) as api:
            for call in ("snapshot", "retrieve", "create", "update", "delete"):
                with pytest.raises(UpstreamError):
                    await CALLS[call][0](api)
            await api.run(ID, "key")
        async with client(f"http://127.0.0.1:{free_port()}", observe=told.append) as api:
            await api.run(ID, "key")
        async with (
            fault_server(Visit.hang) as server,
            client(server, request_timeout=0.1, observe=told.append) as api,
        ):
            await api.run(ID, "key")
        return told

    told = asyncio.run(main())
    assert [(each.endpoint, each.code) for each in told] == [
        *((endpoint, "503") for endpoint in ("list", "retrieve", "create", "update", "delete", "run")),
        ("run", "unreachable"),
        ("run", "timeout"),
    ]
    assert all(each.target == "main" and each.seconds >= 0 for each in told)


# ---------------------------------------------------------------- the environment, and the key


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no netrc: what a target is asked, and by whom, is in its configuration alone."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert (
        received(response(200, AUTOMATION), lambda api: api.run(ID, "key")).headers["authorization"]
        == f"Bearer {KEY}"
    )


def test_cookies_are_not_given_back() -> None:
    async def main() -> None:
        behaviour = always(response(200, AUTOMATION, {"Set-Cookie": "session=1; Path=/"}))
        async with (
            fault_server(behaviour) as server,
            client(server.url.replace("127.0.0.1", "localhost")) as api,
        ):
            for _ in range(2):
                await api.run(ID, "key")
            assert [request.headers.get("cookie") for request in server.received] == [None, None]

    asyncio.run(main())


def test_no_repr_shows_the_key() -> None:
    api = client("http://127.0.0.1:1")
    assert (
        KEY
        not in f"{api!r} {vars(api)!r} {api._config!r} {api._make_request('GET', 'http://127.0.0.1:1/')!r}"
    )


ECHOES = {
    "in its words": response(400, {"detail": f"Who is Bearer {KEY}?", "attr": KEY}),
    "in a page": response(500, f"<html>{KEY}</html>".encode()),
    "where it redirects": response(302, b"", {"Location": f"https://elsewhere/{KEY}"}),
    "as its encoding": response(200, b"", {"Content-Encoding": KEY}),
    "as its type": response(200, b"<", {"Content-Type": KEY}),
    "instead of HTTP": f"{KEY}\r\n\r\n".encode(),
    "instead of a length": f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_no_error_shows_the_key_even_when_the_server_says_it(answer: bytes) -> None:
    async def main() -> None:
        async with fault_server(always(answer)) as server, client(server) as api:
            assert KEY not in repr(await api.run(ID, "key"))
            with pytest.raises(UpstreamError) as raised:
                await api.read_snapshot()
            assert KEY not in shown(raised.value)

    asyncio.run(main())


def test_no_traceback_with_the_variables_of_its_frames_shows_the_key() -> None:
    """A cancelled attempt's traceback goes through the libraries, whose frames hold the headers."""

    async def main() -> None:
        async with fault_server(Visit.hang) as server, client(server) as api:
            attempt = asyncio.ensure_future(api.run(ID, "key"))
            await until(lambda: server.connections == 1)
            await asyncio.sleep(0.02)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError) as raised:
                await attempt
            text = shown(raised.value)
            assert "session.request" in text
            assert KEY not in text

    asyncio.run(main())


def shown(error: BaseException | None) -> str:
    """An error as the most talkative of loggers would print it: with all that led to it, and the variables of
    every frame but ours.
    """
    told: list[str] = []
    while error is not None:
        one = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
        one.stack[:] = [frame for frame in one.stack if frame.filename != __file__]
        told.extend([repr(error), *one.format(chain=False)])
        error = error.__cause__ or error.__context__
    return "\n".join(told)
