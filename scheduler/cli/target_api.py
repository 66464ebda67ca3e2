"""One target's API for the length of one command."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from scheduler.app.wiring import upstream_config
from scheduler.cli.failures import AnswerIsNo
from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.core.model import InvalidAutomation, canonical_id
from scheduler.daemon.clock import SystemClock
from scheduler.settings import Target
from scheduler.upstream import ApiClient, Document

T = TypeVar("T")

_OUR_FAULT = range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)
_NOT_OURS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def carry_out(target: Target, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    """What ``use`` returns. What the API refuses is `ConfigurationError`, and what it does not have is `AnswerIsNo`."""
    return asyncio.run(_carried_out(target, use))


async def _carried_out(target: Target, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    async with ApiClient(upstream_config(target, os.environ), SystemClock()) as api:
        try:
            return await use(api)
        except UpstreamError as error:
            if error.status == HTTPStatus.NOT_FOUND and not error.held:
                raise AnswerIsNo(str(error)) from None
            if error.status in _OUR_FAULT and error.status not in _NOT_OURS:
                raise ConfigurationError(str(error)) from None
            raise


async def found(api: ApiClient, automation: str) -> Document:
    """The automation of this id or, when it is none, of this name. Raises `AnswerIsNo` when there is none, or are several."""
    try:
        document = await api.document(canonical_id(automation))
        matching = [] if document is None else [document]
    except InvalidAutomation:
        matching = [each for each in await api.documents() if each.get("name") == automation]
    if not matching:
        raise AnswerIsNo(f"there is no automation {automation!r}; see `scheduler automations list`")
    if len(matching) > 1:
        ids = ", ".join(str(each["id"]) for each in matching)
        raise AnswerIsNo(f"there are {len(matching)} automations called {automation!r}; give the id of one: {ids}")
    return matching[0]
