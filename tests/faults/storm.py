"""Plays faults on a site, drawn from a seed for so many minutes, or named ones around one full minute; then
lets all of it calm down.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from scheduler.core.instants import from_text, to_text
from tests.e2e.stand import next_minute, until
from tests.faults import final_check
from tests.faults.clock import CLOCK
from tests.faults.editor import Editor
from tests.faults.fault import Fault, Lane
from tests.faults.keys import KEYS
from tests.faults.network import NETWORK
from tests.faults.processes import PROCESSES
from tests.faults.site import PATIENCE, Site
from tests.faults.storage import STORAGE

FAULTS: tuple[type[Fault], ...] = (*NETWORK, *PROCESSES, *KEYS, *STORAGE, *CLOCK)

_AROUND = (-1.2, -0.9, -0.3, 0.0, 0.01, 0.05, 0.3)
"""Seconds from the full minute: before the claims, between claims and sends, at the first bytes, and after.
"""
_LOOK_EVERY = 0.25
_SOON = timedelta(seconds=5)
"""The daemon is stopped when nothing is due for so long; what it has claimed beyond that waits for the next
start.
"""

AFTERMATH = 45.0
"""Seconds for which a fault that is over may still be what an error is about."""
AUTOMATIONS = 18


@dataclass
class Storm:
    """What happens on one site, and what was seen of it."""

    site: Site
    draw: random.Random
    say: Callable[[str], None] = lambda _: None
    faults: Counter[str] = field(default_factory=Counter)
    allowed: set[str] = field(default_factory=set)  # outcomes
    _active: list[Fault] = field(default_factory=list)
    _over: dict[str, float] = field(default_factory=dict)  # until when an error may still come of what was

    async def prepare(self, automations: int = AUTOMATIONS) -> None:
        """Start everything, and wait until the daemon has seen what there is."""
        await self.site.open()
        self._editor = Editor(self.site, self.draw)
        await self._editor.furnish(automations)
        await self.site.start_daemon(ready=False)
        await until(
            lambda: self.site.answers(self.site.daemon_port, "/readyz"),
            seconds=PATIENCE,
            what="the daemon to be ready",
        )

    async def rage(self, seconds: float) -> None:
        """Faults of all lanes at once, and edits, for so long."""
        lanes: dict[Lane, list[type[Fault]]] = defaultdict(list)
        for each in FAULTS:
            if each.lacks(self.site) is None:
                lanes[each.lane].append(each)
        until = asyncio.get_running_loop().time() + seconds
        async with _beside(self._watch()), _beside(self._editor.work()):
            await asyncio.gather(*(self._draw_on(kinds, until) for kinds in lanes.values()))

    async def play(self, kinds: Sequence[type[Fault]], *, seconds: float) -> None:
        """These faults, so many seconds each, one after the other; the first of them across a full minute."""
        now = self.site.now()
        await asyncio.sleep(max((next_minute(now) - now).total_seconds() - 2.0, 0.0))
        async with _beside(self._watch()):
            for kind in kinds:
                fault = kind(self.draw)
                fault.seconds = seconds
                await self._have(fault)

    async def calm(self, *, more: timedelta = timedelta(0)) -> None:
        """Wait until all that comes due up to the last full minute, or ``more``, has its outcome; then stop
        the daemon.
        """
        async with _beside(self._watch()):
            await until(
                lambda: self.site.answers(self.site.daemon_port, "/readyz"),
                seconds=PATIENCE,
                what="the daemon to be ready",
            )
            began = self.site.now()
            minute = next_minute(began + more) - timedelta(minutes=1)
            await until(
                lambda: self._is_settled(began, minute),
                seconds=60 + 2 * PATIENCE,
                what=f"everything up to {minute} to be settled",
            )
            await self.site.terminated()
        self._read_log()
        await self._audit()

    async def _is_settled(self, began: datetime, minute: datetime) -> bool:
        """Whether nothing is open that is due, by a ledger of the present: the daemon may not know yet that
        its clock is right again.
        """
        soon = self.site.now() + _SOON
        open_ones = self.site.rows(
            "SELECT 1 FROM occurrence WHERE outcome IS NULL AND due <= ?", to_text(soon)
        )
        (target,) = self.site.rows("SELECT watermark, snapshot_at FROM target")
        is_present = (
            began <= from_text(target["snapshot_at"]) <= soon
            and minute <= from_text(target["watermark"]) <= soon
        )
        return is_present and not open_ones

    async def _audit(self) -> None:
        """What the operators' own proof says."""
        self.site.write_configuration()
        status, said = await self.site.told_by("audit", "--since", "2d")
        self.say(f"audit: exit status {status}\n{said.strip()}")
        if status != 0:
            self._violated(f"the audit: {said}")

    @property
    def _clock_was_set(self) -> bool:
        return any(kind.name() in self.faults for kind in CLOCK)

    def account(self) -> list[str]:
        """All violations."""
        books = final_check.read(self.site, clock_was_set=self._clock_was_set)
        found = [*self.site.violations, *final_check.violations(books, self.allowed)]
        if self.site.idempotent != self._keys_known():
            found.append(
                "the API was to see idempotency keys, and saw none"
                if self.site.idempotent
                else "the API saw idempotency keys"
            )
        return found

    # ------------------------------------------------------------ one after the other

    async def _draw_on(self, kinds: Sequence[type[Fault]], until: float) -> None:
        bag: list[type[Fault]] = []
        while asyncio.get_running_loop().time() < until:
            bag = bag or self.draw.sample(list(kinds), len(kinds))  # each kind as often as the others
            await asyncio.sleep(self._break())
            await self._have(bag.pop()(self.draw))

    def _break(self) -> float:
        """Until soon; or until a little before, at or after the full minute."""
        if self.draw.random() < 0.5:
            return self.draw.uniform(0.5, 10.0)
        now = self.site.now()
        to_minute = (next_minute(now) - now).total_seconds()
        return max(to_minute + self.draw.choice(_AROUND) + self.draw.uniform(-0.05, 0.05), 0.0)

    async def _have(self, fault: Fault) -> None:
        self.faults[fault.name()] += 1
        self.allowed |= fault.outcomes
        self._active.append(fault)
        if await self._held_to(fault, fault.begin):
            await asyncio.sleep(fault.seconds)
        await self._held_to(fault, fault.end)
        self._active.remove(fault)
        for event in fault.errors:
            self._over[event] = asyncio.get_running_loop().time() + AFTERMATH

    async def _held_to(self, fault: Fault, step: Callable[[Site], Awaitable[None]]) -> bool:
        """Take the step; what it finds wrong, or waits for in vain, is a violation."""
        try:
            await step(self.site)
        except AssertionError as error:
            self._violated(f"{fault.name()}: {error}")
            return False
        return True

    # ------------------------------------------------------------ meanwhile

    async def _watch(self) -> None:
        """Read the log, and start again what ended without being told to."""
        while True:
            self._read_log()
            for name, death in list(self.site.died()):
                self._violated(death)
                await self.site.start("serve" if name == "serve" else "run", name=name)
            await asyncio.sleep(_LOOK_EVERY)

    def _read_log(self) -> None:
        now = asyncio.get_running_loop().time()
        expected = {event for fault in self._active for event in fault.errors} | {
            each for each, end in self._over.items() if end > now
        }
        for event, line in self.site.errors():
            if event in expected:
                self.site.told[f"errors logged, as they should be: {event}"] += 1
            else:
                self._violated(f"an error that no fault explains: {line}")

    def _violated(self, what: str) -> None:
        self.site.violations.append(what)
        self.say(f"VIOLATION {what}")

    def _keys_known(self) -> bool:
        return bool(
            self.site.rows("SELECT 1 FROM idempotent_answers LIMIT 1", database=self.site.api_database)
        )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have this done for as long as the block lasts. What it ended by before that is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
