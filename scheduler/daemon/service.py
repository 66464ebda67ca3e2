"""Daemon service: runs all targets side by side with the clock watch, and stops them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.core.events import DaemonStopped, DaemonStopping
from scheduler.core.status import DaemonStatus
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.ports import DaemonClock, Publish
from scheduler.daemon.target_worker import TargetWorker


@dataclass(kw_only=True)
class Service:
    """Service of all targets until `stop` is called."""

    node: str
    version: str
    clock: DaemonClock
    watch: ClockWatch
    health: LedgerHealth
    publish: Publish
    targets: Sequence[TargetWorker] = ()
    lock_holder: str | None = None

    def __post_init__(self) -> None:
        self._stop_event = asyncio.Event()
        self._started_at = self.clock.now()

    async def run(self, targets: Sequence[TargetWorker], drain_timeout: Callable[[], float]) -> None:
        """Serve the targets, which must be open, until `stop` is called.

        After `stop`, deliveries in flight get ``drain_timeout()`` seconds to end.
        """
        self.targets = targets
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self.watch.run())
            serving = [group.create_task(target.run(self._stop_event, drain_timeout)) for target in targets]
            await asyncio.gather(*serving)
            watching.cancel()
        self.publish(DaemonStopped(in_flight=sum(task.result() for task in serving)))

    def stop(self, reason: str) -> None:
        """Make no more claims, and end the service."""
        if not self._stop_event.is_set():
            self.publish(DaemonStopping(reason=reason))
        self._stop_event.set()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop_event.is_set()

    async def wait_for_stop(self) -> None:
        """Wait until `stop` is called."""
        await self._stop_event.wait()

    @property
    def is_up(self) -> bool:
        """Whether every target is being served, and its list has been requested once."""
        return bool(self.targets) and all(target.is_up for target in self.targets)

    def is_busy(self) -> bool:
        """Return whether a target sends occurrences now or soon. Work that only reads should wait."""
        return any(target.is_busy() for target in self.targets)

    def measure_stall(self) -> float:
        """Return the longest time for which a target has not planned although planning was necessary.

        The time is in seconds. The result is 0 when all is well, or when the service stops.
        """
        if self.is_stopping:
            return 0.0
        return max((target.measure_stall() for target in self.targets), default=0.0)

    def make_status(self) -> DaemonStatus:
        """Return the current state of the daemon and all targets."""
        return DaemonStatus(
            node=self.node,
            version=self.version,
            at=self.clock.now(),
            started_at=self._started_at,
            lock_holder=self.lock_holder,
            ledger_error=self.health.error,
            clock_in_doubt=self.watch.is_in_doubt,
            stopping=self.is_stopping,
            targets=[target.make_status() for target in self.targets],
        )
