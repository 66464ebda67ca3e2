"""The daemon as a whole: its targets side by side, the watch over the clock, and how all of it stops."""

import asyncio
from collections.abc import Callable, Sequence

from scheduler.core.events import DaemonStopped, DaemonStopping
from scheduler.core.status import DaemonStatus
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.context import LedgerHealth
from scheduler.daemon.ports import DaemonClock, Publish
from scheduler.daemon.target_worker import TargetWorker


class Service:
    """Serves every target until it is told to stop."""

    def __init__(self, *, node: str, version: str, clock: DaemonClock, watch: ClockWatch, health: LedgerHealth, publish: Publish) -> None:
        self._node = node
        self._version = version
        self._clock = clock
        self._watch = watch
        self._health = health
        self._publish = publish
        self._stop_event = asyncio.Event()
        self._started_at = clock.now()
        self.targets: Sequence[TargetWorker] = ()
        self.lock_holder: str | None = None

    async def run(self, targets: Sequence[TargetWorker], drain_timeout: Callable[[], float]) -> None:
        """Serve these targets, which are open, until `stop`; then give what is in flight its time."""
        self.targets = targets
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._watch.run())]
            serving = [group.create_task(target.run(self._stop_event, drain_timeout)) for target in targets]
            await asyncio.gather(*serving)
            for task in background:
                task.cancel()
        self._publish(DaemonStopped(in_flight=sum(task.result() for task in serving)))

    def stop(self, reason: str) -> None:
        """Claim nothing more, and come to an end."""
        if not self._stop_event.is_set():
            self._publish(DaemonStopping(reason=reason))
        self._stop_event.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop_event.is_set()

    async def wait_for_stop(self) -> None:
        """Wait until it is told to stop."""
        await self._stop_event.wait()

    @property
    def is_up(self) -> bool:
        """Whether every target is being served, and its list has been asked for once."""
        return bool(self.targets) and all(target.is_up for target in self.targets)

    def is_busy(self) -> bool:
        """Whether something is fired or about to be, so that whoever only looks should wait."""
        return any(target.is_busy() for target in self.targets)

    def measure_stall(self) -> float:
        """Seconds for which some target has planned nothing although it was time to look; 0 when all is well, or when it stops."""
        return 0.0 if self.is_stopping else max((target.measure_stall() for target in self.targets), default=0.0)

    def make_status(self) -> DaemonStatus:
        """The state of everything at this instant."""
        return DaemonStatus(
            node=self._node,
            version=self._version,
            at=self._clock.now(),
            started_at=self._started_at,
            lock_holder=self.lock_holder,
            ledger_error=self._health.error,
            clock_in_doubt=self._watch.is_in_doubt,
            stopping=self.is_stopping,
            targets=[target.make_status() for target in self.targets],
        )
