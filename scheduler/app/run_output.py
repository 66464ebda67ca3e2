"""The output of a run, read from the embedded API for the page of an automation.

The daemon asks by HTTP with the target's key, because the daemon cannot read the API's files: as services,
the two run as different users. Only a target at ``[api] listen`` is asked, so no other API gets an unknown
request.
"""

import asyncio
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from scheduler.app.settings_mapping import make_upstream_config
from scheduler.core.errors import SchedulerError
from scheduler.core.model import InvalidAutomation
from scheduler.core.status import RunOutputTail
from scheduler.settings.addresses import SocketAddress, is_loopback
from scheduler.settings.models import Settings, TargetSection
from scheduler.upstream.client import ApiClient
from scheduler.upstream.target import ClientClock

_ANSWER_TIMEOUT: Final = 2.0
"""Maximum seconds for an answer."""
_FRESH_FOR: Final = 5.0
"""Seconds for which an answer is shown again.

The page asks every ten seconds, and several people may look.
"""
_APART: Final = 0.5
"""Minimum seconds between two requests.

The API may limit the requests of the key, and occurrences come first.
"""
_MAX_WAITING: Final = 16
"""Maximum number of waiting pages: together eight seconds, the time limit of a page in a browser."""
_ANY_RUN: Final = ""
"""The key for the error of an API without an answer, in place of a run id.

The error is shown for a while, so that pages do not wait for the API again and again.
"""


class RunOutputReader:
    """Reads the outputs of runs from the embedded API of this machine."""

    def __init__(self, settings: Settings, clock: ClientClock) -> None:
        self._targets = {target.name: target for target in settings.targets if _is_shown(settings, target)}
        self._clock = clock
        self._answers: dict[tuple[str, str], tuple[float, RunOutputTail | None]] = {}
        self._turn = asyncio.Lock()
        self._last_request = float("-inf")
        self._waiting = 0

    async def read(self, target: str, run_id: str) -> RunOutputTail | None:
        """Read the end of a run's output.

        Return None when the target is not the embedded API, or when the API does not know the run.
        """
        if target not in self._targets:
            return None
        if self._waiting >= _MAX_WAITING:
            error = f"{self._waiting} pages already wait for outputs of runs; try again in some seconds"
            return RunOutputTail(error=error)
        self._waiting += 1
        try:
            return await self._read_in_turn(target, run_id)
        finally:
            self._waiting -= 1

    async def _read_in_turn(self, target: str, run_id: str) -> RunOutputTail | None:
        async with self._turn:
            self._drop_old_answers()
            for key in ((target, _ANY_RUN), (target, run_id)):
                if key in self._answers:
                    return self._answers[key][1]
            await asyncio.sleep(self._last_request + _APART - self._clock.boottime())
            self._last_request = self._clock.boottime()
            answer = await self._ask(self._targets[target], run_id)
            is_answered = answer is None or answer.error is None
            self._answers[target, run_id if is_answered else _ANY_RUN] = self._clock.boottime(), answer
            return answer

    def _drop_old_answers(self) -> None:
        since = self._clock.boottime() - _FRESH_FOR
        self._answers = {key: answer for key, answer in self._answers.items() if answer[0] > since}

    async def _ask(self, target: TargetSection, run_id: str) -> RunOutputTail | None:
        try:
            config = await asyncio.to_thread(make_upstream_config, target)  # the key may have been rotated
            config = replace(config, connect_timeout=_ANSWER_TIMEOUT / 2, request_timeout=_ANSWER_TIMEOUT)
            async with ApiClient(config, self._clock) as api:
                return await api.read_run_output(run_id)
        except InvalidAutomation:  # an invalid id, and so no run of the embedded API
            return None
        except SchedulerError as error:
            return RunOutputTail(error=str(error))


def _is_shown(settings: Settings, target: TargetSection) -> bool:
    """Return whether the outputs of this target's runs are shown.

    The target must be the embedded API, and readers of the pages must be allowed to read the outputs. With
    ``run_output = "auto"``, the pages must have a loopback address.
    """
    listen, wanted = settings.server.listen, settings.server.run_output
    if listen is None or not _is_embedded(settings.api.listen, target.url):
        return False
    return is_loopback(listen.host) if wanted == "auto" else wanted


def _is_embedded(listen: SocketAddress | None, url: str) -> bool:
    """Return whether the URL leads to the embedded API of this machine.

    An API that listens on all addresses is asked at a loopback address.
    """
    host = urlsplit(url).hostname or ""
    return listen is not None and listen.is_reached_by(url) and (host == listen.host or is_loopback(host))
