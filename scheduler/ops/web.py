"""The daemon's pages: metrics, health, readiness, its state as JSON, and one page for people. Read-only.

Nothing here may delay what is due: what has to be evaluated or written out at length is done on another thread, and the ledger is read on
its own.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from operator import itemgetter
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.core.errors import Unreachable
from scheduler.core.model import Automation
from scheduler.core.status import DaemonStatus
from scheduler.core.timetable import Entry
from scheduler.ops import views
from scheduler.ops.gauges import Exposition
from scheduler.ops.hosts import HostCheck
from scheduler.ops.page import POLICY, page
from scheduler.ops.queries import BadQuery, OccurrenceQuery, UpcomingQuery, occurrence_query, upcoming_query

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ON_THE_PAGE: Final = 10

Upcoming = Callable[[str, timedelta, Callable[[Automation], bool] | None], Iterator[tuple[datetime, Entry]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Where the pages have their content from.

    ``idle`` is the seconds since the loop last turned. ``upcoming`` gives what a target has scheduled within a span, of all automations or
    only of some; it is called on the loop, and what it gives is gone through on another thread. ``occurrences`` gives records with the
    keys of ``history --json``, the newest first; it may raise `LedgerUnavailable`.
    """

    status: Callable[[], DaemonStatus]
    idle: Callable[[], float]
    exposition: Exposition
    upcoming: Upcoming
    occurrences: Callable[[OccurrenceQuery], Awaitable[Sequence[views.Json]]]

    async def metrics(self, request: Request) -> Response:
        """``/metrics``."""
        content, content_type = await self.exposition.text(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def healthz(self, _: Request) -> Response:
        """``/healthz``: 200 while the loop makes progress, whatever is overdue."""
        return _verdict(*views.health(self.status(), self.idle()))

    async def readyz(self, _: Request) -> Response:
        """``/readyz``: 200 when everything is there that firing needs."""
        return _verdict(*views.readiness(self.status()))

    async def state(self, _: Request) -> Response:
        """``/api/v1/status``."""
        return JSONResponse(views.status_view(self.status()))

    async def coming(self, request: Request) -> Response:
        """``/api/v1/upcoming``."""
        query = upcoming_query(request.query_params)
        return JSONResponse(views.page_view(await self._fires(query), query))

    async def history(self, request: Request) -> Response:
        """``/api/v1/occurrences``."""
        query = occurrence_query(request.query_params)
        return JSONResponse(views.page_view(await self.occurrences(query.with_one_more()), query))

    async def index(self, _: Request) -> Response:
        """``/``."""
        fires = await self._fires(UpcomingQuery(limit=_ON_THE_PAGE))
        try:
            last = await self.occurrences(OccurrenceQuery(limit=_ON_THE_PAGE))
        except Unreachable:
            last = None
        return HTMLResponse(page(self.status(), fires[:_ON_THE_PAGE], last))

    async def _fires(self, query: UpcomingQuery) -> Sequence[views.Json]:
        only = None if query.automation is None else views.wanted(query.automation)
        of_targets = [_named(target.name, self.upcoming(target.name, query.span, only)) for target in self.status().targets]
        return await asyncio.to_thread(views.fires, heapq.merge(*of_targets, key=itemgetter(0)), query)


def build_app(pages: Pages, *, listen: str) -> ASGIApp:
    """The application, to be served on ``listen``; by other names than that it does not answer."""
    routes = {
        "/": pages.index,
        "/metrics": pages.metrics,
        "/healthz": pages.healthz,
        "/readyz": pages.readyz,
        "/api/v1/status": pages.state,
        "/api/v1/upcoming": pages.coming,
        "/api/v1/occurrences": pages.history,
    }
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in routes.items()],
        middleware=[Middleware(_Headers), Middleware(HostCheck, listen)],
        exception_handlers={HTTPException: _refused, BadQuery: _bad_query, Unreachable: _unavailable},
    )
    app.router.redirect_slashes = False
    return app


class _Headers:
    """Middleware that has every answer say what a browser may do with it: show it, and nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _named(target: str, upcoming: Iterator[tuple[datetime, Entry]]) -> Iterator[tuple[datetime, str, Entry]]:
    return ((instant, target, entry) for instant, entry in upcoming)


def _verdict(good: bool, body: views.Json) -> Response:  # noqa: FBT001  the first of a pair that belongs together
    return JSONResponse(dict(body), HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadQuery)
    return JSONResponse({"error": "the query cannot be answered", "problems": dict(error.problems)}, HTTPStatus.BAD_REQUEST)


async def _unavailable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
