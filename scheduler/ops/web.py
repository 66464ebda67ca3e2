"""The routes of the daemon: metrics, health, readiness, state as JSON, and the pages for people. Read-only.

No request may delay a due occurrence. A worker thread (`PageWorker`) evaluates schedules and writes long
answers, and the ledger has a thread of its own. While the daemon fires, requests wait for the worker or the
ledger. Only health, readiness and the files of a page are served at once. `scheduler.ops.page` makes the
pages for people.
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

from scheduler.core.automation_filter import make_automation_filter
from scheduler.core.errors import Unreachable
from scheduler.core.timetable import TimetableEntry
from scheduler.ops import views
from scheduler.ops.gauges import render_metrics
from scheduler.ops.hosts import HostCheck
from scheduler.ops.page.assets import ROOT as ASSETS
from scheduler.ops.page.findings import describe_warnings
from scheduler.ops.page.site import Site
from scheduler.ops.page_sources import PageSources
from scheduler.ops.queries import BadQuery, UpcomingQuery, parse_occurrence_query, parse_upcoming_query
from scheduler.ops.readiness import Readiness, read_ledger

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ProgramRoutes(PageSources):
    """The routes for programs: metrics, health and JSON. The inherited fields are the sources of the data."""

    __slots__ = ()

    async def serve_metrics(self, request: Request) -> Response:
        """Serve ``/metrics``: all metrics, in the format that the client accepts."""
        content, content_type = await render_metrics(self, request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def serve_health(self, _: Request) -> Response:
        """Serve ``/healthz``: 200 while the event loop makes progress, 503 otherwise.

        Overdue occurrences do not change the status.
        """
        alive, body = views.make_health(self.status(), self.idle_seconds())
        return JSONResponse(dict(body), HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE)

    async def serve_status(self, _: Request) -> Response:
        """Serve ``/api/v1/status``: the state of the daemon, its targets and the waits of occurrences."""
        ledger = await read_ledger(self)
        status = self.status()
        waits = {name: await target.waits.make_status() for name, target in self.targets().items()}
        warnings = describe_warnings(status, ledger)
        return JSONResponse(views.make_status(status, ledger.failing, waits, warnings))

    async def serve_upcoming(self, request: Request) -> Response:
        """Serve ``/api/v1/upcoming``: the fire times within a span, of all automations or of some."""
        query = parse_upcoming_query(request.query_params)
        return JSONResponse(views.make_page(await self._list_fires(query), query))

    async def serve_occurrences(self, request: Request) -> Response:
        """Serve ``/api/v1/occurrences``: the recorded occurrences of the query."""
        query = parse_occurrence_query(request.query_params)
        await self.worker.wait_until_idle()  # while the daemon fires, the ledger is for the daemon
        records = await self.occurrences(query.extend_by_one())  # one more shows whether there are more
        return JSONResponse(views.make_page(records, query))

    async def _list_fires(self, query: UpcomingQuery) -> Sequence[views.Json]:
        """Return the fire times of all targets in order of time.

        The worker reads the iterators, and so evaluates the schedules.
        """
        chosen = None if query.automation is None else make_automation_filter(query.automation)
        by_target = [
            _add_target(name, target.iterate_upcoming(query.span, chosen))
            for name, target in self.targets().items()
        ]
        return await self.worker.run(views.make_fires, heapq.merge(*by_target, key=itemgetter(0)), query)


def build_app(programs: ProgramRoutes, *, listen: str) -> ASGIApp:
    """Return the application with all routes.

    Requests for foreign host names are refused (`HostCheck`). The names of the daemon follow from its address
    ``listen``.
    """
    site = Site(programs)
    routes = {
        "/": site.show_overview,
        "/occurrences": site.show_occurrences,
        "/automations": site.show_automations,
        "/automations/{target}/{automation_id}": site.show_automation,
        f"{ASSETS}{{name}}": site.serve_asset,
        "/metrics": programs.serve_metrics,
        "/healthz": programs.serve_health,
        "/readyz": Readiness(programs).serve,
        "/api/v1/status": programs.serve_status,
        "/api/v1/upcoming": programs.serve_upcoming,
        "/api/v1/occurrences": programs.serve_occurrences,
    }
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in routes.items()],
        middleware=[Middleware(_HeaderDefaults), Middleware(HostCheck, listen)],
        exception_handlers={
            HTTPException: _answer_http_error,
            BadQuery: _answer_bad_query,
            Unreachable: _answer_unreachable,
        },
    )
    app.router.redirect_slashes = False  # an unknown path is a 404, with a slash at its end too
    return app


class _HeaderDefaults:
    """Middleware for security headers: a browser may show an answer, and loads or submits nothing else.

    A header that the answer already has is not overwritten.
    """

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


def _add_target(
    target: str, upcoming: Iterator[tuple[datetime, TimetableEntry]]
) -> Iterator[tuple[datetime, str, TimetableEntry]]:
    return ((instant, target, entry) for instant, entry in upcoming)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _answer_bad_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadQuery)
    body = {"error": "the query cannot be answered", "problems": dict(error.problems)}
    return JSONResponse(body, HTTPStatus.BAD_REQUEST)


async def _answer_unreachable(_: Request, error: Exception) -> Response:
    """Answer 503: the ledger cannot be read now."""
    return JSONResponse({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
