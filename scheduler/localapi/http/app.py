"""The ASGI application: the routes and their endpoints.

No middleware and no framework's error pages: every answer of the API, also for an unknown path, follows the
contract.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.localapi.http.endpoint import Action, Endpoint, make_error_response, render
from scheduler.localapi.http.errors import make_not_found_error
from scheduler.localapi.http.metrics import ApiMetrics
from scheduler.localapi.http.rate_limiter import KeyRateLimiter
from scheduler.localapi.http.views import Views
from scheduler.localapi.keys import ApiKeys

OPENAPI: Final = Path(__file__).with_name("openapi.yaml")
"""The contract, for programs, served to everybody and as a whole: no ranges have to be parsed."""
_YAML: Final = "application/yaml"  # RFC 9512


class _ExactRoute(Route):
    """A route for exactly the path, with a slash at the end and without.

    Segments are as in the framework's router: no id has a dot. With ``$``, Starlette's route also accepts a
    line break at the end.
    """

    def __init__(self, path: str, endpoint: ASGIApp) -> None:
        super().__init__(path.rstrip("/"), endpoint)
        pattern = self.path_regex.pattern.replace("[^/]+", "[^/.]+").removesuffix("$")
        self.path_regex = re.compile(pattern + r"/?\Z")


def build_app(
    views: Views,
    keys: ApiKeys,
    rate_limiter: KeyRateLimiter,
    metrics: ApiMetrics,
    *,
    healthy: Callable[[], Awaitable[Mapping[str, bool]]],
    sizes: Callable[[], Awaitable[Mapping[str, int]]],
) -> ASGIApp:
    """Build the application. ``healthy`` returns whether each part works, ``sizes`` the parts' bytes."""

    def make_route(route: str, actions: dict[str, Action]) -> Route:
        path = route.replace(":project_id", "{project}").replace(":id", "{id}")
        return _ExactRoute(path, Endpoint(route, actions, keys, rate_limiter, metrics, views.long_work))

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
            answer = make_error_response(make_not_found_error("Endpoint not found."))
            await render(answer, None, {})(scope, receive, send)

    return Router(
        [
            *(make_route(*item) for item in views.make_actions().items()),
            Route("/healthz", get_health),
            Route("/metrics", get_metrics),
            Route("/openapi.yaml", get_contract),
        ],
        redirect_slashes=False,
        default=respond_unknown_route,
    )
