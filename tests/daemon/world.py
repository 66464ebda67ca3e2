"""A daemon's target in a world of its own: virtual time, an API and a ledger with behaviour, and processes
that can die at any moment.

A `Process` is one daemon process: what it starts is its own, and when it is killed all of it stops at once,
while the API and what is durable stay. Each call of the API or the ledger is a *checkpoint*, before it and
after it, at which a test can let the process die.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.errors import LedgerUnavailable
from scheduler.core.events import Event, OccurrenceConcluded
from scheduler.core.model import Occurrence, Outcome, make_idempotency_key
from scheduler.core.policy import Policies
from scheduler.daemon import clock as clock_watch
from scheduler.daemon import waits
from scheduler.daemon.clock import ClockWatch
from scheduler.daemon.context import Context, TargetSettings
from scheduler.daemon.ledger_health import LedgerHealth
from scheduler.daemon.service import Service
from scheduler.daemon.target_worker import TargetWorker
from tests.defaults import make_policies, target_settings
from tests.fakes import FakeApi, LedgerDouble, Row
from tests.mortal_process import MortalProcess, use_owned_tasks
from tests.virtual import START, VirtualClock, run_virtual

if TYPE_CHECKING:
    from scheduler.daemon.ports import Ledger, Upstream

_E = TypeVar("_E", bound=Event)

NOON: Final = START


class Mortal:
    """A port as a process sees it: every call is a checkpoint, and a dead process gets nothing done.

    `make_mortal` makes one.
    """

    def __init__(self, port: object, name: str, process: "Process") -> None:
        self._port, self._name, self._process = port, name, process

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._port, attribute)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: object, **kwargs: object) -> object:
            self._process.checkpoint(f"before {self._name}.{attribute}")
            done = await self._called(getattr(self._port, attribute)(*args, **kwargs))
            self._process.checkpoint(f"after {self._name}.{attribute}")
            return done

        self.__dict__[attribute] = call  # the next time it is found at once
        return call

    def _called(self, coroutine: Coroutine[Any, Any, object]) -> Awaitable[object]:
        return coroutine


class MortalLedger(Mortal):
    """What the ledger was told goes on in a thread of its own, also when whoever asked for it was cancelled;
    only death ends it.
    """

    def _called(self, coroutine: Coroutine[Any, Any, object]) -> Awaitable[object]:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asyncio.shield(task)


def make_mortal(kind: type[Mortal], port: object, name: str, process: "Process") -> Mortal:
    """Make a port for a process."""
    return _make_kind(kind, type(port))(port, name, process)  # type: ignore[arg-type]  # classes are hashable


@cache
def _make_kind(kind: type[Mortal], port: type) -> type[Mortal]:
    """Make a kind of port that hands on at once what is no coroutine: a daemon asks for that most often."""
    quick = {
        attribute: property(attrgetter(f"_port.{attribute}"))
        for attribute in dir(port)
        if not attribute.startswith("_") and not asyncio.iscoroutinefunction(getattr(port, attribute))
    }
    return type(kind.__name__, (kind,), quick)


class Process(MortalProcess):
    """One life of a daemon that serves some targets."""

    def __init__(self, world: "World", settings: "list[TargetSettings]", watch: ClockWatch | None) -> None:
        super().__init__()
        self._world = world
        self.checkpoints: list[str] = []
        self.publish = world.events.append
        self.watch = watch or ClockWatch(world.clock, self.publish)
        self.health = LedgerHealth(self.publish)
        self.targets = {each.name: self._target(each) for each in settings}
        self.service = Service(
            node="test",
            version="0",
            clock=world.clock,
            watch=self.watch,
            health=self.health,
            publish=self.publish,
        )
        self._main = self.begin(self._serve())

    @property
    def target(self) -> TargetWorker:
        """The only one."""
        (target,) = self.targets.values()
        return target

    def checkpoint(self, name: str) -> None:
        """A call begins or came back. Raises when the process is dead, or dies here."""
        if self.alive:
            self.checkpoints.append(name)
            if self._world.kills(self, name):
                self.kill()
        if not self.alive:
            raise asyncio.CancelledError(f"killed {name}")

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.alive = False
        self.cancel_tasks()

    async def dies(self, within: float) -> bool:
        """Wait so many seconds for its death; whether it came."""
        await asyncio.wait([self._main], timeout=within)
        self.check()
        return not self.alive

    async def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        self.service.stop("told to")
        await self._main

    def check(self) -> None:
        """Raise what it died of, if it did."""
        if self._main.done() and self.alive and not self.service.is_stopping:
            self._main.result()
            raise AssertionError("the daemon ended, and nobody had asked it to")

    def _target(self, settings: TargetSettings) -> TargetWorker:
        world = self._world
        context = Context(
            settings,
            cast("Upstream", make_mortal(Mortal, world.apis[settings.name], "api", self)),
            ledger=cast("Ledger", make_mortal(MortalLedger, world.ledger, "ledger", self)),
            clock=world.clock,
            watch=self.watch,
            health=self.health,
            publish=self.publish,
            parse=world.parse,
        )
        return TargetWorker(context)

    async def _open(self, target: TargetWorker) -> None:
        while True:
            try:
                return await target.open()
            except LedgerUnavailable as error:
                self.health.note_failure("open", str(error))
                await asyncio.sleep(1.0)

    async def _serve(self) -> None:
        for target in self.targets.values():
            await self._open(target)
        await self.service.run(list(self.targets.values()), lambda: self._world.drain_timeout)


@dataclass
class World:
    """Everything around a daemon. One target, ``main``, unless `add_target` makes more. To be made on a
    virtual loop, see `in_world`.
    """

    ledger: LedgerDouble
    policies: Policies = field(default_factory=make_policies)
    drain_timeout: float = 25.0
    begin: datetime = NOON + timedelta(seconds=20)
    clock: VirtualClock = field(init=False)
    apis: dict[str, FakeApi] = field(default_factory=dict)
    settings: dict[str, TargetSettings] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    own_policies: dict[str, Policies] = field(default_factory=dict)
    parse: Callable[[str, str], Schedule] = Schedule.parse
    process: Process | None = None
    forgives_doubles: bool = False
    kills: Callable[[Process, str], bool] = lambda _process, _name: False

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.begin)
        use_owned_tasks()
        self.add_target("main")

    # ------------------------------------------------------------ what there is

    def add_target(self, name: str) -> FakeApi:
        """One more API to serve."""
        api = self.apis[name] = FakeApi(self.clock, name=name)
        self.settings[name] = target_settings(name, self._policies_of)
        return api

    @property
    def api(self) -> FakeApi:
        """The API of the first target."""
        return self.apis["main"]

    def set(self, **settings: Any) -> None:
        """Change settings of the first target, before it is started."""
        self.settings["main"] = replace(self.settings["main"], **settings)

    def _policies_of(self, automation_id: str, _name: str) -> Policies:
        return self.own_policies.get(automation_id, self.policies)

    # ------------------------------------------------------------ its course

    def start(self, watch: ClockWatch | None = None) -> Process:
        """A daemon begins; with a ``watch``, it has been waiting for the ledger since that was made."""
        assert self.process is None or not self.process.alive, "one at a time"
        self.process = Process(self, list(self.settings.values()), watch)
        return self.process

    def kill(self) -> None:
        """It is killed."""
        assert self.process is not None
        self.process.kill()

    async def stop(self) -> Process:
        """It is stopped; what it was."""
        assert self.process is not None
        process, self.process = self.process, None
        await process.stop()
        return process

    async def until(self, clock: str) -> None:
        """Let time pass up to this time of day on the true clock, ``HH:MM:SS``, today or, when that has gone
        by, tomorrow.
        """
        now = self.clock.true_now()
        at = datetime.combine(now.date(), datetime.strptime(clock, "%H:%M:%S").time(), now.tzinfo)  # noqa: DTZ007 -- it gets its zone here
        await self.after((at if at >= now else at + timedelta(days=1)) - now)

    async def after(self, span: timedelta | float) -> None:
        """Let so much time pass; what the daemon died of meanwhile is raised."""
        await asyncio.sleep(span.total_seconds() if isinstance(span, timedelta) else span)
        if self.process is not None:
            self.process.check()

    # ------------------------------------------------------------ what became of it

    def fates(self, automation_id: str) -> dict[str, str]:
        """By time of day, what became of each of its occurrences; a span as ``first..last``."""
        return {_when(row): row.fate for row in self.ledger.of(automation_id)}

    def row(self, automation_id: str, clock: str) -> Row:
        """Its row for this time of day."""
        return next(row for row in self.ledger.of(automation_id) if _when(row) == clock)

    def runs(self, automation_id: str, *, api: FakeApi | None = None) -> list[str]:
        """When its runs were started, whoever did it, to the millisecond."""
        return [
            f"{run.at:%H:%M:%S}.{run.at.microsecond // 1000:03}"
            for run in (api or self.api).runs_of(automation_id)
        ]

    def told(self, kind: type[_E]) -> list[_E]:
        """The events of this kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def concluded(self, automation_id: str) -> list[OccurrenceConcluded]:
        """What was told of its outcomes."""
        return [
            event
            for event in self.told(OccurrenceConcluded)
            if event.occurrence.automation_id == automation_id
        ]

    def forgive_doubles(self) -> None:
        """What the API was made to do in this story is what no client can prevent."""
        self.forgives_doubles = True

    def assert_true(self) -> None:
        """What must hold at any time: no run twice, and what the ledger calls accepted is what the API
        started, one to one.
        """
        if self.forgives_doubles:
            return
        doubled = {
            key: runs for api in self.apis.values() for key, runs in api.runs_by_key().items() if runs > 1
        }
        assert not doubled, f"started twice: {doubled}"
        for name, api in self.apis.items():
            keys = {run.key: run.id for run in api.runs}
            others = {run.id for run in api.runs if run.key is None}
            for row in self.ledger.rows.values():
                if row.occurrence.target == name and row.outcome not in {None, Outcome.UNRESOLVED}:
                    started = keys.get(self._key(row.occurrence))
                    mistaken = (
                        row.run_id in others
                    )  # so close to the attempt that it could be the one, or hides the one
                    says = f"{row.occurrence.automation_id} {_when(row)} {row.fate} {row.run_id}"
                    assert started == row.run_id or mistaken, f"{says}, and the API started {started}: {row}"

    def assert_settled(self) -> None:
        """Nothing is open any more, and all that must hold does."""
        self.assert_true()
        still_open = [row for row in self.ledger.rows.values() if row.outcome is None]
        assert not still_open, f"without an outcome: {still_open}"

    def _key(self, occurrence: Occurrence) -> str:
        settings = self.settings[occurrence.target]
        return make_idempotency_key(
            settings.url, settings.project_id, occurrence.automation_id, occurrence.scheduled_for
        )


