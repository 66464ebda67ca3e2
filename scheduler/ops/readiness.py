"""``/readyz``: its status says whether the daemon can fire, and its warnings are the findings of the page.

Some findings come from the ledger. A probe must not wait for a hanging ledger or for a daemon that fires. A
separate task therefore reads the ledger, at most every `_FRESH_FOR` seconds. An answer waits at most
`_PATIENCE` seconds for this task.
"""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scheduler.core.errors import Unreachable
from scheduler.ops import views
from scheduler.ops.page.findings import LOOK_BACK, LedgerReading, describe_warnings
from scheduler.ops.page_sources import PageSources

_FRESH_FOR: Final = 10.0
_MAX_AGE: Final = 60.0
"""Seconds after which a reading of the ledger is no longer shown."""
_PATIENCE: Final = 0.5


async def read_ledger(content: PageSources) -> LedgerReading:
    """Read the recent facts in the ledger, while the daemon does not fire."""
    await content.worker.wait_until_idle()
    try:
        return LedgerReading(await content.recent(content.status().at - LOOK_BACK), await content.failing())
    except Unreachable as error:
        return LedgerReading(error=str(error))


class Readiness:
    """The page ``/readyz``, made from ``content``."""

    def __init__(self, content: PageSources) -> None:
        self._content = content
        self._newest = LedgerReading()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def serve(self, _: Request) -> Response:
        """Serve ``/readyz``: 200 when the daemon has everything for firing."""
        now = asyncio.get_running_loop().time
        if now() - self._read_at > _FRESH_FOR:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._read())
            await asyncio.wait({self._task}, timeout=_PATIENCE)
        status = self._content.status()
        reading = self._newest if now() - self._read_at <= _MAX_AGE else LedgerReading()
        ready, body = views.make_readiness(status, describe_warnings(status, reading))
        return JSONResponse(dict(body), HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _read(self) -> None:
        self._newest = await read_ledger(self._content)
        self._read_at = asyncio.get_running_loop().time()
