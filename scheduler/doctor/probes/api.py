"""The examination of one target's API. Nothing is started or changed.

The list shows whether the key may read. Only a request that writes can show whether the key may write.
Therefore this module sends a writing request that cannot change anything: a PATCH

- of the nil UUID (RFC 9562, section 5.9), which no API assigns to an object: nothing exists to be changed;
- with an empty object, which would change nothing even if an object existed.

An API checks the key's scopes before the API looks for the automation. The answer is 403 without
``task:write`` and 404 with ``task:write``. The hosted API and the embedded API do this. A POST with an empty
body would be refused as well. But only a rule for the body would prevent a new automation, while a PATCH has
no object to change. The run endpoint is never asked.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.doctor.facts import ApiFacts, Refusal
from scheduler.upstream.client import ApiClient
from scheduler.upstream.target import ClientClock, TargetConfig

if TYPE_CHECKING:
    from scheduler.core.events import RequestEnded

NIL_ID: Final = "00000000-0000-0000-0000-000000000000"
_PATIENCE: Final = 15.0
"""The longest time for one request in seconds, also when the target allows more."""
_WRITE_STATUSES: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST})
"""The statuses of the answer to a key that may write: the API checks the scopes before both."""


async def probe_api(config: TargetConfig, clock: ClientClock) -> ApiFacts:
    """Read all automations, and test whether the key may write.

    Failures of the network, the API or the key are in the result and are not raised.
    """
    ended: list[RequestEnded] = []
    try:
        async with ApiClient(
            replace(config, request_timeout=min(config.request_timeout, _PATIENCE)), clock, ended.append
        ) as api:
            facts = await _read_snapshot(api)
            slowest = max((request.seconds for request in ended), default=0.0)
            facts = replace(facts, requests=len(ended), slowest_seconds=slowest)
            if facts.refusal is None or facts.refusal.status == HTTPStatus.FORBIDDEN:
                facts = await _probe_write_scope(api, facts)
            return replace(facts, clock_offset=api.clock_offset)
    except ConfigurationError as error:
        return ApiFacts(refusal=Refusal(str(error), held=True))


async def _read_snapshot(api: ApiClient) -> ApiFacts:
    try:
        return ApiFacts(snapshot=await api.read_snapshot())
    except UpstreamError as error:
        return ApiFacts(refusal=_make_refusal(error))


async def _probe_write_scope(api: ApiClient, facts: ApiFacts) -> ApiFacts:
    try:
        await api.update(NIL_ID, {})
    except UpstreamError as error:
        if error.status in _WRITE_STATUSES:
            return replace(facts, may_write=True)
        may_write = False if error.status == HTTPStatus.FORBIDDEN else None
        return replace(facts, may_write=may_write, write_refusal=_make_refusal(error))
    return replace(facts, may_write=True)


def _make_refusal(error: UpstreamError) -> Refusal:
    return Refusal(str(error), error.status, error.held)
