"""What a run has printed, asked of the embedded API for the page of its automation.

By HTTP and with the target's key, since the daemon cannot read the API's files: as services the two are different users. Only a target at
``[api] listen`` is asked, so no other API gets a request that it does not know.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from scheduler.app.wiring import upstream_config
from scheduler.core.errors import SchedulerError
from scheduler.core.model import InvalidAutomation
from scheduler.core.status import RunOutput
from scheduler.settings import Settings, Target
from scheduler.settings.places import Listen, is_loopback
from scheduler.upstream import ApiClient
from scheduler.upstream.target import Clock

_WITHIN: Final = 2.0
"""Seconds that an answer may take."""
_FRESH: Final = 5.0
"""Seconds for which an answer is shown again: the page asks every ten seconds, and several people may look."""
_APART: Final = 0.5
"""Seconds between two requests at least: the API may limit what the key may ask, and occurrences come first."""
_MOST_WAITING: Final = 16
"""Pages that wait for their turn: eight seconds, for which a page in a browser waits."""
_REMEMBERED: Final = 20
_ANY: Final = ""
"""In place of a run's id, for an API that did not answer: nobody waits for that API again and again."""


class RunOutputs:
    """Reads the outputs of runs at the embedded API of this machine."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._targets = {target.name: target for target in settings.targets if _is_shown(settings, target)}
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], tuple[float, RunOutput | None]] = OrderedDict()
        self._turn = asyncio.Lock()
        self._asked = float("-inf")
        self._waiting = 0

    async def read(self, target: str, run_id: str) -> RunOutput | None:
        """Read the end of a run's output; None when this target is not the embedded API, or the API does not know the run."""
        if target not in self._targets:
            return None
        if self._waiting >= _MOST_WAITING:
            return RunOutput(error=f"{self._waiting} pages wait for the outputs of runs already; look again in some seconds")
        self._waiting += 1
        try:
            return await self._read_in_turn(target, run_id)
        finally:
            self._waiting -= 1

    async def _read_in_turn(self, target: str, run_id: str) -> RunOutput | None:
        async with self._turn:
            for key in ((target, _ANY), (target, run_id)):
                at, answer = self._answers.get(key, (float("-inf"), None))
                if self._clock.seconds() - at < _FRESH:
                    return answer
            await asyncio.sleep(self._asked + _APART - self._clock.seconds())
            self._asked = self._clock.seconds()
            answer = await self._ask(self._targets[target], run_id)
            is_answered = answer is None or answer.error is None
            self._remember((target, run_id if is_answered else _ANY), answer)
            return answer

    def _remember(self, key: tuple[str, str], answer: RunOutput | None) -> None:
        self._answers[key] = self._clock.seconds(), answer
        self._answers.move_to_end(key)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)

    async def _ask(self, target: Target, run_id: str) -> RunOutput | None:
        try:
            config = await asyncio.to_thread(upstream_config, target)  # the key may have been rotated
            async with ApiClient(replace(config, connect_timeout=_WITHIN / 2, request_timeout=_WITHIN), self._clock) as api:
                return await api.read_run_output(run_id)
        except InvalidAutomation:  # an id that is none, and so no run of the embedded API
            return None
        except SchedulerError as error:
            return RunOutput(error=str(error))


def _is_shown(settings: Settings, target: Target) -> bool:
    """Whether the outputs of this target's runs are shown: it is the embedded API, and who may look is who may know."""
    listen, wanted = settings.server.listen, settings.server.run_output
    if listen is None or not _is_embedded(settings.api.listen, target.url):
        return False
    return is_loopback(listen.host) if wanted == "auto" else wanted


def _is_embedded(listen: Listen | None, url: str) -> bool:
    """Whether the URL leads to the embedded API of this machine. An API that listens on all addresses is asked by a loopback address."""
    host = urlsplit(url).hostname or ""
    return listen is not None and listen.answers_to(url) and (host == listen.host or is_loopback(host))
