"""A route: the checks before any work, in the contract's order, and the answer as bytes.

The order of the contract: Accept header (406), key (401), scope (403), rate (429), method (405); then the
view: body (415, 400), existence (404). Every exception becomes an answer here: a bad request, or an error of
the server, has no further effect.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from scheduler.core.errors import Unreachable
from scheduler.localapi.http.errors import ApiError, make_not_found_error, make_parse_error
from scheduler.localapi.http.json_codec import encode
from scheduler.localapi.http.long_work import LongWork
from scheduler.localapi.http.metrics import ApiMetrics
from scheduler.localapi.http.negotiation import JSON, negotiate_indent
from scheduler.localapi.http.rate_limiter import KeyRateLimiter
from scheduler.localapi.keys import ApiKey, ApiKeys, Scope

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """The answer: a status and the JSON value of the body, None for no body.

    ``size`` is the approximate number of characters in the body.
    """

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a method, and the required scope. ``perform`` gets a valid key with the scope."""

    scope: Scope
    perform: Callable[[Request, ApiKey], Awaitable[EndpointResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The ASGI application of a route: ``actions`` by method, in the order of ``Allow``."""

    route: str
    actions: Mapping[str, Action]
    keys: ApiKeys
    rate_limiter: KeyRateLimiter
    metrics: ApiMetrics
    long_work: LongWork

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        clock = asyncio.get_running_loop().time
        began = clock()
        request = Request(scope, receive)
        indent, answer = await self._respond(request)
        headers = {"Allow": ", ".join(self.actions)}
        response = await self.long_work.carry_out(lambda: render(answer, indent, headers), size=answer.size)
        self.metrics.count_request(self.route, request.method, answer.status, clock() - began)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> tuple[int | None, EndpointResponse]:
        indent = None
        try:
            indent = _negotiate(request)
            return indent, await self._perform_action(request)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer
            return indent, make_error_response(error)

    async def _perform_action(self, request: Request) -> EndpointResponse:
        key = await self._authenticate(request)
        action = self.actions.get(request.method)
        if action is not None and not key.may(action.scope):
            raise ApiError(HTTPStatus.FORBIDDEN, f"API key missing required scope '{action.scope}'")
        self.rate_limiter.count_request(key.id)
        if action is None:
            raise ApiError(HTTPStatus.METHOD_NOT_ALLOWED, f'Method "{request.method}" not allowed.')
        return await action.perform(request, key)

    async def _authenticate(self, request: Request) -> ApiKey:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            detail = "Authentication credentials were not provided."
            raise ApiError(HTTPStatus.UNAUTHORIZED, detail, code="not_authenticated")
        key = await self.keys.check(text.strip())
        if key is None:
            detail = "Personal API key found in request Authorization header is invalid."
            raise ApiError(HTTPStatus.UNAUTHORIZED, detail)
        return key


def make_error_response(error: Exception) -> EndpointResponse:
    """Turn an error into an answer. The log describes an unforeseen error, and the answer does not."""
    api_error = _to_api_error(error)
    body = api_error.make_body()
    return EndpointResponse(api_error.status, body, api_error.headers, size=len(api_error.detail))


def _to_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case Unreachable():
            detail = "The API's database could not be reached. Nothing was done; try again later."
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        case ClientDisconnect():
            return make_parse_error("The request ended before its body did.")
    _log.error("request.failed", exc_info=error)
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "A server error occurred.")


def render(answer: EndpointResponse, indent: int | None, headers: Mapping[str, str]) -> Response:
    """Make a response from an answer: JSON in UTF-8, compact unless an indent was requested."""
    headers = {**headers, **(answer.headers or {})}
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return Response(encode(answer.body, indent), answer.status, headers, JSON)


def _negotiate(request: Request) -> int | None:
    # ``?format=`` names a renderer, and JSON is the only renderer.
    if request.query_params.get("format", "json") not in {"json", ""}:
        raise make_not_found_error()
    ranges = request.headers.getlist("accept")  # RFC 9110, 5.3: several lines are a single list
    return negotiate_indent(", ".join(ranges) if ranges else None)
