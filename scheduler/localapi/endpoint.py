"""One route: the checks that come before any work, in the contract's order, and the answer as bytes.

The order is the contract's: Accept header (406), key (401), scope (403), rate (429), method (405); then the view: body (415, 400),
existence (404). Whatever is raised ends here as an answer, so that one bad request, or a fault of ours, is never more than that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from scheduler.core.errors import Unreachable
from scheduler.localapi.errors import (
    ApiError,
    method_not_allowed,
    missing_scope,
    no_credentials,
    not_found,
    server_error,
    unavailable,
    unreadable,
    wrong_key,
)
from scheduler.localapi.json_answer import encode
from scheduler.localapi.keys import Key, Keys, Scope
from scheduler.localapi.long_work import LongWork
from scheduler.localapi.metrics import ApiMetrics
from scheduler.localapi.negotiation import JSON, accepted_indent
from scheduler.localapi.throttle import Throttle

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is good and has the scope."""

    request: Request
    key: Key


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a status, and the JSON value of the body, None for no body; ``size`` is about how many characters that has."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """What a method does, and the scope that it needs."""

    scope: Scope
    perform: Callable[[Call], Awaitable[Answer]]


class Endpoint:
    """The ASGI application of one route: ``actions`` by method, in the order in which ``Allow`` names them."""

    def __init__(
        self, route: str, actions: Mapping[str, Action], keys: Keys, throttle: Throttle, metrics: ApiMetrics, *, long_work: LongWork
    ) -> None:
        self._long_work = long_work
        self._route = route
        self._actions = actions
        self._allow = ", ".join(actions)
        self._keys = keys
        self._throttle = throttle
        self._metrics = metrics

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        clock = asyncio.get_running_loop().time
        began = clock()
        request = Request(scope, receive)
        indent, answer = await self._answer(request)
        response = await self._long_work.carry_out(lambda: render(answer, indent, {"Allow": self._allow}), size=answer.size)
        self._metrics.answered(self._route, request.method, answer.status, clock() - began)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> tuple[int | None, Answer]:
        indent = None
        try:
            indent = _negotiated(request)
            return indent, await self._performed(request)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer
            return indent, failure(error)

    async def _performed(self, request: Request) -> Answer:
        key = await self._key(request)
        action = self._actions.get(request.method)
        if action is not None and not key.may(action.scope):
            raise missing_scope(action.scope)
        self._throttle.admit(key.id)
        if action is None:
            raise method_not_allowed(request.method)
        return await action.perform(Call(request, key))

    async def _key(self, request: Request) -> Key:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise no_credentials()
        key = await self._keys.check(text.strip())
        if key is None:
            raise wrong_key()
        return key


def failure(error: Exception) -> Answer:
    """Turn an error into its answer. One that nobody foresaw is logged, and answered without a word of what it was."""
    known = _known(error)
    if known is None:
        _log.error("request.failed", exc_info=error)
        known = server_error()
    return Answer(known.status, known.body(), known.headers, size=len(known.detail))


def _known(error: Exception) -> ApiError | None:
    match error:
        case ApiError():
            return error
        case Unreachable():
            return unavailable()
        case ClientDisconnect():
            return unreadable("The request ended before its body did.")
        case _:
            return None


def render(answer: Answer, indent: int | None, headers: Mapping[str, str]) -> Response:
    """Make an answer into a response: JSON in UTF-8, compact unless an indent was asked for."""
    headers = {**headers, **(answer.headers or {})}
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return Response(encode(answer.body, indent), answer.status, headers, JSON)


def _negotiated(request: Request) -> int | None:
    # ``?format=`` names a renderer, and JSON is the only one.
    if request.query_params.get("format", "json") not in {"json", ""}:
        raise not_found()
    ranges = request.headers.getlist("accept")  # RFC 9110, 5.3: several lines are one list
    return accepted_indent(", ".join(ranges) if ranges else None)
