"""The API of a target during a command."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlsplit

from scheduler.app.settings_mapping import make_upstream_config
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import Candidate, make_ambiguous_error, make_unknown_error, read_prefix
from scheduler.clock import SystemClock
from scheduler.core.command_line import advise_start_api
from scheduler.core.errors import ConfigurationError, Unreachable, UpstreamError
from scheduler.core.model import InvalidAutomation, to_canonical_id
from scheduler.settings import TargetSection
from scheduler.upstream import ApiClient, Document

T = TypeVar("T")

_CLIENT_ERRORS = range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_PASSING_ERRORS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def carry_out(target: TargetSection, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    """Return the result of ``use``.

    Raises `ConfigurationError` when the API refuses a request, and `AnswerIsNo` for an unknown object.
    """
    return asyncio.run(_carry_out(target, use))


async def _carry_out(target: TargetSection, use: Callable[[ApiClient], Awaitable[T]]) -> T:
    async with ApiClient(make_upstream_config(target, os.environ), SystemClock()) as api:
        try:
            return await use(api)
        except UpstreamError as error:
            if error.status == HTTPStatus.NOT_FOUND and not error.held:
                raise AnswerIsNo(str(error)) from None
            if error.status in _CLIENT_ERRORS and error.status not in _PASSING_ERRORS:
                raise ConfigurationError(str(error)) from None
            if _is_refused_here(error, target):
                raise Unreachable(f"{error}; {advise_start_api()}") from None
            raise


def _is_refused_here(error: UpstreamError, target: TargetSection) -> bool:
    """Return whether the API should be on this machine, and nothing listens at its address."""
    refused = os.strerror(errno.ECONNREFUSED).lower()
    return (
        error.status is None and str(error).endswith(refused) and urlsplit(target.url).hostname in _LOOPBACK
    )


async def find_document(api: ApiClient, automation: str) -> Document:
    """Find the automation with this id or name, otherwise the only automation whose id begins with the text.

    Raises `AnswerIsNo` when no automation matches, or several match.
    """
    try:
        document = await api.read_document(to_canonical_id(automation))
        documents = [] if document is None else [document]
        matching = documents
    except InvalidAutomation:
        documents = await api.list_documents()
        matching = [each for each in documents if each.get("name") == automation]
        if not matching and (prefix := read_prefix(automation)):
            matching = [each for each in documents if str(each.get("id")).startswith(prefix)]
    if not matching:
        raise make_unknown_error(automation, (str(each["name"]) for each in documents if each.get("name")))
    if len(matching) > 1:
        raise make_ambiguous_error(
            automation, [Candidate(str(each.get("id")), str(each.get("name"))) for each in matching]
        )
    return matching[0]
