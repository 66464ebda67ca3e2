"""``/readyz``: its status says whether the daemon can fire, and its warnings are the findings of the page.

Some findings come from the ledger, and a probe must not wait for a ledger that hangs or for a daemon that fires.
So the ledger is read beside the answer, at most every `_FRESH` seconds, and an answer waits for it `_PATIENCE` seconds at most.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scheduler.core.errors import Unreachable
from scheduler.core.status import DaemonStatus, Failing, Recent
from scheduler.ops import views
from scheduler.ops.content import Content
from scheduler.ops.page.findings import LOOKED_BACK, describe_warnings

_FRESH: Final = 10.0
_OLDEST: Final = 60.0
"""Seconds after which a reading is no longer told."""
_PATIENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """What the ledger holds of late; ``error`` is why it could not be read."""

    recent: Recent | None = None
    failing: Failing | None = None
    error: str | None = None

    def warnings(self, status: DaemonStatus) -> Sequence[str]:
        """Return the findings of the page that do not keep the daemon from being ready, in words."""
        return describe_warnings(status, self.recent, self.failing, self.error)


async def read_ledger(content: Content) -> Reading:
    """Read what the ledger holds of late, when the daemon does not fire."""
    await content.workbench.wait()
    try:
        return Reading(await content.recent(content.status().at - LOOKED_BACK), await content.failing())
    except Unreachable as error:
        return Reading(error=str(error))


class Readiness:
    """The page ``/readyz``, made of this content."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._newest = Reading()
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def page(self, _: Request) -> Response:
        """``/readyz``: 200 when everything is there that firing needs."""
        now = asyncio.get_running_loop().time
        if now() - self._read_at > _FRESH:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._read())
            await asyncio.wait({self._task}, timeout=_PATIENCE)
        status = self._content.status()
        reading = self._newest if now() - self._read_at <= _OLDEST else Reading()
        ready, body = views.readiness(status, reading.warnings(status))
        return JSONResponse(dict(body), HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _read(self) -> None:
        self._newest = await read_ledger(self._content)
        self._read_at = asyncio.get_running_loop().time()
