"""What a run has printed, asked of the embedded API for the page of its automation.

By HTTP and with the target's key, since the daemon cannot read the API's files: as services the two are different users. Only a target at
``[api] listen`` is asked, so no other API gets a request that it does not know.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from scheduler.app.settings_mapping import make_upstream_config
from scheduler.core.errors import SchedulerError
from scheduler.core.model import InvalidAutomation
from scheduler.core.status import RunOutputTail
from scheduler.settings import Settings, TargetSection
from scheduler.settings.addresses import SocketAddress, is_loopback
from scheduler.upstream import ApiClient
from scheduler.upstream.target import ClientClock

_ANSWER_TIMEOUT: Final = 2.0
"""Seconds that an answer may take."""
_FRESH_FOR: Final = 5.0
"""Seconds for which an answer is shown again: the page asks every ten seconds, and several people may look."""
_APART: Final = 0.5
"""Seconds between two requests at least: the API may limit what the key may ask, and occurrences come first."""
_MAX_WAITING: Final = 16
"""Pages that wait for their turn: eight seconds, for which a page in a browser waits."""
_MAX_ANSWERS: Final = 20
_ANY_RUN: Final = ""
"""In place of a run's id, for an API that did not answer: nobody waits for that API again and again."""


class RunOutputReader:
    """Reads the outputs of runs at the embedded API of this machine."""

    def __init__(self, settings: Settings, clock: ClientClock) -> None:
        self._targets = {target.name: target for target in settings.targets if _is_shown(settings, target)}
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], tuple[float, RunOutputTail | None]] = OrderedDict()
        self._turn = asyncio.Lock()
        self._last_request = float("-inf")
        self._waiting = 0

    async def read(self, target: str, run_id: str) -> RunOutputTail | None:
        """Read the end of a run's output; None when this target is not the embedded API, or the API does not know the run."""
        if target not in self._targets:
            return None
        if self._waiting >= _MAX_WAITING:
            return RunOutputTail(error=f"{self._waiting} pages wait for the outputs of runs already; look again in some seconds")
        self._waiting += 1
        try:
            return await self._read_in_turn(target, run_id)
        finally:
            self._waiting -= 1

    async def _read_in_turn(self, target: str, run_id: str) -> RunOutputTail | None:
        async with self._turn:
            for key in ((target, _ANY_RUN), (target, run_id)):
                at, answer = self._answers.get(key, (float("-inf"), None))
                if self._clock.boottime() - at < _FRESH_FOR:
                    return answer
            await asyncio.sleep(self._last_request + _APART - self._clock.boottime())
            self._last_request = self._clock.boottime()
            answer = await self._ask(self._targets[target], run_id)
            is_answered = answer is None or answer.error is None
            self._remember((target, run_id if is_answered else _ANY_RUN), answer)
            return answer

    def _remember(self, key: tuple[str, str], answer: RunOutputTail | None) -> None:
        self._answers[key] = self._clock.boottime(), answer
        self._answers.move_to_end(key)
        if len(self._answers) > _MAX_ANSWERS:
            self._answers.popitem(last=False)

    async def _ask(self, target: TargetSection, run_id: str) -> RunOutputTail | None:
        try:
            config = await asyncio.to_thread(make_upstream_config, target)  # the key may have been rotated
            async with ApiClient(replace(config, connect_timeout=_ANSWER_TIMEOUT / 2, request_timeout=_ANSWER_TIMEOUT), self._clock) as api:
                return await api.read_run_output(run_id)
        except InvalidAutomation:  # an id that is none, and so no run of the embedded API
            return None
        except SchedulerError as error:
            return RunOutputTail(error=str(error))


def _is_shown(settings: Settings, target: TargetSection) -> bool:
    """Whether the outputs of this target's runs are shown: it is the embedded API, and who may look is who may know."""
    listen, wanted = settings.server.listen, settings.server.run_output
    if listen is None or not _is_embedded(settings.api.listen, target.url):
        return False
    return is_loopback(listen.host) if wanted == "auto" else wanted


def _is_embedded(listen: SocketAddress | None, url: str) -> bool:
    """Whether the URL leads to the embedded API of this machine. An API that listens on all addresses is asked by a loopback address."""
    host = urlsplit(url).hostname or ""
    return listen is not None and listen.is_reached_by(url) and (host == listen.host or is_loopback(host))
