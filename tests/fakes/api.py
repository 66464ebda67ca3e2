"""`FakeApi`: the service, with its own truth: every run that it ever started, for whom and why, whatever its
client was told.

What it does with a request is a `Deed`, so that a test says what happens and not how. It outlives the client:
what has arrived is carried out, also when whoever asked for it is dead by then.
"""

import asyncio
import uuid
from collections import Counter, defaultdict, deque
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from scheduler.core.model import Automation, Definition, InvalidAutomation, Snapshot
from scheduler.core.request_budget import Purpose, compute_need
from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from tests.virtual import VirtualClock

if TYPE_CHECKING:
    from scheduler.core.errors import UpstreamError
    from scheduler.daemon.ports import AttemptReservation
    from scheduler.upstream.budget import Budget

NEWEST: Final = "the newest"


@dataclass(frozen=True, slots=True)
class Deed:
    """What becomes of one request to run: when a run is started, if ever, and what the client hears after how
    long.
    """

    took: float = 0.02  # seconds until the client hears
    starts: float | None = (
        0.01  # seconds until a run is started, also after the client has heard; None: never
    )
    hears: AttemptResponse | NotStarted | MaybeStarted | None = (
        None  # None: 200 with the automation as it is by then
    )
    shows_run: str | None = NEWEST  # in that answer


SERVED: Final = Deed()
REFUSED: Final = Deed(took=0.001, starts=None, hears=NotStarted("connection refused"))
LOST_REQUEST: Final = Deed(took=30.0, starts=None, hears=MaybeStarted("no answer within 30 s"))
LOST_ANSWER: Final = Deed(took=30.0, starts=0.5, hears=MaybeStarted("no answer within 30 s"))
RESET_BEFORE: Final = Deed(took=0.1, starts=None, hears=MaybeStarted("connection reset"))
RESET_AFTER: Final = Deed(took=0.1, starts=0.05, hears=MaybeStarted("connection reset"))
NULL_RUN: Final = Deed(shows_run=None)
GONE: Final = Deed(starts=None, hears=AttemptResponse(404, error="Not found."))


def answered(status: int, *, starts: float | None = None, took: float = 0.02, **details: object) -> Deed:
    """An answer other than the usual one. Most start nothing."""
    return Deed(took=took, starts=starts, hears=AttemptResponse(status, **details))  # type: ignore[arg-type]  # the fields of Answer


def carried_out_after(seconds: float, *, given_up_after: float = 30.0) -> Deed:
    """A request that hangs, is given up, and is carried out at some time all the same."""
    return Deed(
        took=given_up_after, starts=seconds, hears=MaybeStarted(f"no answer within {given_up_after:g} s")
    )


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that really was started. ``key`` is the Idempotency-Key of the request that did it; None:
    somebody else's.
    """

    id: str
    automation_id: str
    at: datetime
    key: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request to run that really arrived, whatever became of it."""

    automation_id: str
    key: str
    at: datetime


class _Place:
    """A place where there is no budget."""

    def use(self) -> None:
        """It is not counted."""

    def give_back(self) -> None:
        """It is not counted."""