def _when(row: Row) -> str:
    first = f"{row.occurrence.scheduled_for:%H:%M}"
    return first if row.count == 1 else f"{first}..{row.last:%H:%M}"


def in_world(story: Callable[[World], Coroutine[Any, Any, None]], **world: Any) -> None:
    """Tell a story in a world of its own, the same every time."""

    async def main() -> None:
        with closing(LedgerDouble()) as ledger:
            made = World(ledger, **world)
            await story(made)
            made.assert_true()

    before = random.getstate()
    random.seed(0)  # back-off draws
    try:
        run_virtual(main())
    finally:
        random.setstate(before)


READINGS: Final = ("api.read_snapshot", "api.retrieve", "api.warm", "ledger.read_", "ledger.find_")


def list_traces(checkpoints: Sequence[str]) -> list[int]:
    """The numbers of the checkpoints at which a death leaves something that the earlier ones did not leave:
    an attempt that is about to leave, an answer, a write, and the first reading after each attempt.

    All other readings leave nothing but the time that they took.
    """
    traces, reads = list[int](), False
    for number, name in enumerate(checkpoints, 1):
        if name == "after api.retrieve" and reads:
            traces.append(number)
            reads = False
        elif name == "before api.run":
            traces.append(number)
            reads = True
        elif name.startswith("after") and not name.removeprefix("after ").startswith(READINGS):
            traces.append(number)
    return traces


def look_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a daemon look at its clocks and at what waits once a minute, for a story of a day."""
    monkeypatch.setattr(clock_watch, "TICK", 60.0)
    monkeypatch.setattr(waits, "RECORD_INTERVAL", 60.0)


def slow(world: World, verb: str, seconds: float) -> None:
    """The ledger takes its time for this."""
    quickly = getattr(world.ledger, verb)

    async def slowly(*args: Any, **kwargs: Any) -> object:
        await asyncio.sleep(seconds)
        return await quickly(*args, **kwargs)

    world.ledger.__dict__[verb] = slowly
