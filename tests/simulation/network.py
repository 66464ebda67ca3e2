"""The network between a daemon and an API: `Link` knows the weather, and `Wire` is the transport under a real
`ApiClient`.

A request that arrives is carried out, whatever becomes of its client meanwhile. What each side really did is
kept: `Sent` and `Shown`.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import httpx

from scheduler.upstream.transport import Transport
from tests.simulation.api import NOT_FOUND, Reply, SimulatedApi
from tests.simulation.draws import Draws
from tests.simulation.script import LIST, RETRIEVE, RUN, Fault, TargetPlan, Weather
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.process import Process

CONNECTION: Final = "connection"
"""Stands for an automation where no automation is meant: connections are opened ahead."""
_CARRIED_OUT: Final = frozenset({Fault.LOST_ANSWER, Fault.RESET_AFTER, Fault.HALF_ANSWER, Fault.LATE})
_NO_RUN: Final = 6
"""Among the garbage: the automation as it is, but that it has never run. Whoever reads that is misled."""
_ADDED: Final = frozenset({Fault.SLOW, Fault.LAGGING, Fault.SHORT_PAGE, Fault.SHIFTING})
"""These come on top of whatever else becomes of a request."""


@dataclass(slots=True)
class Sent:
    """A request to run that left a process."""

    process: int
    automation_id: str
    key: str
    at: datetime
    wall: datetime  # by the process's own clock
    fault: Fault | None = None
    arrived: datetime | None = None  # when it was carried out, or would have been
    status: int | None = None  # of the answer, as far as one came
    ended: datetime | None = None  # when the client heard, or gave up


@dataclass(frozen=True, slots=True)
class Shown:
    """A read that a process was given whole: what it showed as the newest run of each automation. ``lag``:
    how old that was.
    """

    process: int
    endpoint: str
    begun: datetime
    ended: datetime
    lag: float
    runs: "Mapping[str, str | None]"
    whole: bool = False  # of the list: nothing was left for another page
    strangers: bool = (
        False  # of the list: it held objects that nobody can identify, so that an absence says nothing
    )


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it left a process."""

    process: int
    endpoint: str
    at: datetime
    automation_id: str


@dataclass(frozen=True, slots=True)
class Denied:
    """A 404 that a process was given for one automation."""

    process: int
    endpoint: str
    automation_id: str
    begun: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class AskedWait:
    """A 429 that a process was given, and for how many seconds it asked to send nothing."""

    process: int
    at: datetime
    seconds: float


@dataclass(slots=True)
class Fate:
    """What becomes of one request."""

    there: float
    back: float
    draw: random.Random  # for the rest of this request
    weather: Weather | None = None
    lag: float = 0.0
    short: bool = False
    shifting: bool = False

    @property
    def fault(self) -> Fault | None:
        """Its fault, if any."""
        return None if self.weather is None else self.weather.fault


@dataclass
class Link:
    """The way to one target's API."""

    api: SimulatedApi
    plan: TargetPlan
    clock: VirtualClock
    draws: Draws
    weather: list[Weather] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    throttled: list[AskedWait] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    denied: list[Denied] = field(default_factory=list)

    def fate(self, endpoint: str, automation_id: str = "") -> Fate:
        """Draw what becomes of a request."""
        draw = self.draws.make_next(endpoint, automation_id)
        there, back = (self.plan.latency * draw.uniform(0.2, 1.0) for _ in range(2))
        fate = Fate(there, back, draw)
        for each in self.weather:
            if self._is_about(each, endpoint, automation_id) and draw.random() < each.chance:
                self._meet(fate, each)
        return fate

    def _is_about(self, weather: Weather, endpoint: str, automation_id: str) -> bool:
        if endpoint not in weather.endpoints:
            return False
        return not weather.automations or automation_id in self.api.ids_of(weather.automations)

    def _meet(self, fate: Fate, weather: Weather) -> None:
        match weather.fault:
            case Fault.SLOW:
                fate.there += weather.amount * fate.draw.random()
                fate.back += weather.amount * fate.draw.random()
            case Fault.LAGGING:
                fate.lag = max(fate.lag, weather.amount * fate.draw.random())
            case Fault.SHORT_PAGE:
                fate.short = True
            case Fault.SHIFTING:
                fate.shifting = True
            case _:
                fate.weather = fate.weather or weather


