"""Everything around a daemon, and how a script is played: first the storm, then calm in which all has to
settle.

What really happened is kept, on the true clock, for the checks: every event with the process that told it,
every trouble with its span, every setting with its time. Nothing here decides whether it was right.
"""

import asyncio
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from scheduler.cli import restoration
from scheduler.core.events import Event
from scheduler.core.instants import from_text
from scheduler.core.model import make_idempotency_key
from scheduler.core.pauses import EVERYTHING
from scheduler.daemon.clock import back_off
from scheduler.ledger.operator_requests import Pause as PauseRow
from scheduler.ledger.operator_requests import pause as pause_in
from scheduler.ledger.operator_requests import resume as resume_in
from scheduler.settings.load import Configuration
from scheduler.settings.models import Settings
from tests.mortal_process import use_owned_tasks
from tests.simulation import script as s
from tests.simulation.api import SimulatedApi
from tests.simulation.disk import File
from tests.simulation.draws import Draws
from tests.simulation.network import Link, Sent
from tests.simulation.process import MachineLoop, Process, machine
from tests.simulation.script import Script
from tests.simulation.violation import Violation
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    import sqlite3

    from scheduler.daemon.service import Service

_OPEN_ATTEMPTS: Final = """
    SELECT scheduled_for, written_at FROM occurrence JOIN attempt ON attempt.occurrence_id = occurrence.id
    WHERE outcome IS NULL AND target = ? AND occurrence.automation_id = ? AND result IS NULL
"""
_SEND_WITHIN: Final = timedelta(seconds=15)
"""What is durable may be sent within ten seconds; the connection may take its own time."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event, who told it, and when."""

    process: int
    at: datetime
    wall: datetime
    event: Event


@dataclass(slots=True)
class Trouble:
    """From when to when something kept one target (None: all of them) from working as it should."""

    begin: datetime
    end: datetime | None
    target: str | None
    what: str
    automations: frozenset[str] = frozenset()  # these of the target alone; empty: all of them


@dataclass(frozen=True, slots=True)
class Configured:
    """The settings from an instant on."""

    at: datetime
    settings: Settings
    zones_missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Looked:
    """What kept a process from being ready when somebody asked, and the newest instant of each automation
    that was on record then.
    """

    process: int
    at: datetime
    problems: Sequence[str]
    decided: Mapping[tuple[str, str], datetime]


@dataclass(frozen=True, slots=True)
class Woken:
    """A process that a command woke, and when."""

    process: int
    at: datetime


@dataclass(slots=True)
class Restoration:
    """A ledger that was restored: when its backup was made, which occurrences that knows, and when it was put
    in place and resumed.
    """

    backed_up: datetime
    known: frozenset[tuple[str, str, datetime]]
    restored: datetime
    resumed: datetime | None = None