class FakeApi:
    """One target's API. Its clock is right, unless ``skew`` says how far ahead it is; the client's may have
    been set wrong.
    """

    def __init__(self, clock: VirtualClock, *, name: str = "main") -> None:
        self.clock = clock
        self.name = name
        self.skew = 0.0
        self.shows_date = True
        self.honours_keys = False
        self.run_lasts: float | None = None  # seconds until a run succeeds; None: until somebody says so
        # what the next requests meet
        self.deed = SERVED
        self.list_took = 0.05
        self.pages = 1
        self.list_error: UpstreamError | None = None
        self.list_complete = True
        self.list_hides: set[str] = set()
        self.get_took = 0.02
        self.get_error: UpstreamError | None = None
        self.get_hides: set[str] = set()
        self.budget: Budget | None = (
            None  # that fires, polls and readings need places of; None: there is always one
        )
        self.admits = True  # whether there is a place for anybody
        self.warm_took = 0.0
        self.broken: dict[str, InvalidAutomation] = {}
        self.anonymous: list[str] = []  # objects of the list that nobody can identify
        self.fingerprint = 1  # of these
        # what really happened
        self.runs: list[StartedRun] = []
        self.arrivals: list[Arrival] = []
        self.polls: list[datetime] = []
        self.readings: list[tuple[str, datetime]] = []
        self.warmed: list[int] = []
        self._automations: dict[str, Automation] = {}
        self._deeds: defaultdict[str, deque[Deed]] = defaultdict(deque)
        self._answers: dict[str, AttemptResponse] = {}
        self._offset: float | None = None
        self._made = count(1)
        self._numbers = count(1)

    # ------------------------------------------------------------ what people do to it

    def now(self) -> datetime:
        """What the API's own clock shows."""
        return self.clock.true_now() + timedelta(seconds=self.skew)

    def create(
        self, cron: str = "* * * * *", *, timezone: str = "UTC", enabled: bool = True, name: str | None = None
    ) -> str:
        """Make an automation; its id."""
        number = next(self._made)
        automation_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}/{number}"))
        definition = Definition(cron, timezone, enabled)
        self._automations[automation_id] = Automation(
            automation_id, name or f"automation {number}", definition, self.now()
        )
        return automation_id

    def edit(self, automation_id: str, **changes: object) -> None:
        """Change its cron_expression, timezone, enabled or name."""
        before = self._automations[automation_id]
        name = str(changes.pop("name", before.name))
        definition = replace(before.definition, **changes)  # type: ignore[arg-type]  # the fields of Definition
        self._automations[automation_id] = replace(
            before, name=name, definition=definition, updated_at=self.now()
        )

    def delete(self, automation_id: str) -> None:
        """Remove it."""
        self._automations.pop(automation_id)

    def bring_back(self, automation: Automation) -> None:
        """One that was removed is there again, as of now, under its old id."""
        self._automations[automation.id] = replace(automation, updated_at=self.now())

    def run_by_somebody(self, automation_id: str) -> str:
        """Somebody else starts a run; its id."""
        return self._start(automation_id, None)

    def finish(self, automation_id: str, status: str = "success", *, error: str | None = None) -> None:
        """Its newest run comes to an end."""
        before = self._automations[automation_id]
        self._automations[automation_id] = replace(
            before, run_status=status, run_error=error, updated_at=self.now()
        )

    def script(self, automation_id: str, *deeds: Deed) -> None:
        """What the next requests to run this automation meet, in order; afterwards it is `deed` again."""
        self._deeds[automation_id].extend(deeds)

    @property
    def ids(self) -> list[str]:
        """Of the automations that there are."""
        return list(self._automations)

    def show(self, automation_id: str) -> Automation:
        """The automation as it is."""
        return self._automations[automation_id]

    def runs_of(self, automation_id: str) -> list[StartedRun]:
        """Every run of it that was ever started."""
        return [run for run in self.runs if run.automation_id == automation_id]

    def runs_by_key(self) -> Counter[str]:
        """How many runs were started under each key; more than one is what must never be."""
        return Counter(run.key for run in self.runs if run.key is not None)

    # ------------------------------------------------------------ what the daemon asks of it

    @property
    def clock_offset(self) -> tuple[float, float] | None:
        """How far the API's clock was ahead of the client's when it last answered."""
        return None if self._offset is None else (self._offset, 0.5)

    def note_clock_step(self) -> None:
        """The client's was."""
        self._offset = None

    async def read_snapshot(self) -> Snapshot:
        """All automations, as they are half-way through the reading."""
        if self.budget is not None:
            for page in range(self.pages):
                await self.budget.wait_for_place(Purpose.POLL, self.pages if page == 0 else 1)
        begun_at, begun = self.clock.now(), self.clock.boottime()
        self.polls.append(begun_at)
        await asyncio.sleep(self.list_took / 2)
        automations = {
            each: automation for each, automation in self._automations.items() if each not in self.list_hides
        }
        broken, disagreement, error = (
            dict(self.broken),
            None if self.list_complete else "its count is wrong",
            self.list_error,
        )
        await asyncio.sleep(self.list_took / 2)
        self._answer()
        if error is not None:
            raise copy(error)
        kept = {each: automation for each, automation in automations.items() if each not in broken}
        anonymous = tuple(self.anonymous)
        fingerprint = self.fingerprint if anonymous else 0
        complete, ended = disagreement is None, self.clock.boottime()
        unidentified = len(anonymous)
        return Snapshot(
            begun_at,
            begun,
            ended,
            kept,
            broken,
            complete,
            self._offset,
            unidentified,
            anonymous,
            fingerprint,
            disagreement,
        )

    async def retrieve(self, automation_id: str) -> Automation | None:
        """One automation, as it is half-way through the reading."""
        if self.budget is not None:
            await self.budget.wait_for_place(Purpose.READING)
        self.readings.append((automation_id, self.clock.now()))
        await asyncio.sleep(self.get_took / 2)
        automation = None if automation_id in self.get_hides else self._automations.get(automation_id)
        broken, error = self.broken.get(automation_id), self.get_error
        await asyncio.sleep(self.get_took / 2)
        self._answer()
        if error is not None:
            raise copy(error)
        if broken is not None:
            raise copy(broken)
        return automation

    def reserve(self) -> "AttemptReservation | None":
        """A place in the budget."""
        if self.budget is None:
            return _Place() if self.admits else None
        return self.budget.reserve()

    def estimate_wait(self) -> float:
        """When there may be one."""
        return 1.0 if self.budget is None else self.budget.estimate_wait()

    @property
    def blocked_until(self) -> float:
        """Until when the budget lets nothing through."""
        return float("-inf") if self.budget is None else self.budget.blocked_until

    def resume_wait(self, seconds: float) -> None:
        """Let the budget let nothing through for so long."""
        if self.budget is not None:
            self.budget.resume_wait(seconds)

    def expect(self, *, poll_interval: float, polls: float, readings: float, at_once: int) -> None:
        """The list takes ``pages`` requests."""
        if self.budget is not None:
            self.budget.expect(
                compute_need(
                    poll_interval=poll_interval,
                    polls=polls,
                    pages=self.pages,
                    readings=readings,
                    at_once=at_once,
                )
            )

    async def run(
        self, automation_id: str, idempotency_key: str
    ) -> AttemptResponse | NotStarted | MaybeStarted:
        """One attempt: it meets the next deed of its script. A client that dies meanwhile changes nothing of
        it.
        """
        deed = self._deeds[automation_id].popleft() if self._deeds[automation_id] else self.deed
        if not isinstance(deed.hears, NotStarted):
            self.arrivals.append(Arrival(automation_id, idempotency_key, self.clock.now()))
        if deed.starts is not None:
            asyncio.get_running_loop().call_later(
                deed.starts, self._carry_out, automation_id, idempotency_key
            )
        await asyncio.sleep(deed.took)
        return self._said(deed, automation_id, idempotency_key)

    async def warm(self, connections: int) -> None:
        """Opens nothing, but may take its time."""
        self.warmed.append(connections)
        await asyncio.sleep(self.warm_took)

    # ------------------------------------------------------------ what goes on inside

    def _carry_out(self, automation_id: str, key: str) -> None:
        known = self.honours_keys and any(run.key == key for run in self.runs)
        if automation_id in self._automations and not known:
            self._start(automation_id, key)

    def _start(self, automation_id: str, key: str | None) -> str:
        before, run_id, at = (
            self._automations[automation_id],
            f"{self.name}-run-{next(self._numbers)}",
            self.now(),
        )
        self.runs.append(StartedRun(run_id, automation_id, at, key))
        self._automations[automation_id] = replace(
            before, run_id=run_id, run_at=at, run_status="running", run_error=None, updated_at=at
        )
        if self.run_lasts is not None:
            asyncio.get_running_loop().call_later(
                self.run_lasts, self._finish_if_newest, automation_id, run_id
            )
        return run_id

    def _finish_if_newest(self, automation_id: str, run_id: str) -> None:
        automation = self._automations.get(automation_id)
        if automation is not None and automation.run_id == run_id:
            self.finish(automation_id)

    def _said(self, deed: Deed, automation_id: str, key: str) -> AttemptResponse | NotStarted | MaybeStarted:
        if isinstance(deed.hears, NotStarted | MaybeStarted):
            return deed.hears
        self._answer()
        if deed.hears is not None:
            return deed.hears
        if self.honours_keys and key in self._answers:
            return self._answers[key]
        automation = self._automations.get(automation_id)
        if automation is None and any(run.key == key for run in self.runs):
            return AttemptResponse(500, error="It was deleted while its run was being started.")
        if automation is None:
            return AttemptResponse(404, error="Not found.")
        self._answers[key] = AttemptResponse(
            200, automation if deed.shows_run == NEWEST else replace(automation, run_id=deed.shows_run)
        )
        return self._answers[key]

    def _answer(self) -> None:
        """Every answer shows a Date."""
        self._offset = (self.now() - self.clock.now()).total_seconds() if self.shows_date else None