class Wire(Transport):
    """One client's connections to it."""

    def __init__(self, link: Link, process: "Process", connect_timeout: float) -> None:
        self._link, self._process, self._connect_timeout = link, process, connect_timeout

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through the weather."""
        self._process.must_live()
        path = request.url.path.rstrip("/").rpartition("task_automations")[2].strip("/").split("/")
        endpoint = RUN if request.method == "POST" else (RETRIEVE if path[0] else LIST)
        fate = self._link.fate(endpoint, path[0])
        if endpoint == RUN:
            return await self._run(path[0], request.headers["Idempotency-Key"], fate)
        self._count(endpoint, path[0])
        await self._leave(fate)
        return await self._read(endpoint, path[0], request, fate)

    def _count(self, endpoint: str, automation_id: str) -> None:
        self._link.requests.append(
            Request(self._process.number, endpoint, self._link.clock.true_now(), automation_id)
        )

    async def warm(self, url: str, connections: int) -> None:  # noqa: ARG002  there is one host
        """Open nothing, and take as long as that takes."""
        self._process.must_live()
        fate = self._link.fate(RUN, CONNECTION)
        await asyncio.sleep(
            self._connect_timeout if fate.fault is Fault.NO_CONNECTION else fate.there * min(connections, 3)
        )

    async def aclose(self) -> None:
        """There is nothing to close."""

    # ------------------------------------------------------------ to run

    async def _run(self, automation_id: str, key: str, fate: Fate) -> httpx.Response:
        clock, process = self._link.clock, self._process
        process.sends()
        self._count(RUN, automation_id)
        await self._leave(fate)
        sent = Sent(process.number, automation_id, key, clock.true_now(), clock.now(), fate.fault)
        self._link.sent.append(sent)
        process.world.leaves(self._link.api.name, sent)
        try:
            reply = await self._answer_to_run(sent, fate)
        finally:
            sent.ended = clock.true_now()
        sent.status = reply.status
        if reply.status == HTTPStatus.NOT_FOUND:
            self._deny(RUN, automation_id, sent.at)
        process.hears()
        return self._response(reply, fate)

    async def _answer_to_run(self, sent: Sent, fate: Fate) -> Reply:
        loop, weather = asyncio.get_running_loop(), fate.weather
        heard: asyncio.Future[Reply] = loop.create_future()
        arrives = fate.weather is None or fate.fault in _CARRIED_OUT or fate.weather.carried_out
        if arrives:
            late = weather.amount if weather is not None and weather.fault is Fault.LATE else 0.0
            loop.call_later(fate.there + late, self._carry_out, sent, heard, fate)
        elif fate.fault in {Fault.STATUS, Fault.GARBAGE}:
            loop.call_later(fate.there + fate.back, _set, heard, Reply(200, b""))
        if fate.fault is Fault.RESET_BEFORE:
            await asyncio.sleep(fate.there)
            raise httpx.RemoteProtocolError("the server hung up without a whole answer")
        if fate.fault in {Fault.LOST_ANSWER, Fault.LOST_REQUEST}:
            await loop.create_future()  # nobody ever hears
        reply = await heard
        if fate.fault is Fault.RESET_AFTER:
            raise httpx.RemoteProtocolError("the server hung up without a whole answer")
        return self._spoilt(reply, fate, sent.automation_id)

    def _carry_out(self, sent: Sent, heard: "asyncio.Future[Reply]", fate: Fate) -> None:
        sent.arrived = self._link.clock.true_now()

        def then(reply: Reply) -> None:
            asyncio.get_running_loop().call_later(fate.back, _set, heard, reply)

        self._link.api.run(sent.automation_id, sent.key, then)

    # ------------------------------------------------------------ to read

    async def _read(
        self, endpoint: str, automation_id: str, request: httpx.Request, fate: Fate
    ) -> httpx.Response:
        link, begun = self._link, self._link.clock.true_now()
        if fate.fault in {Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.LATE}:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(fate.there)
        if fate.fault in {Fault.RESET_BEFORE, Fault.RESET_AFTER}:
            raise httpx.RemoteProtocolError("the server hung up without a whole answer")
        reply = self._looked(endpoint, automation_id, request, fate)
        await asyncio.sleep(fate.back)
        reply = self._spoilt(reply, fate, automation_id)
        if (
            fate.fault is Fault.GARBAGE
            and endpoint == RETRIEVE
            and fate.weather is not None
            and fate.weather.amount == _NO_RUN
        ):
            link.shown.append(
                Shown(
                    self._process.number,
                    endpoint,
                    begun,
                    link.clock.true_now(),
                    fate.lag,
                    {automation_id: None},
                )
            )
        if reply.shows is not None and fate.fault is None:
            ended, strangers = link.clock.true_now(), endpoint == LIST and reply.strangers
            link.shown.append(
                Shown(
                    self._process.number,
                    endpoint,
                    begun,
                    ended,
                    fate.lag,
                    reply.shows,
                    reply.whole,
                    strangers,
                )
            )
        if reply.status == HTTPStatus.NOT_FOUND and endpoint == RETRIEVE:
            self._deny(RETRIEVE, automation_id, begun)
        return self._response(reply, fate)

    def _deny(self, endpoint: str, automation_id: str, begun: datetime) -> None:
        self._link.denied.append(
            Denied(self._process.number, endpoint, automation_id, begun, self._link.clock.true_now())
        )

    def _looked(self, endpoint: str, automation_id: str, request: httpx.Request, fate: Fate) -> Reply:
        api = self._link.api
        if endpoint == RETRIEVE:
            return api.retrieve(automation_id, lag=fate.lag)
        if fate.shifting:
            self._shift(fate.draw)
        query = {name: int(values[0]) for name, values in parse_qs(request.url.query.decode()).items()}
        return api.page(query["offset"], query["limit"], lag=fate.lag, short=fate.short)

    def _shift(self, draw: random.Random) -> None:
        there = [each for each in self._link.api.shapes if self._link.api.show(each) is not None]
        if there:
            self._link.api.edit(draw.choice(there), name=f"name {draw.randrange(9)}")

    # ------------------------------------------------------------ both

    async def _leave(self, fate: Fate) -> None:
        if fate.fault is Fault.REFUSED:
            await asyncio.sleep(0.001)
            raise httpx.ConnectError("connection refused")
        if fate.fault is Fault.NO_CONNECTION:
            await asyncio.sleep(self._connect_timeout)
            raise httpx.ConnectTimeout("no connection within connect_timeout")

    def _spoilt(self, reply: Reply, fate: Fate, automation_id: str) -> Reply:
        weather = fate.weather
        match fate.fault:
            case Fault.STATUS if weather is not None:
                return Reply(weather.status, _words(weather.status))
            case Fault.GARBAGE if weather is not None:
                return Reply(200, _garbage(int(weather.amount), self._link.api.show(automation_id)))
        return reply

    def _response(self, reply: Reply, fate: Fate) -> httpx.Response:
        headers = [("date", self._link.api.date), ("content-type", "application/json")]
        weather = fate.weather
        if weather is not None and weather.fault is Fault.STATUS:
            if weather.retry_after is not None:
                headers.append(("retry-after", weather.retry_after))
            if weather.status == 302:
                headers.append(("location", "https://elsewhere.example/"))
            if weather.status == 429:
                asked = (
                    float(weather.retry_after)
                    if weather.retry_after and weather.retry_after.isdigit()
                    else 60.0
                )
                self._link.throttled.append(
                    AskedWait(self._process.number, self._link.clock.true_now(), asked)
                )
        return httpx.Response(
            reply.status, headers=headers, stream=_Body(reply.body, cut=fate.fault is Fault.HALF_ANSWER)
        )


class _Body(httpx.AsyncByteStream):
    """A body that comes at once, or half of it and then no more."""

    def __init__(self, content: bytes, *, cut: bool) -> None:
        self._content, self._cut = content, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._cut:
            yield self._content[: len(self._content) // 2]
            raise httpx.RemoteProtocolError("the answer was cut off")
        yield self._content


def _set(heard: "asyncio.Future[Reply]", reply: Reply) -> None:
    if not heard.done():
        heard.set_result(reply)


def _words(status: int) -> bytes:
    if status == 404:
        return NOT_FOUND.body
    detail = "API key missing required scope 'task:write'" if status == 403 else f"It answered {status}."
    return json.dumps({"type": "error", "code": "error", "detail": detail, "attr": None}).encode()


def _garbage(which: int, document: "dict[str, object] | None") -> bytes:
    """A body with status 200 that says nothing, or something wrong."""
    shown = document or {}
    bodies = (
        b"<html><body>Welcome!</body></html>",
        b"",
        b"[]",
        b"{",
        b'{"count": -1, "results": []}',
        b'{"count": 1, "results": [null]}',
        json.dumps(shown | {"last_task_run_id": None}).encode(),
        json.dumps(shown | {"id": "00000000-0000-0000-0000-000000000000"}).encode(),
        b"\xff\xfe\x00{}",
        b"null",
    )
    return bodies[which % len(bodies)]


GARBAGE: Final = 10
"""So many kinds of it there are."""
