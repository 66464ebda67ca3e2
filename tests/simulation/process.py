"""One daemon process: the real `scheduler.app.daemon.Daemon` on a simulated machine, which can be killed at
any of its steps.

What a process starts is its own, and when it is killed all of it stops at once. `machine` puts in place what
of a machine the daemon uses: clocks, signals, threads, the disk, the network; everything else is the daemon's
own, from its lock to its reloads.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from unittest import mock

from scheduler.app import daemon as app
from scheduler.app import ledger_startup
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.events import Event, RequestEnded
from scheduler.daemon import clock as clocks
from scheduler.daemon.context import Parse
from scheduler.daemon.service import Service
from scheduler.database import Database, lock_file
from scheduler.ops.bus import Bus
from scheduler.ops.event_log import EventLogger
from scheduler.ops.metrics import Metrics
from scheduler.settings.models import Settings
from scheduler.upstream.client import ApiClient
from scheduler.upstream.target import TargetConfig
from tests.mortal_process import OWNER, MortalProcess
from tests.simulation.disk import OpenFile
from tests.simulation.network import Wire
from tests.simulation.script import Dies
from tests.simulation.violation import Violation
from tests.virtual import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

_LOCK_LOOK_EVERY: Final = 60.0
"""A day of looking at the lock file every two seconds is a second of a computer's time."""
_LOOK_FOR_REQUESTS_EVERY: Final = 600.0
"""No script asks for a backfill. Looking for one every second took two thirds of a simulation's time."""
_LOCK_AGAIN: Final = 5.0
"""A second daemon waits for the lock for hours; a real one looks every second."""


