"""An API that costs next to nothing: it lists automations, starts runs, and notes when each request for a run
arrived.

``python -m bench.server PORT COUNT CRON [DUE]`` serves; ``GET /arrivals`` gives the instants, ``POST
/forget`` drops them. Only the first DUE automations have CRON, the others one of 1,440 daily schedules each.
``POST /change?cron=CRON`` gives CRON to the first, another schedule to the others, and another name to all of
them, from the next reading of the list on: no reading shows one part of the list before the change and
another one after it. ``GET /seen`` gives the instant at which that reading began, or null.
"""

import asyncio
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Final, cast
from urllib.parse import unquote_plus

import uvloop

OTHERS: Final = 1_440
"""Schedules that the automations share that are not due."""


class Api:
    """The automations and what happened to them."""

    def __init__(self, count: int, cron: str, due: int | None = None) -> None:
        self.cron = cron
        self.due = count if due is None else due
        self.version = 0
        self.seen: float | None = None
        self.next_cron: str | None = None
        self.updated_at = "2026-01-01T00:00:00.000000Z"
        self.ids = [
            str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(count)
        ]  # in no order, like real ones
        self.numbers = {each: number for number, each in enumerate(self.ids)}
        self.arrivals: list[float] = []

    def change(self) -> None:
        """Change every automation, when that was asked for."""
        if self.next_cron is None:
            return
        self.cron, self.version, self.seen, self.next_cron = (
            self.next_cron,
            self.version + 1,
            time.time(),
            None,
        )
        self.updated_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

    def cron_of(self, number: int) -> str:
        if number < self.due:
            return self.cron
        minute = (number + self.version) % OTHERS
        return f"{minute % 60} {minute // 60} 29 2 *"

    def automation(self, automation_id: str, run: bytes = b"null") -> bytes:
        number = self.numbers[automation_id]
        return (
            b'{"id":"%b","name":"automation %b version %d","prompt":"go","repository":"acme/app",'
            b'"github_integration":null,'
            b'"cron_expression":"%b",'
            b'"timezone":"UTC","template_id":null,"enabled":true,"last_run_at":%b,"last_run_status":null,'
            b'"last_task_id":"%b",'
            b'"last_task_run_id":%b,"last_error":null,"created_at":"2026-01-01T00:00:00.000000Z",'
            b'"updated_at":"%b"}'
        ) % (
            automation_id.encode(),
            automation_id[-6:].encode(),
            self.version,
            self.cron_of(number).encode(),
            b"null"
            if run == b"null"
            else b'"%b"' % time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()).encode(),
            automation_id.encode(),
            run,
            self.updated_at.encode(),
        )

    def page(self, query: str) -> bytes:
        asked = dict(part.split("=") for part in query.split("&") if part)
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", 100))
        if offset == 0:
            self.change()
        rows = b",".join(self.automation(each) for each in self.ids[offset : offset + limit])
        return b'{"count":%d,"next":null,"previous":null,"results":[%b]}' % (len(self.ids), rows)

    def answer(self, method: str, path: str) -> bytes:
        route, _, query = path.partition("?")
        if method == "POST" and route.endswith("/run/"):
            self.arrivals.append(time.time())
            return self.automation(route.split("/")[-3], b'"%b"' % str(uuid.uuid4()).encode())
        if route in {"/arrivals", "/seen"}:
            return json.dumps(getattr(self, route[1:])).encode()
        if route == "/change":
            self.next_cron = unquote_plus(query.partition("=")[2])
            return b"{}"
        if route == "/forget":
            self.arrivals.clear()
            return b"{}"
        if route.endswith("/task_automations/"):
            return self.page(query)
        return self.automation(route.split("/")[-2])


class Connection(asyncio.Protocol):
    """One connection; requests one after the other, as clients without pipelining send them."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is none by class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = next(
                (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")),
                0,
            )
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            method, path, _ = head.split("\r\n", 1)[0].split(" ")
            body = self.api.answer(method, path)
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (date, len(body), body)
            )


async def serve(port: int, count: int, cron: str, due: int | None) -> None:
    api = Api(count, cron, due)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(api), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(
        serve(
            int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None
        )
    )
