"""`ApiClient`: the six calls of one target, with results for the daemon.

A request goes from here directly to the transport. httpx's client layer (cookies, redirects, hooks, merged
defaults) would cost more than the transport, and this client needs none of its features. Every request except
`run` waits in the budget before the request is built. `run` sends at once, so an attempt in the ledger leaves
at its recorded instant. The place of a `run` comes from `reserve`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final, Self

import httpx  # noqa: TID251  this package talks to the API

from scheduler import __version__
from scheduler.core.clock_offset import ClockOffset, sample_offset
from scheduler.core.errors import UpstreamError
from scheduler.core.events import RequestEnded
from scheduler.core.model import Automation, Snapshot, parse_automation, to_canonical_id
from scheduler.core.request_budget import Purpose, compute_need
from scheduler.core.response import AttemptAnswer
from scheduler.core.status import RunOutputTail
from scheduler.upstream import answers
from scheduler.upstream.budget import Budget, BudgetReservation
from scheduler.upstream.document_list import list_documents
from scheduler.upstream.documents import (
    Undecodable,
    decode_whole,
    read_automation,
    read_first_row,
    read_page,
    read_whole_page,
)
from scheduler.upstream.exchange import Failure, Reply, exchange
from scheduler.upstream.fields import AutomationEdit, NewAutomation
from scheduler.upstream.snapshot import ListPage, PageTooLarge, SnapshotReader, to_page
from scheduler.upstream.target import ClientClock, TargetConfig
from scheduler.upstream.tls import make_tls_context
from scheduler.upstream.transport import PooledTransport, Transport

Document = dict[str, object]
"""An automation as the API shows it, with all its fields."""
ReadBody = Callable[[Reply], Awaitable[object]]
"""Reads the JSON of a success. Raises `Undecodable`."""


async def _read_whole(reply: Reply) -> object:
    return decode_whole(reply)


USER_AGENT: Final = f"task-automation-scheduler/{__version__}"
AT_ONCE: Final = 8
"""Largest number of requests at the same time, besides fires and the one list request of a poll."""
_RECHECK_INTERVAL: Final = 1.0
"""Longest wait, in seconds, before `ApiClient.admit` asks the budget again."""
UNSTATED_WAIT: Final = 10.0
"""Seconds for which a 429 without ``Retry-After`` stops the target."""


class ApiClient:
    """The client of one target.

    A client is made outside or inside of an event loop, used in one loop, and closed there: ``async with
    ApiClient(…) as api``. An unusable ``ca_file`` raises `ConfigurationError`. ``observe`` receives every
    request that ended. ``transport`` replaces the connections of this machine, and is closed with the client.
    """

    def __init__(
        self,
        config: TargetConfig,
        clock: ClientClock,
        observe: Callable[[RequestEnded], None] = lambda _: None,
        *,
        transport: Transport | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._observe = observe
        self._transport = transport or _make_transport(config)
        self._budget = Budget(
            per_minute=config.requests_per_minute, per_hour=config.requests_per_hour, clock=clock
        )
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._offset: ClockOffset | None = None
        self._snapshots = SnapshotReader(self._read_page, seconds=clock.boottime)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def retire(self) -> None:
        """Close all connections when no request is under way, or at once on cancellation."""
        try:
            await self._idle.wait()
        finally:
            await self.aclose()

    def continue_from(self, predecessor: "ApiClient") -> None:
        """Continue the budget of another client of the same project, under this client's limits.

        Requests already sent count, and a wait goes on. Requests that wait at the predecessor wait in the
        same budget. Call this method before the first request.
        """
        self._budget = predecessor._budget  # noqa: SLF001  its own kind
        self._turns = predecessor._turns  # noqa: SLF001  the same
        self._offset = predecessor._offset  # noqa: SLF001  the same
        self._snapshots.continue_from(predecessor._snapshots)  # noqa: SLF001  the same
        self._budget.set_limits(
            per_minute=self._config.requests_per_minute, per_hour=self._config.requests_per_hour
        )

    @property
    def clock_offset(self) -> tuple[float, float] | None:
        """The clock offset in seconds and its largest error, or None before the first ``Date``."""
        return (self._offset.seconds, self._offset.margin) if self._offset else None

    def note_clock_step(self) -> None:
        """Forget the clock offset after a clock step of this machine.

        The next answer gives the new offset.
        """
        self._offset = None

    # ---------------------------------------------------------------- firing

    def reserve(self) -> BudgetReservation | None:
        """Reserve a place in the budget for one attempt, or return None when no place is free now."""
        return self._budget.reserve()

    def estimate_wait(self) -> float:
        """Return the seconds until `reserve` may give a place; 0 when a place is free now."""
        return self._budget.estimate_wait()

    @property
    def blocked_until(self) -> float:
        """The end of the wait asked for by the API, on the clock that counts suspend; -inf without a wait."""
        return self._budget.blocked_until

    def resume_wait(self, seconds: float) -> None:
        """Send no request for ``seconds`` seconds from now on, in place of every earlier wait.

        The API asked an earlier process for this wait.
        """
        self._budget.resume_wait(seconds)

    def expect(self, *, poll_interval: float, polls: float, readings: float, at_once: int) -> None:
        """Keep a reserve in the budget for these polls and readings per second.

        ``at_once`` automations are read at the same time.
        """
        pages = self._snapshots.pages
        need = compute_need(
            poll_interval=poll_interval, polls=polls, pages=pages, readings=readings, at_once=at_once
        )
        self._budget.expect(need)

    async def admit(self) -> None:
        """Wait for a place in the budget and use the place.

        `run` must follow at once. The wait can be cancelled.
        """
        while True:
            place = self.reserve()
            if place is not None:
                place.use()
                return
            await asyncio.sleep(min(max(self.estimate_wait(), 0.001), _RECHECK_INTERVAL))

    async def run(self, automation_id: str, idempotency_key: str) -> AttemptAnswer:
        """Send one attempt now.

        Failures of the network or the API are results and are not raised. Raise `InvalidAutomation` for a
        text that is no id.
        """
        url = f"{self._config.locate_automation(automation_id)}run/"
        request = self._make_request("POST", url, {"Idempotency-Key": idempotency_key})
        with self._count_use():
            result = await self._exchange("run", request)
        return await answers.to_attempt_response(result, now=self._clock.now(), clean=self._clean)

    async def warm(self, connections: int) -> None:
        """Open up to ``connections`` connections, as far as possible within ``max_in_flight``.

        Send no request.
        """
        with self._count_use():
            await self._transport.warm(self._config.collection, min(connections, self._config.max_in_flight))

    # ---------------------------------------------------------------- reading

    async def read_snapshot(self) -> Snapshot:
        """Return a verified reading of all automations. Raise `UpstreamError`."""
        with self._count_use():
            snapshot = await self._snapshots.read()
        return replace(snapshot, clock_offset=self._offset.seconds if self._offset else None)

    async def list_documents(self) -> list[Document]:
        """Return all automations with all their fields, see `list_documents`. Raise `UpstreamError`."""

        async def read_page(*, offset: int, limit: int) -> ListPage:
            return await self._read_page(offset=offset, limit=limit, read=read_whole_page)

        return await list_documents(read_page)

    async def retrieve(self, automation_id: str) -> Automation | None:
        """Return one automation, or None for a 404.

        Raise `UpstreamError`, and `InvalidAutomation` for a text that is no id and for an object that is no
        automation.
        """
        url = self._config.locate_automation(automation_id)
        document = await self._retrieve(url, read_automation)
        if document is None:
            return None
        automation = parse_automation(document)
        if automation.id != to_canonical_id(automation_id):
            raise UpstreamError(f"GET {url} answered with another automation, {automation.id}")
        return automation

    async def read_document(self, automation_id: str) -> Document | None:
        """Return one automation with all its fields, or None for a 404.

        Raise `UpstreamError`, and `InvalidAutomation` for a text that is no id.
        """
        return await self._retrieve(self._config.locate_automation(automation_id))

    async def read_run_output(self, run_id: str) -> RunOutputTail | None:
        """Return the end of a run's output, or None for a 404.

        Only the embedded API has the output of runs. Raise `UpstreamError`, and `InvalidAutomation` for a
        text that is no id.
        """
        document = await self._retrieve(self._config.locate_run_output(run_id))
        if document is None:
            return None
        size, text = document.get("size"), document.get("output")
        return RunOutputTail(size if isinstance(size, int) else None, text if isinstance(text, str) else None)

    async def _retrieve(self, url: str, read: ReadBody = _read_whole) -> Document | None:
        """Return one object, read by ``read``, or None for a 404."""
        request = self._make_request("GET", url)
        result = await self._send_in_turn("retrieve", request)
        if isinstance(result, Reply) and result.status == HTTPStatus.NOT_FOUND:
            return None
        return await self._decode_document(result, request, read)

    # ---------------------------------------------------------------- writing

    async def create(self, fields: NewAutomation) -> Document:
        """Create an automation and return the API's view. Raise `UpstreamError`."""
        return await self._write("create", "POST", self._config.collection, fields)

    async def update(self, automation_id: str, fields: AutomationEdit) -> Document:
        """Change an automation and return the API's view.

        Raise `UpstreamError`, and `InvalidAutomation` for a text that is no id.
        """
        return await self._write("update", "PATCH", self._config.locate_automation(automation_id), fields)

    async def _write(self, endpoint: str, method: str, url: str, fields: Mapping[str, object]) -> Document:
        request = self._make_request(method, url, body=fields)
        return await self._decode_document(await self._send_in_turn(endpoint, request), request)

    async def delete(self, automation_id: str) -> None:
        """Remove an automation.

        Raise `UpstreamError`, with status 404 for a missing automation, and `InvalidAutomation` for a text
        that is no id.
        """
        request = self._make_request("DELETE", self._config.locate_automation(automation_id))
        self._require_success(await self._send_in_turn("delete", request), request)

    # ---------------------------------------------------------------- one request

    def _make_request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, object] | None = None,
    ) -> httpx.Request:
        all_headers = {
            "Authorization": f"Bearer {self._config.key.reveal()}",
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # the size of an unpacked body is the size of the answer
            **(headers or {}),
            **({} if body is None else {"Content-Type": "application/json"}),
        }
        content = None if body is None else json.dumps(body).encode()
        return httpx.Request(method, _parse_url(url), headers=all_headers, content=content)

    @contextmanager
    def _count_use(self) -> Iterator[None]:
        """Count a use of the client during the block."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _send_in_turn(self, endpoint: str, request: httpx.Request) -> Reply | Failure:
        """Send a request that can wait. The place in the budget comes last."""
        with self._count_use():
            async with self._turns:
                await self._budget.wait_for_place(Purpose.READING)
                return await self._exchange(endpoint, request)

    async def _exchange(self, endpoint: str, request: httpx.Request) -> Reply | Failure:
        """Send a request. Learn from its answer the clock offset, and the wait after a 429."""
        sent, began = self._clock.now(), self._clock.boottime()
        result = await exchange(self._transport, request, seconds=self._config.request_timeout)
        now = self._clock.now()
        if isinstance(result, Reply):
            self._learn_offset(result, sent, now)
            if result.status == HTTPStatus.TOO_MANY_REQUESTS:
                asked = answers.read_retry_after(result, now)
                self._budget.block(UNSTATED_WAIT if asked is None else asked)
        seconds = self._clock.boottime() - began
        ended = RequestEnded(target=self._config.name, endpoint=endpoint, code=result.code, seconds=seconds)
        self._observe(ended)
        return result

    def _learn_offset(self, reply: Reply, sent: datetime, received: datetime) -> None:
        date = answers.read_date(reply)
        sample = date and sample_offset(date, sent=sent, received=received)
        if sample:
            self._offset = self._offset.narrow(sample) if self._offset else sample

    # ---------------------------------------------------------------- answers

    async def _read_page(self, *, offset: int, limit: int, read: ReadBody = read_page) -> ListPage:
        with self._count_use():
            # without a turn: readings that hang must not delay a poll
            await self._budget.wait_for_place(Purpose.POLL, 1 if offset else self._snapshots.pages)
            begun_at, begun = self._clock.now(), self._clock.boottime()
            request = self._make_request("GET", f"{self._config.collection}?limit={limit}&offset={offset}")
            result = await self._exchange("list", request)
        if isinstance(result, Reply) and result.too_large and answers.is_success(result):
            raise PageTooLarge(await read_first_row(result) if limit == 1 else None)
        value = await self._decode(result, request, read, on_list=True)
        size = len(result.body or b"") if isinstance(result, Reply) else 0
        return to_page(value, size=size, begun_at=begun_at, begun=begun)

    async def _decode_document(
        self, result: Reply | Failure, request: httpx.Request, read: ReadBody = _read_whole
    ) -> Document:
        value = await self._decode(result, request, read)
        if not isinstance(value, dict):
            raise UpstreamError(
                f"{_format_request(request)} answered with no object but {type(value).__name__}"
            )
        return value

    async def _decode(
        self, result: Reply | Failure, request: httpx.Request, read: ReadBody, *, on_list: bool = False
    ) -> object:
        """Return the content of a success, read by ``read``. Raise `UpstreamError` for any other answer."""
        reply = self._require_success(result, request, on_list=on_list)
        try:
            return await read(reply)
        except Undecodable as error:
            why = self._clean(str(error))
        raise UpstreamError(
            f"{_format_request(request)} answered HTTP {reply.status}, but {why}", status=reply.status
        )

    def _require_success(
        self, result: Reply | Failure, request: httpx.Request, *, on_list: bool = False
    ) -> Reply:
        """Return an answer with success. Raise `UpstreamError` for any other result."""
        if isinstance(result, Reply) and answers.is_success(result):
            return result
        raise answers.to_error(
            result,
            request=_format_request(request),
            target=self._config.name,
            on_list=on_list,
            now=self._clock.now(),
            clean=self._clean,
        )

    def _clean(self, text: str) -> str:
        return answers.clean_text(text, secret=self._config.key.reveal())


def _make_transport(config: TargetConfig) -> Transport:
    # Shorter than the whole request, to tell a connection that is never made from an answer that never comes.
    connect_timeout = min(config.connect_timeout, 0.9 * config.request_timeout)
    return PooledTransport(
        tls=make_tls_context(config.ca_file), connect_timeout=connect_timeout, proxy=config.proxy
    )


@lru_cache(maxsize=10_000)
def _parse_url(url: str) -> httpx.URL:
    """Return an address as an httpx URL, from a cache.

    Parsing takes as long as the rest of a request, and automations fire again.
    """
    return httpx.URL(url)


def _format_request(request: httpx.Request) -> str:
    """Return a request in the form that errors use."""
    return f"{request.method} {request.url.copy_with(query=None)}"
