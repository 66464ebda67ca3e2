"""The API of a target during a command."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

from scheduler.app.settings_mapping import make_upstream_config
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import AutomationCollection, Candidate, find_automation
from scheduler.clock import SystemClock
from scheduler.core.automation_filter import find_id
from scheduler.core.command_line import advise_start_api
from scheduler.core.errors import ConfigurationError, Unreachable, UpstreamError
from scheduler.settings.addresses import is_loopback
from scheduler.settings.models import TargetSection
from scheduler.upstream.client import ApiClient, Document

T = TypeVar("T")

_PASSING_ERRORS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_REFUSALS = frozenset(range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)) - _PASSING_ERRORS


def open_api(target: TargetSection) -> ApiClient:
    """Return a client of the target's API, for an ``async with`` block."""
    return ApiClient(make_upstream_config(target), SystemClock())


def carry_out(target: TargetSection, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    """Return the result of ``use``.

    Raises `ConfigurationError` when the API refuses a request, and `AnswerIsNo` for an unknown object.
    """
    return asyncio.run(_carry_out(target, use))


async def _carry_out(target: TargetSection, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    async with open_api(target) as api:
        try:
            return await use(api)
        except UpstreamError as error:
            if error.status == HTTPStatus.NOT_FOUND and not error.held:
                raise AnswerIsNo(str(error)) from None
            if error.status in _REFUSALS:
                raise ConfigurationError(str(error)) from None
            if _is_refused_here(error, target):
                raise Unreachable(f"{error}; {advise_start_api()}") from None
            raise


def _is_refused_here(error: UpstreamError, target: TargetSection) -> bool:
    """Return whether the API should be on this machine, and nothing listens at its address."""
    is_refused = error.status is None and str(error).endswith(os.strerror(errno.ECONNREFUSED).lower())
    return is_refused and is_loopback(urlsplit(target.url).hostname or "")


async def find_document(api: ApiClient, automation: str) -> Document:
    """Find an automation of the API, see `find_automation`. For an id, only one automation is read."""
    automation_id = find_id(automation)
    if automation_id is None:
        documents = await api.list_documents()
    else:
        document = await api.read_document(automation_id)
        documents = [] if document is None else [document]
    return find_automation(_make_collection(documents), automation)


def _make_collection(documents: Sequence[Document]) -> AutomationCollection[Document]:
    """Make the collection of an API's automations. The API knows no former names."""
    return AutomationCollection(
        "",
        lambda text: [one for one in documents if text in (one.get("id"), one.get("name"))],
        lambda prefix: [one for one in documents if str(one.get("id")).startswith(prefix)],
        lambda: (str(one["name"]) for one in documents if one.get("name")),
        lambda one: Candidate(str(one.get("id")), str(one.get("name"))),
    )
