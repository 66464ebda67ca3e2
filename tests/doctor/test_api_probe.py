"""What an API is asked, and what its answers mean. Nothing that is sent could start or change anything."""

import asyncio
import json
from collections.abc import Callable

import pytest

from scheduler.clock import SystemClock
from scheduler.doctor.facts import ApiFacts
from scheduler.doctor.probes.api import NIL_ID, probe_api
from tests.fault_server import FaultServer, Received, by_request, fault_server, response
from tests.upstream.support import AUTOMATION, target

PAGE = {"count": 1, "next": None, "previous": None, "results": [AUTOMATION]}
MISSING = {
    "type": "authentication_error",
    "code": "permission_denied",
    "detail": "API key missing required scope 'task:write'",
    "attr": None,
}
NOT_FOUND = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}

Answer = Callable[[Received], bytes]


def asked(listing: bytes, patching: bytes) -> tuple[ApiFacts, FaultServer]:
    async def main() -> tuple[ApiFacts, FaultServer]:
        async with fault_server(
            by_request(lambda request: listing if request.method == "GET" else patching)
        ) as server:
            return await probe_api(target(server.url), SystemClock()), server

    return asyncio.run(main())


LISTED = response(200, PAGE)


@pytest.mark.parametrize(
    ("answer", "writes"),
    [
        (response(404, NOT_FOUND), True),
        (response(400, {"detail": "a body is wanted"}), True),
        (response(403, MISSING), False),
        (response(403, {"detail": "You may not."}), False),
        (response(500), None),
        (response(405, {"detail": 'Method "PATCH" not allowed.'}), None),
        (response(302, headers={"Location": "https://elsewhere/"}), None),
        (b"what is this?\r\n\r\n", None),
    ],
    ids=["404", "400", "403 scope", "403", "500", "405", "302", "no HTTP"],
)
def test_whether_a_key_may_write_is_told_by_what_a_write_that_writes_nothing_is_answered(
    answer: bytes, writes: bool | None
) -> None:
    facts, _ = asked(LISTED, answer)
    assert facts.may_write is writes
    assert (facts.write_refusal is None) == (writes is True)


def test_nothing_is_sent_but_readings_and_a_change_of_nothing_in_nothing() -> None:
    _, server = asked(LISTED, response(404, NOT_FOUND))
    reading, writing = server.received
    assert (reading.method, reading.target.partition("?")[0]) == ("GET", "/api/projects/1/task_automations/")
    assert (writing.method, writing.target) == ("PATCH", f"/api/projects/1/task_automations/{NIL_ID}/")
    assert json.loads(writing.body) == {}
    assert set(NIL_ID) == {"0", "-"}


@pytest.mark.parametrize("status", [301, 401, 404, 500])
def test_an_api_whose_list_cannot_be_had_is_not_asked_for_more(status: int) -> None:
    facts, server = asked(response(status, headers={"Location": "/"}), response(404, NOT_FOUND))
    assert facts.refusal is not None
    assert facts.refusal.status == status
    assert {request.method for request in server.received} == {"GET"}


def test_a_key_that_may_not_read_is_asked_whether_it_may_write() -> None:
    facts, _ = asked(response(403, MISSING), response(403, MISSING))
    assert facts.refusal is not None
    assert facts.may_write is False


def test_what_a_reading_takes_is_measured() -> None:
    facts, _ = asked(LISTED, response(404, NOT_FOUND))
    assert facts.snapshot is not None
    assert facts.requests == 1
    assert 0 < facts.slowest_seconds < 5
    assert facts.clock_offset is not None
