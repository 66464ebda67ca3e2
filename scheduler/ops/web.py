"""The daemon's pages: metrics, health, readiness, its state as JSON, and those for people (`scheduler.ops.page`). Read-only.

Nothing here may delay what is due: what has to be evaluated or written out at length is done on another thread, the ledger is read on its
own, and everything but health and readiness waits while the daemon fires (`Workbench`).
"""

import heapq
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from operator import itemgetter
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.core.errors import Unreachable
from scheduler.core.timetable import Entry
from scheduler.ops import views
from scheduler.ops.content import Content
from scheduler.ops.hosts import HostCheck
from scheduler.ops.page.assets import ROOT
from scheduler.ops.page.site import Site
from scheduler.ops.queries import BadQuery, UpcomingQuery, occurrence_query, upcoming_query
from scheduler.ops.readiness import Readiness, read_ledger

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Pages(Content):
    """The pages for programs."""

    __slots__ = ()

    async def metrics(self, request: Request) -> Response:
        """``/metrics``."""
        content, content_type = await self.exposition.text(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def healthz(self, _: Request) -> Response:
        """``/healthz``: 200 while the loop makes progress, whatever is overdue."""
        return _verdict(*views.health(self.status(), self.idle()))

    async def state(self, _: Request) -> Response:
        """``/api/v1/status``."""
        reading = await read_ledger(self)
        status = self.status()
        waits = {target.name: await self.waits(target.name) for target in status.targets}
        return JSONResponse(views.status_view(status, reading.failing, waits, reading.warnings(status)))

    async def coming(self, request: Request) -> Response:
        """``/api/v1/upcoming``."""
        query = upcoming_query(request.query_params)
        return JSONResponse(views.page_view(await self._fires(query), query))

    async def history(self, request: Request) -> Response:
        """``/api/v1/occurrences``."""
        query = occurrence_query(request.query_params)
        await self.workbench.wait()
        return JSONResponse(views.page_view(await self.occurrences(query.with_one_more()), query))

    async def _fires(self, query: UpcomingQuery) -> Sequence[views.Json]:
        only = None if query.automation is None else views.wanted(query.automation)
        of_targets = [_named(target.name, self.upcoming(target.name, query.span, only)) for target in self.status().targets]
        return await self.workbench.make(views.fires, heapq.merge(*of_targets, key=itemgetter(0)), query)


def build_app(pages: Pages, *, listen: str) -> ASGIApp:
    """The application, to be served on ``listen``; by other names than that it does not answer."""
    site = Site(pages)
    routes = {
        "/": site.index,
        "/occurrences": site.occurrences,
        "/automations": site.automations,
        "/automations/{target}/{automation_id}": site.automation,
        f"{ROOT}{{name}}": site.asset,
        "/metrics": pages.metrics,
        "/healthz": pages.healthz,
        "/readyz": Readiness(pages).page,
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
    """Middleware that has every answer say what a browser may do with it: show it, and nothing else, unless the answer itself says more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
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
