"""One target's API, asked without anything being started or changed.

That the key may read, the list shows. Whether it may write, only a request that writes can tell, so one is sent that cannot: a PATCH

- of the nil UUID (RFC 9562, section 5.9), which no API gives to anything, so that nothing is there to be changed;
- with an empty object, which changes nothing should there be something after all.

An API looks at the key's scopes before it looks for the automation, so the answer is 403 without ``task:write`` and 404 with it; so do the
hosted one and the embedded one. A POST of an empty body would be refused as well, but what stands between it and a new automation is a rule
for the body, and not that there is nothing. The run endpoint is never asked.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from scheduler.core.errors import ConfigurationError, UpstreamError
from scheduler.doctor.facts import ApiFacts, Refusal
from scheduler.upstream import ApiClient, TargetConfig
from scheduler.upstream.target import ClientClock

if TYPE_CHECKING:
    from scheduler.core.events import RequestEnded

NIL_ID: Final = "00000000-0000-0000-0000-000000000000"
_PATIENCE: Final = 15.0
"""Seconds for one request, where the target allows more."""
_WRITE_STATUSES: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST})
"""What is answered to a key that may write: both come after the scopes."""


async def probe_api(config: TargetConfig, clock: ClientClock) -> ApiFacts:
    """What the API shows, and whether the key may write. Raises nothing that a network or an API does."""
    ended: list[RequestEnded] = []
    try:
        async with ApiClient(replace(config, request_timeout=min(config.request_timeout, _PATIENCE)), clock, ended.append) as api:
            facts = await _read_snapshot(api)
            facts = replace(facts, requests=len(ended), slowest_seconds=max((each.seconds for each in ended), default=0.0))
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
        return replace(facts, may_write=False if error.status == HTTPStatus.FORBIDDEN else None, write_refusal=_make_refusal(error))
    return replace(facts, may_write=True)


def _make_refusal(error: UpstreamError) -> Refusal:
    return Refusal(str(error), error.status, error.held)