class World:
    """One simulation. To be made on a `MachineLoop`."""

    def __init__(self, script: Script, folder: Path) -> None:
        self.script, self.setting = script, script.setting
        self.draws = Draws(script.seed)
        self.clock = VirtualClock(self.setting.begin)
        self.file = File(self.setting.commit)
        self.narrates = script.seed % 4 == 0
        self.is_audited = script.seed % 3 == 0
        self.zones_missing = self.setting.zones_missing
        self.schedule, self.policies = dict(self.setting.schedule), dict(self.setting.policies)
        self.links = {
            name: self._link(name, plan)
            for name, plan in zip(("main", "other"), self.setting.targets, strict=False)
        }
        self.processes: list[Process] = []
        self.services: dict[int, Service] = {}
        self.events: list[Told] = []
        self.troubles: list[Trouble] = []
        self.configured: list[Configured] = []
        self.pauses: list[Trouble] = []
        self.offsets: list[tuple[datetime, float]] = [(self.setting.begin, 0.0)]  # of the wall clock
        self.violations: list[Violation] = []
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.looks: list[Looked] = []
        self.woken: list[Woken] = []
        self.restorations: list[Restoration] = []
        self._backup: tuple[datetime, sqlite3.Connection] | None = None
        self.ledgers: list[
            sqlite3.Connection
        ] = []  # a copy for each process that was killed, when the script asks for them
        self.folder = folder
        self._ledger = folder / "ledger.db"
        self._offset = 0.0
        self._set_back: list[float] = []
        self._dooms: deque[tuple[s.Dies, int]] = deque()  # of the processes to come
        self.calm_since: datetime | None = None
        self.ended: datetime | None = None

    def _link(self, name: str, plan: s.TargetPlan) -> Link:
        draws = Draws(self.script.seed, name)
        return Link(SimulatedApi(name, plan, self.clock, draws), plan, self.clock, draws)

    # ------------------------------------------------------------ what processes ask

    def configuration(self) -> Configuration:
        """The configuration as it is now."""
        return Configuration(self.configured[-1].settings, None, {})

    def _configure(self) -> None:
        tables = {
            "target": [self._target_table(name, link) for name, link in self.links.items()],
            "schedule": self.schedule,
            "override": [
                {"automation": self.api_of(number).id_of(number), **policy}
                for number, policy in self.policies.items()
                if self.links
            ],
            "ledger": {"url": f"sqlite:///{self._ledger}"},
            "server": {"listen": ""},
            "daemon": {"node": "simulated", "drain_timeout": self.setting.drain},
        }
        self.configured.append(
            Configured(self.clock.true_now(), Settings.model_validate(tables), self.zones_missing)
        )

    def _target_table(self, name: str, link: Link) -> dict[str, object]:
        plan = link.plan
        return {
            "name": name,
            "url": f"https://{name}.example",
            "project_id": "1",
            "idempotent": plan.idempotent,
            "request_timeout": f"{plan.request_timeout:g}s",
            "max_in_flight": plan.max_in_flight,
            "requests_per_minute": plan.requests_per_minute,
            "requests_per_hour": plan.requests_per_hour,
        }

    def api_of(self, number: int) -> SimulatedApi:
        """The API that has the automation of this number."""
        return list(self.links.values())[number % len(self.links)].api

    def told(self, process: Process, event: Event) -> None:
        """A process says that something happened."""
        self.events.append(Told(process.number, self.clock.true_now(), self.clock.now(), event))

    def leaves(self, target: str, sent: Sent) -> None:
        """A request to run leaves: by now its attempt must be durable, and not long ago."""
        found = self.file.connection.execute(_OPEN_ATTEMPTS, (target, sent.automation_id)).fetchall()
        for scheduled_for, written_at in found:
            if (
                make_idempotency_key(
                    f"https://{target}.example", "1", sent.automation_id, from_text(scheduled_for)
                )
                == sent.key
            ):
                if not self.offsets[1:] and sent.at - from_text(written_at) > _SEND_WITHIN:
                    text = f"sent at {sent.at}, on the strength of {written_at}"
                    self.violations.append(
                        Violation("stale", text, sent.automation_id, from_text(scheduled_for))
                    )
                return
        self.violations.append(
            Violation(
                "not durable", f"sent at {sent.at} without an attempt on record: {found}", sent.automation_id
            )
        )

    def died(self, process: Process) -> None:
        """A process was killed."""
        self.counts["kills"] += 1
        if self.setting.keep_ledgers:
            self.ledgers.append(self.file.copy())
        self._begin_trouble(None, f"process {process.number} was killed")
        self._end_trouble(f"process {process.number} was killed")

    def fell(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something was raised where nobody could catch it."""
        self.violations.append(Violation("loop", f"{context.get('message')} {context.get('exception')!r}"))

    # ------------------------------------------------------------ its course

    async def play(self) -> None:
        """The storm, then the calm."""
        for number, planned in enumerate(self.setting.automations):
            self.api_of(number).create(
                self.api_of(number).id_of(number), f"name {number}", planned.expression, planned.timezone
            )
        self._configure()
        self.start()
        begun = asyncio.get_running_loop().time()
        for action in self.script.actions:
            await self._wait(begun + action.at)
            self.counts[_kind(action)] += 1
            self._do(action)
        await self._wait(begun + self.setting.span)
        await self._calm()

    async def _wait(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))

    async def _calm(self) -> None:
        self._mend()
        while self._alive() is None or self._waits_to_start:
            self._waits_to_start = False
            self.start()
            await asyncio.sleep(1.0)
        self.calm_since = self.clock.true_now()
        await asyncio.sleep(self.setting.calm)
        for process in self.processes:
            if process.alive:
                process.signal(signal.SIGTERM)
                await asyncio.wait([process.main], timeout=120.0)
        self.ended = self.clock.true_now()

    _waits_to_start = False

    def _mend(self) -> None:
        for link in self.links.values():
            link.weather.clear()
            link.api.hidden = frozenset()
            link.api.intruders.clear()
            link.api.finish_all()
            for automation_id in list(link.api.shapes):
                self._unbreak(link.api, automation_id)
        self.file.trouble = None
        for trouble in self.troubles:
            trouble.end = trouble.end or self.clock.true_now()
        if self._offset:
            self._set_clock(-self._offset)
        for target in self.links:
            self._resume(target, EVERYTHING)
        self._dooms.clear()
        for process in self.processes:
            process._doom = None

    def _alive(self) -> Process | None:
        return next((each for each in self.processes if each.alive), None)

    def start(self) -> None:
        """Another process begins, unless the storm is over and one is alive."""
        process = Process(self, len(self.processes))
        self.processes.append(process)
        self.counts["processes"] += 1
        if self._dooms:
            process.doom(*self._dooms.popleft())
            process.main.add_done_callback(lambda _: self._later(1.0, self._start_again))

    def _start_again(self) -> None:
        if self._alive() is None and self.ended is None:
            self.start()

    # ------------------------------------------------------------ actions

    @singledispatchmethod
    def _do(self, action: s.Action) -> None:
        raise NotImplementedError(action)

    @_do.register
    def _(self, action: s.Weather) -> None:
        name = list(self.links)[action.target]
        link = self.links[name]
        link.weather.append(action)
        what = f"{action.fault} {action.status or ''} {'/'.join(action.endpoints)} #{id(action)}"
        self._begin_trouble(name, what, link.api.ids_of(action.automations))
        self._later(action.lasts, lambda: self._weather_ends(link, action, what))

    def _weather_ends(self, link: Link, action: s.Weather, what: str) -> None:
        if action in link.weather:
            link.weather.remove(action)
        self._end_trouble(what)

    @_do.register
    def _(self, action: s.Edit) -> None:
        changes = {
            "cron_expression": action.expression,
            "timezone": action.timezone,
            "enabled": action.enabled,
            "name": action.name,
            "prompt": action.prompt,
        }
        api = self.api_of(action.automation)
        api.edit(
            api.id_of(action.automation),
            **{field: value for field, value in changes.items() if value is not None},
        )

    @_do.register
    def _(self, action: s.Create) -> None:
        api = self.api_of(action.automation)
        api.create(
            api.id_of(action.automation), f"name {action.automation}", action.expression, action.timezone
        )

    @_do.register
    def _(self, action: s.Delete) -> None:
        api = self.api_of(action.automation)
        api.delete(api.id_of(action.automation))

    @_do.register
    def _(self, action: s.Break) -> None:
        api = self.api_of(action.automation)
        automation_id = api.id_of(action.automation)
        document = api.show(automation_id)
        if document is not None and document["cron_expression"] is not None:
            self._broken[automation_id] = document["cron_expression"]
            api.edit(automation_id, cron_expression=None)
            self._later(action.lasts, lambda: self._unbreak(api, automation_id))

    _broken: dict[str, object] = {}  # noqa: RUF012  replaced below, for each world its own

    def _unbreak(self, api: SimulatedApi, automation_id: str) -> None:
        document = api.show(automation_id)
        if document is not None and document["cron_expression"] is None:
            api.edit(automation_id, cron_expression=self._broken[automation_id])

    @_do.register
    def _(self, action: s.Vanish) -> None:
        name = list(self.links)[action.target]
        api = self.links[name].api
        api.hidden = api.ids_of(action.automations) or frozenset(api.shapes)
        what = f"vanish #{id(action)}"
        self._begin_trouble(name, what, api.hidden)
        self._later(action.lasts, lambda: self._list_again(api, what))

    def _list_again(self, api: SimulatedApi, what: str) -> None:
        api.hidden = frozenset()
        self._end_trouble(what)

    @_do.register
    def _(self, action: s.Intrude) -> None:
        intruders = list(self.links.values())[action.target].api.intruders
        intruders.append(action.row)
        self._later(action.lasts, lambda: intruders.remove(action.row) if action.row in intruders else None)

    @_do.register
    def _(self, action: s.Somebody) -> None:
        api = self.api_of(action.automation)
        api.start(api.id_of(action.automation))

    @_do.register
    def _(self, action: s.Ledger) -> None:
        self.file.trouble = action
        what = f"ledger {action.trouble} #{id(action)}"
        self._begin_trouble(None, what)
        self._later(action.lasts, lambda: self._ledger_ends(action, what))

    def _ledger_ends(self, action: s.Ledger, what: str) -> None:
        if self.file.trouble is action:
            self.file.trouble = None
        self._end_trouble(what)

    @_do.register
    def _(self, action: s.Step) -> None:
        self._set_clock(action.seconds)
        if action.back_after is not None:
            self._later(
                action.back_after,
                lambda: (
                    self._set_clock(-action.seconds) if self.calm_since is None and self._offset else None
                ),
            )

    def _set_clock(self, seconds: float) -> None:
        self.clock.step(seconds)
        self._offset += seconds
        self.offsets.append((self.clock.true_now(), self._offset))
        self._disturb()

    @_do.register
    def _(self, action: s.Suspend) -> None:
        before = self.clock.true_now()
        self.clock.suspend(action.seconds)
        self.troubles.append(Trouble(before, self.clock.true_now() + timedelta(seconds=1), None, "suspended"))
        self._disturb()

    def _disturb(self) -> None:
        for process in self.processes:
            if process.alive and process.watch is not None:
                process.watch.disturbed.set()

    @_do.register
    def _(self, action: s.Kill) -> None:
        process = self._alive()
        if process is not None:
            process.doom(action.dies, action.count)
            process.main.add_done_callback(lambda _: self._later(action.down, self._start_again))

    @_do.register
    def _(self, action: s.Doom) -> None:
        self._dooms.extend((action.dies, count) for count in action.counts)

    @_do.register
    def _(self, action: s.Terminate) -> None:
        process = self._alive()
        if process is not None:
            process.signal(signal.SIGTERM)
            process.main.add_done_callback(lambda _: self._later(action.down, self._start_again))

    @_do.register
    def _(self, _: s.Second) -> None:
        if sum(process.alive for process in self.processes) == 1:
            self.start()

    @_do.register
    def _(self, action: s.Reload) -> None:
        self.schedule, self.policies, self.zones_missing = (
            dict(action.schedule),
            dict(action.policies),
            action.zones_missing,
        )
        self._configure()
        for process in self.processes:
            if process.alive and signal.SIGHUP in process.handlers:
                process.signal(signal.SIGHUP)

    @_do.register
    def _(self, action: s.Pause) -> None:
        name = list(self.links)[action.target]
        which = EVERYTHING if action.automation is None else self.links[name].api.id_of(action.automation)
        if self.file.connection.execute("SELECT 1 FROM target WHERE name = ?", (name,)).fetchone() is None:
            return
        if pause_in(self.file.connection, PauseRow(name, which, self.clock.now(), "ada")):
            self.pauses.append(Trouble(self.clock.true_now(), None, name, which))
            self._later(action.lasts, lambda: self._resume(name, which))

    def _resume(self, target: str, which: str) -> None:
        if which == EVERYTHING and any(restored.resumed is None for restored in self.restorations):
            return  # it is resumed with the restored ledger
        resume_in(self.file.connection, target, which, at=self.clock.now(), by="ada")
        for pause in self.pauses:
            if pause.target == target and pause.end is None and which in {pause.what, EVERYTHING}:
                pause.end = self.clock.true_now()

    @_do.register
    def _(self, _: s.Look) -> None:
        process = self._alive()
        if process is not None and process.serving:
            newest = self.file.connection.execute(
                "SELECT target, automation_id, max(last) FROM occurrence GROUP BY 1, 2"
            )
            decided = {(target, automation_id): from_text(last) for target, automation_id, last in newest}
            problems = self.services[process.number].make_status().problems
            self.looks.append(Looked(process.number, self.clock.true_now(), problems, decided))

    @_do.register
    def _(self, _: s.Wake) -> None:
        process = next(
            (process for process in self.processes if process.alive and process.wake_socket is not None), None
        )
        if process is not None and process.wake_socket is not None:
            process.wake_socket.wake()
            self.woken.append(Woken(process.number, self.clock.true_now()))

    @_do.register
    def _(self, _: s.Backup) -> None:
        self._backup = (self.clock.true_now(), self.file.copy())

    @_do.register
    def _(self, action: s.Restore) -> None:
        process = self._alive()
        if process is not None and self._backup is not None:
            process.signal(signal.SIGTERM)
            process.main.add_done_callback(lambda _: self._restore(action))

    def _restore(self, action: s.Restore) -> None:
        """Restore the newest backup as `scheduler restore` does, unless a process uses the ledger."""
        self._later(action.down, self._start_again)
        if self._backup is None or self._alive() is not None or self.calm_since is not None:
            return
        (backed_up, backup), at = self._backup, self.clock.true_now()
        known = {
            (target, id_, from_text(at))
            for target, id_, at in backup.execute(
                "SELECT target, automation_id, scheduled_for FROM occurrence"
            )
        }
        backup.backup(self.file.connection)
        restoration._pause_all(self.file.connection, self.clock.now())
        restored = Restoration(backed_up, frozenset(known), at)
        self.restorations.append(restored)
        self._later(action.down + action.paused, lambda: self._resume_restored(restored))

    def _resume_restored(self, restored: Restoration) -> None:
        """Resume as documented: when the daemon is ready, and so has recorded what was due since the
        backup.
        """
        process = self._alive()
        if process is None or not process.serving or self.services[process.number].make_status().problems:
            self._later(10.0, lambda: self._resume_restored(restored))
            return
        for target in self.links:
            resume_in(
                self.file.connection, target, EVERYTHING, at=self.clock.now(), by="ada", keep_single=True
            )
        restored.resumed = self.clock.true_now()

    # ------------------------------------------------------------ keeping

    def _later(self, seconds: float, then: Callable[[], Any]) -> None:
        asyncio.get_running_loop().call_later(seconds, then)

    def _begin_trouble(
        self, target: str | None, what: str, automations: frozenset[str] = frozenset()
    ) -> None:
        self.troubles.append(Trouble(self.clock.true_now(), None, target, what, automations))

    def _end_trouble(self, what: str) -> None:
        for trouble in self.troubles:
            if trouble.what == what and trouble.end is None:
                trouble.end = self.clock.true_now()


def _kind(action: s.Action) -> str:
    match action:
        case s.Weather(fault=fault):
            return f"network: {fault}"
        case s.Ledger(trouble=trouble):
            return f"ledger: {trouble}"
        case s.Kill(dies=dies):
            return f"kill: {dies}"
        case _:
            return type(action).__name__.lower()


def played(script: Script, folder: Path) -> World:
    """Play a script from its beginning to its end; what happened."""

    async def main() -> World:
        use_owned_tasks()
        world = World(script, folder)
        asyncio.get_running_loop().set_exception_handler(world.fell)
        draws.append(world.draws)
        world._broken = {}
        await world.play()
        return world

    draws: list[Draws] = []

    def draw() -> float:
        return draws[0].draw_back_off()

    with (
        machine(),
        mock.patch.object(back_off, "__defaults__", (draw,)),
        asyncio.Runner(loop_factory=MachineLoop) as runner,
    ):
        return runner.run(main())
