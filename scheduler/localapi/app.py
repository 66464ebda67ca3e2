"""The ASGI application: which path leads where.

No middleware and no framework's error pages: every answer of the API, also to a path that there is not, is the contract's own.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.localapi.endpoint import Action, Endpoint, make_error_response, render
from scheduler.localapi.errors import make_unknown_route_error
from scheduler.localapi.keys import ApiKeys
from scheduler.localapi.long_work import LongWork
from scheduler.localapi.metrics import ApiMetrics
from scheduler.localapi.rate_limiter import KeyRateLimiter
from scheduler.localapi.views import Views

COLLECTION: Final = "/api/projects/:project_id/task_automations/"
RUN_OUTPUT: Final = "/api/projects/:project_id/task_runs/:id/output/"
"""The one route that the hosted resource does not have."""
OPENAPI: Final = Path(__file__).with_name("openapi.yaml")
"""The contract, for programs; served to whoever asks, as a whole: ranges of a file would be one more thing to parse."""
_YAML: Final = "application/yaml"  # RFC 9512


class _Segment(StringConvertor):
    """A part of a path as the framework's router takes it: no id has a dot."""

    regex = "[^/.]+"


register_url_convertor("segment", _Segment())


class _ExactRoute(Route):
    """A route that takes its path and nothing more. Starlette's own also takes a line break at the end, which ``$`` passes over."""

    def __init__(self, path: str, endpoint: ASGIApp) -> None:
        super().__init__(path, endpoint)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def build_app(
    views: Views,
    keys: ApiKeys,
    throttle: KeyRateLimiter,
    metrics: ApiMetrics,
    *,
    long_work: LongWork,
    healthy: Callable[[], Awaitable[Mapping[str, bool]]],
    sizes: Callable[[], Awaitable[Mapping[str, int]]],
) -> ASGIApp:
    """Build the application. ``healthy`` says of each part whether it works, ``sizes`` how many bytes it takes."""

    def make_routes(route: str, actions: dict[str, Action]) -> list[BaseRoute]:
        path = route.replace(":project_id", "{project:segment}").replace(":id", "{id:segment}")
        app = Endpoint(route, actions, keys, throttle, metrics, long_work=long_work)
        return [_ExactRoute(path, app), _ExactRoute(path.rstrip("/"), app)]  # with its slash and without

    contract = OPENAPI.read_bytes()

    async def get_health(_: Request) -> Response:
        parts = await healthy()
        status = HTTPStatus.OK if all(parts.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(dict(parts), status)

    async def get_metrics(request: Request) -> Response:
        metrics.set_health(await healthy())
        metrics.set_sizes(await sizes())
        content, content_type = metrics.format_metrics(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def get_contract(_: Request) -> Response:
        return Response(contract, headers={"Content-Type": _YAML})

    async def respond_unknown_route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            metrics.count_request("unmatched", scope["method"], HTTPStatus.NOT_FOUND, 0)
            await render(make_error_response(make_unknown_route_error()), None, {})(scope, receive, send)

    return Router(
        [
            *make_routes(COLLECTION, views.make_collection_actions()),
            *make_routes(COLLECTION + ":id/", views.make_item_actions()),
            *make_routes(COLLECTION + ":id/run/", views.make_run_actions()),
            *make_routes(RUN_OUTPUT, views.make_output_actions()),
            Route("/healthz", get_health),
            Route("/metrics", get_metrics),
            Route("/openapi.yaml", get_contract),
        ],
        redirect_slashes=False,
        default=respond_unknown_route,
    )
