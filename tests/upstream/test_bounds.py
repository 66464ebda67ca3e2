"""An answer can be as large, as deep or as slow as it likes: it costs little memory and never holds up the
loop.
"""

import asyncio
import gc
import gzip
import json
import time
import tracemalloc
from functools import cache
from typing import Self
from uuid import UUID

import pytest

from scheduler.core.response import AttemptResponse
from scheduler.upstream.exchange import MAX_BODY
from tests.fault_server import Visit, always, by_request, fault_server, response, until
from tests.upstream.support import AUTOMATION, ID, client


@cache
def patience() -> float:
    """For how long an answer may hold up the loop: twenty times as long as it takes, here and now, to parse
    10,000 honest automations.
    """
    body = json.dumps([AUTOMATION] * 10_000)
    begun = time.thread_time()
    json.loads(body)
    return 20 * (time.thread_time() - begun)


class LongestWait:
    """How much was computed before the loop got round to a task that ought to run every millisecond. What
    others compute does not count.
    """

    async def __aenter__(self) -> Self:
        gc.collect()
        gc.disable()  # the garbage of hundreds of other tests in this process is no work of the client's
        self.seconds = 0.0
        self._looks = 0
        self._task = asyncio.ensure_future(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.enable()
        before = self._looks
        await until(lambda: self._looks > before)  # one more, for what was computed last
        self._task.cancel()

    async def _measure(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self.seconds = max(self.seconds, time.thread_time() - before)
            self._looks += 1


def test_of_a_body_without_end_only_the_beginning_is_taken() -> None:
    sent = 0

    async def endless(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            await visit.send(b'["' + b"x" * 65536)
            sent += 65536

    async def main() -> AttemptResponse:
        async with fault_server(endless) as server, client(server) as api:
            tracemalloc.start()
            came = await api.run(ID, "key")
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert isinstance(came, AttemptResponse)
            assert peak < 5 * MAX_BODY
            return came

    came = asyncio.run(main())
    assert came.automation is None
    assert came.error == "its body is larger than 8 MiB"
    assert sent < 3 * MAX_BODY


HOSTILE = {
    "nested lists": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 1_000_000,
    "lists": b"[" + b"[]," * (MAX_BODY // 6) + b"[]]",
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(500_000)) + b"}",
    "long numbers": b"[" + (b"9" * 4000 + b",") * 2000 + b"1]",
    "one long number": b"9" * 5_000_000,
    "one long text": b'"' + b"x" * (MAX_BODY - 2) + b'"',
    "half a surrogate": b'{"detail": "\\ud800"}',
    "no UTF-8": b'{"detail": "\xff\xfe"}',
    "control characters": b'{"detail": "' + b"\\u0007\\u001b[31m" * 1000 + b'"}',
    "nothing": b"",
    "not a number": b"NaN",
    "escapes": b'{"prompt": "' + b'\\"' * (MAX_BODY // 2 - 20) + b'"}',
    "space": b" " * (MAX_BODY - 1),
    "a comma and space": b'{"id":1,' + b" " * (MAX_BODY - 10),
    "colons": b'{"id":' * 1000 + b":" * 1_000_000,
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_neither_breaks_nor_holds_up_anything(body: bytes, status: int) -> None:
    """Its status counts all the same: a refusal is a refusal, whatever it is wrapped in."""

    async def main() -> None:
        async with (
            fault_server(always(response(status, body))) as server,
            client(server) as api,
            LongestWait() as longest,
        ):
            came = await api.run(ID, "key")
        assert isinstance(came, AttemptResponse)
        assert came.status == status
        assert came.automation is None
        assert came.error is None or (came.error.isprintable() and len(came.error) <= 300)
        assert longest.seconds < patience()

    asyncio.run(main())


def test_a_long_list_does_not_hold_up_the_loop() -> None:
    def page(offset: int) -> bytes:
        rows = [{**AUTOMATION, "id": str(UUID(int=offset + number))} for number in range(1000)]
        return response(200, {"count": 10_000, "results": rows})

    pages = [
        page(offset) for offset in range(0, 10_000, 1000)
    ]  # made beforehand: the server shares our thread

    async def main() -> None:
        async with (
            fault_server(by_request(lambda _: pages.pop(0))) as server,
            client(server) as api,
            LongestWait() as longest,
        ):
            begun = time.thread_time()
            assert len((await api.read_snapshot()).automations) == 10_000
            whole = time.thread_time() - begun
        assert longest.seconds < whole / 2, "ten pages are ten turns of the loop, and not one"

    asyncio.run(main())


@pytest.mark.parametrize("members", [1, 20])
def test_a_packed_body_is_unpacked_no_further_than_what_is_taken(members: int) -> None:
    bomb = gzip.compress(b" " * 50_000_000 + json.dumps(AUTOMATION).encode()) * members
    behaviour = always(response(200, bomb, {"Content-Encoding": "gzip"}))

    async def main() -> None:
        async with fault_server(behaviour) as server, client(server) as api, LongestWait() as longest:
            tracemalloc.start()
            came = await api.run(ID, "key")
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert isinstance(came, AttemptResponse)
            assert came.error == "its body is larger than 8 MiB"
            assert peak < 4 * MAX_BODY
            assert server.received[0].headers["accept-encoding"] == "identity"
        assert longest.seconds < patience()

    asyncio.run(main())