class Process(MortalProcess):
    """One life of a daemon."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__()
        self.world, self.number = world, number
        self.killed = False
        self.serving = False
        self.began = world.clock.true_now()
        self.ended_at: Any = None
        self.handlers: dict[int, Callable[[], object]] = {}
        self.file: OpenFile | None = None
        self.watch: QuietWatch | None = None
        self.metrics: Metrics | None = None
        self.wake_socket: SimulatedWakeSocket | None = None
        self.lines: list[tuple[str, str, dict[str, object]]] = []
        self.fault: BaseException | None = None
        self._doom: tuple[Dies, int] | None = None
        self.main = self.begin(self._live())

    async def _live(self) -> None:
        try:
            await app.Daemon(self.world.configuration).run()
        except Exception as fault:  # noqa: BLE001  it is for the check to say
            self.fault = fault if self.alive else None
        finally:
            self.alive, self.ended_at = False, self.ended_at or self.world.clock.true_now()

    # ------------------------------------------------------------ dying

    def doom(self, dies: Dies, count: int) -> None:
        """Let it die at the ``count``-th such place from now on."""
        self._doom = (dies, count)
        if dies is Dies.NOW:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        if not self.alive:
            return
        self.alive, self.killed, self.ended_at = False, True, self.world.clock.true_now()
        self.cancel_tasks()
        if self.file is not None:
            self.file.died()
        self.world.died(self)

    def must_live(self) -> None:
        """Nothing is done for the dead."""
        if not self.alive:
            raise asyncio.CancelledError

    def _pass(self, place: Dies) -> None:
        if self._doom is not None and self._doom[0] is place:
            self._doom = (place, self._doom[1] - 1)
            if self._doom[1] <= 0:
                self.kill()

    def steps(self) -> None:
        """One of its tasks takes a step."""
        if self._doom is not None:
            self._pass(Dies.AT_A_STEP)
        if not self.alive:
            raise asyncio.CancelledError

    def commits(self) -> None:
        """It is about to commit."""
        self._pass(Dies.BEFORE_A_COMMIT)

    def committed(self) -> None:
        """It has, and nobody has heard of it."""
        self._pass(Dies.AFTER_A_COMMIT)

    def sends(self) -> None:
        """A request to run leaves."""
        self._pass(Dies.BEFORE_A_RUN)
        self.must_live()

    def hears(self) -> None:
        """Its answer came."""
        self._pass(Dies.AFTER_A_RUN)
        self.must_live()

    # ------------------------------------------------------------ signals and events

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that it does not handle yet ends it."""
        handler = self.handlers.get(number)
        if handler is None:
            self.kill()
        else:
            self.call(handler)

    def wrap(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Make each step of a task a place to die at."""
        return _Stepped(coroutine, self)

    def tell(self, event: Event) -> None:
        """It has something to say."""
        if self.alive and not isinstance(event, RequestEnded):
            self.world.told(self, event)

    def observer_failed(self, observer: object, event: Event, error: Exception) -> None:
        """One who was told of an event did not take it well."""
        self.world.violations.append(Violation("observer", f"{observer} on {event}: {error!r}"))


class _Stepped(Coroutine[Any, Any, T]):
    """A coroutine of a process: each of its steps is a place to die at."""

    def __init__(self, inner: Coroutine[Any, Any, T], process: Process) -> None:
        self._inner, self._process = inner, process

    def send(self, value: Any, /) -> Any:
        try:
            self._process.steps()
        except asyncio.CancelledError as death:
            return self._inner.throw(death)
        return self._inner.send(value)

    def throw(self, *raised: Any) -> Any:
        return self._inner.throw(*raised)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()


# ---------------------------------------------------------------- the machine


class MachineLoop(VirtualLoop):
    """An event loop in virtual time whose signals are the process's, and whose threads take no time."""

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]  # no Unpack
        _me().handlers[sig] = partial(callback, *args)

    def run_in_executor(self, _: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  it is the caller's
            done.set_exception(error)
        return done


class QuietWatch(clocks.ClockWatch):
    """Looks at the clocks every second like any watch, but only in the seconds in which there is something to
    be seen.
    """

    def __init__(self, clock: Any, publish: Any) -> None:
        super().__init__(clock, publish)
        self.disturbed = asyncio.Event()
        _me().watch = self

    async def run(self) -> None:
        while True:
            await self.disturbed.wait()
            self.disturbed.clear()
            await asyncio.sleep(
                clocks.TICK * _me().world.draws.make_next("clock watch", _me().number).random()
            )
            self.check()


class Observers:
    """What `scheduler.app.observability` is to a daemon, without a socket: the same observers behind the same
    bus.
    """

    def __init__(self, settings: Settings, clock: Any) -> None:
        process = _me()
        process.metrics = Metrics([target.name for target in settings.targets], now=clock.now)
        bus = Bus()
        bus._report = process.observer_failed  # type: ignore[method-assign]  # the log is not where a simulation looks
        bus.subscribe(process.metrics.observe)
        if process.world.narrates:
            narrator = EventLogger(lambda level: level != "debug")
            narrator._log = _Lines(process.lines)
            bus.subscribe(narrator.observe)
        bus.subscribe(process.tell)
        self._bus, self._process = bus, process

    def publish(self, event: Event) -> None:
        """The dead tell nothing."""
        if self._process.alive:
            self._bus.publish(event)

    def set_level(self, settings: Settings) -> None:
        """Everything is kept anyway."""

    async def recall(self, database: Database) -> None:
        """Nothing to go on from: what a life counts is compared with what that life told."""

    @asynccontextmanager
    async def watch(self, service: Service) -> AsyncIterator[None]:
        """Nobody asks."""
        self._process.serving = True
        self._process.world.services[self._process.number] = service
        yield


class _Lines:
    """A logger that keeps its lines."""

    def __init__(self, lines: list[tuple[str, str, dict[str, object]]]) -> None:
        self._lines = lines

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda name, **keys: self._lines.append((level, name, keys))


def _me() -> Process:
    process = OWNER.get()
    assert isinstance(process, Process)
    return process


def _opened(_path: Path, **_: object) -> OpenFile:
    me = _me()
    me.file = OpenFile(me.world.file, me)
    return me.file


def _connected(config: TargetConfig, clock: Any, observe: Any) -> ApiClient:
    me = _me()
    wire = Wire(me.world.links[config.name], me, min(config.connect_timeout, 0.9 * config.request_timeout))
    return ApiClient(config, clock, observe, transport=wire)


def _parser(settings: Settings) -> Parse:
    """Reads schedules by the zone data that this machine has now."""
    schedule, missing = settings.schedule, _me().world.zones_missing

    def parse(expression: object, timezone: object) -> Schedule:
        if timezone in missing:
            raise InvalidSchedule(expression, timezone, f"the timezone {timezone!r} is unknown")
        return Schedule.parse(expression, timezone, dst_gap=schedule.dst_gap, dst_repeat=schedule.dst_repeat)

    return cast("Parse", parse)


class SimulatedWakeSocket:
    """A process's wake socket. Datagrams that come before it is heard are one."""

    def __init__(self, _ledger: Path) -> None:
        self._process, self._woken = _me(), asyncio.Event()
        self._process.wake_socket = self

    def wake(self) -> None:
        """A datagram comes."""
        self._woken.set()

    async def wait(self) -> None:
        """Wait for a datagram."""
        await self._woken.wait()
        self._woken.clear()

    def close(self) -> None:
        """Listen no more."""
        self._process.wake_socket = None


def _exit(_status: int) -> None:
    _me().kill()


@contextmanager
def machine() -> Iterator[None]:
    """Everything of the machine that the daemon touches is the simulated one."""
    with ExitStack() as patches:
        for name, stand_in in {
            "SystemClock": lambda: _me().world.clock,
            "Observability": Observers,
            "ClockWatch": QuietWatch,
            "ApiClient": _connected,
            "make_parser": _parser,
            "reload_zones": lambda: None,
            "gc": SimpleNamespace(freeze=lambda: None),
            "os": SimpleNamespace(_exit=_exit),
            "WakeSocket": SimpleNamespace(open=SimulatedWakeSocket),
            "_LOOK_FOR_REQUESTS_EVERY": _LOOK_FOR_REQUESTS_EVERY,
        }.items():
            patches.enter_context(mock.patch.object(app, name, stand_in))
        patches.enter_context(mock.patch.object(ledger_startup, "open_ledger", _opened))
        patches.enter_context(mock.patch.object(lock_file, "LOOK_EVERY", _LOCK_LOOK_EVERY))
        patches.enter_context(mock.patch.object(ledger_startup, "_LOOK_AGAIN", _LOCK_AGAIN))
        patches.enter_context(mock.patch.dict(os.environ, {"POSTHOG_PERSONAL_API_KEY": "phx_simulated"}))
        yield
