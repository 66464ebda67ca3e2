"""What the daemon needs from the world, as protocols of few methods. Their makers live in `upstream`, `ledger` and `daemon.clock`."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.events import Event
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    Automation,
    Claim,
    Conclusion,
    DefinitionVersion,
    Gap,
    Occurrence,
    OpenOccurrence,
    Run,
    RunOrigin,
    Skip,
    SkippedSpan,
    Snapshot,
    State,
)
from scheduler.core.occurrence_log import Step
from scheduler.core.recorded_state import RecordedRuns, RecordedTargetState, ThrottleSpan
from scheduler.core.verdict import AttemptResponse, NoResponse, NotSent


class DaemonClock(Protocol):
    """Three clocks: one that people read and set, and two that only ever go forward."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""

    def boottime(self) -> float:
        """Seconds since some fixed point, also those the machine was suspended for."""

    def monotonic(self) -> float:
        """Seconds since some fixed point, without those."""


class AttemptReservation(Protocol):
    """A place in the request budget, for one attempt."""

    def use(self) -> None:
        """Send the request now."""

    def give_back(self) -> None:
        """Give the place back, unless it was used or given back before."""


class Upstream(Protocol):
    """One target's API. Nothing here raises what a caller could not foresee: `UpstreamError` is all."""

    async def read_snapshot(self) -> Snapshot:
        """A verified reading of all automations. Raises `UpstreamError`."""

    async def retrieve(self, automation_id: str) -> Automation | None:
        """One automation; None when the API says 404. Raises `UpstreamError` or `InvalidAutomation`."""

    @property
    def clock_offset(self) -> tuple[float, float] | None:
        """How many seconds the API's clock is ahead of ours, and how far off that may be; None while it has shown no Date."""

    def note_clock_step(self) -> None:
        """Ours was: how far ahead the API's is now, its next answer says."""

    def reserve(self) -> "AttemptReservation | None":
        """Reserve a place in the request budget for one attempt; None when there is none now."""

    def estimate_wait(self) -> float:
        """Return the seconds until `reserve` may give a place; 0 when it gives one now."""

    @property
    def blocked_until(self) -> float:
        """Until when the API asked to send nothing, on the clock that counts suspend; -inf: it never did."""

    def resume_wait(self, seconds: float) -> None:
        """Send nothing for so many seconds from now on, in place of every wait of before.

        The API asked an earlier process for that.
        """

    def expect(self, *, poll_interval: float, polls: float, readings: float, at_once: int) -> None:
        """Keep a reserve in the budget for so many polls and readings a second; ``at_once`` automations are read at the same time."""

    async def run(self, automation_id: str, idempotency_key: str) -> AttemptResponse | NotSent | NoResponse:
        """One attempt. Never raises for what the network or the API do."""

    async def warm(self, connections: int) -> None:
        """Have this many connections open and ready, as far as they can be had. Sends no request."""


class Ledger(Protocol):
    """The durable record. Every method that writes returns when its write is durable, and raises `LedgerUnavailable` when it is not.

    ``steps`` are what became of an occurrence before, for people to read; they ride in a write that is made anyway.
    """

    async def bind(self, target: str, url: str, project_id: str) -> RecordedTargetState:
        """Bind the name to its URL and project, or check that it is. Raises `TargetMismatch`. Returns what is recorded of it."""

    async def record_snapshot(
        self,
        target: str,
        snapshot_at: datetime,
        versions: Sequence[DefinitionVersion],
        changed: Sequence[Automation],
        removed: Collection[str],
        *,
        unseen: Mapping[str, datetime | None] = MappingProxyType({}),
        whole: bool = True,
    ) -> None:
        """Record what a snapshot changed. The watermark goes back to the earliest ``effective_from``: nothing it implies is missed.

        ``unseen``: since when automations are not shown any more; None for those that are shown again.
        ``whole`` is False while more of the snapshot follows: the snapshot counts as taken with its last part.
        """

    async def record_throttle(self, target: str, span: ThrottleSpan | None) -> None:
        """Record the wait that the API of the target asked for; None: there is none any more."""

    async def claim(
        self,
        target: str,
        claims: Sequence[Claim],
        skips: Sequence[Skip],
        watermark: datetime,
        *,
        spans: Sequence[SkippedSpan] = (),
        gaps: Sequence[Gap] = (),
    ) -> Mapping[Occurrence, int]:
        """Make the rows that are not there yet, move the watermark, and replace the target's gaps by ``gaps``, in one transaction.

        Returns the rows that it made, by their first occurrence, with how many each of them holds: of what is passed over some may have
        a row already, and what these divide becomes a row each.
        """

    async def write_attempt(self, occurrence: Occurrence, attempt: Attempt, steps: Sequence[Step] = ()) -> None:
        """Write an attempt before its first byte; the same number again moves its instant and baseline."""

    async def end_attempt(self, occurrence: Occurrence, end: AttemptEnd, state: State, steps: Sequence[Step] = ()) -> None:
        """An attempt ended without an outcome for its occurrence, which goes on in ``state``."""

    async def resolve_not_started(self, occurrence: Occurrence, steps: Sequence[Step] = ()) -> None:
        """Its newest attempt, whose outcome was unknown, turned out to have started nothing: it waits."""

    async def conclude(
        self, occurrence: Occurrence, conclusion: Conclusion, end: AttemptEnd | None = None, steps: Sequence[Step] = ()
    ) -> bool:
        """Give the occurrence its outcome. False, and nothing written, when the run belongs to another occurrence already."""

    async def withdraw(self, occurrences: Sequence[Occurrence]) -> None:
        """Take back claims that were never sent, as if they had not been made. An error when an attempt of one came to an end."""

    async def discard_attempts(self, occurrences: Sequence[Occurrence], steps: Sequence[tuple[Occurrence, Sequence[Step]]] = ()) -> None:
        """Remove the newest attempt of each occurrence: the attempt was written and is never sent. The occurrences wait on.

        ``steps`` are written as in `record_steps`.
        """

    async def record_steps(self, steps: Sequence[tuple[Occurrence, Sequence[Step]]]) -> None:
        """Write steps of occurrences although nothing else is written of them. A step without an end that has one already keeps it."""

    async def rewind(self, target: str, now: datetime) -> None:
        """The clock went back to ``now``: withdraw the watermark and the outcomes without an attempt that lie ahead of it.

        Versions that would come into force ahead of it are in force from ``now`` on, and the newest snapshot is no newer. The watermark may
        come to lie earlier than ``now``: what was scheduled since is to be derived anew.
        """

    async def read_open_occurrences(self, target: str) -> list[OpenOccurrence]:
        """Every claim without an outcome, in the order of due."""

    async def find_missing(self, target: str, expected: Sequence[Occurrence]) -> set[Occurrence]:
        """Those of them that have no row, neither of their own nor in a span, and lie in no gap."""

    async def read_late_occurrences(self, target: str, now: datetime) -> list[OpenOccurrence]:
        """Every claim without an outcome whose deadline is before ``now``, in the order of due."""

    async def read_fire_requests(self, target: str) -> list[FireRequest]:
        """What people ask to be made up for, the oldest first."""

    async def reopen(self, request: FireRequest, reopening: Reopening) -> OpenOccurrence | str:
        """Open an occurrence again, or make it, and be done with the request, in one transaction. A text: why it may not be, noted."""

    async def refuse(self, request: FireRequest, why: str) -> None:
        """It is not to be made up for."""

    async def read_pauses(self, target: str) -> frozenset[str]:
        """The ids of paused automations; ``*`` means all of them."""

    async def record_runs(
        self,
        target: str,
        runs: Sequence[tuple[Run, RunOrigin]],
        at: datetime,
        *,
        clock_offset: float | None = None,
        attributed: Collection[str] = (),
        unattributed: Sequence[Run] = (),
    ) -> RecordedRuns:
        """Record what became of runs, or runs not known before, as seen at ``at``. Return what the ledger knows of them.

        Note the ``unattributed`` runs, which were shown while nobody could tell whether an attempt had started them, and remove the notes
        of the ``attributed`` ones, given by their ids. ``clock_offset`` is how many seconds the API's clock is ahead now, for attempts of
        which that is not on record.
        """

    async def read_newest_runs(self, target: str) -> list[Run]:
        """The newest run of every automation that has one."""

    async def read_unattributed_runs(self, target: str) -> list[Run]:
        """Return the runs that are noted as unattributed, in the order of their ids."""

    async def find_run_origin(self, target: str, run_id: str, automation_id: str, started_at: datetime | None) -> RunOrigin | None:
        """Who started this run, as far as the ledger knows; a manual run that was begun around ``started_at`` counts as known."""


class Publish(Protocol):
    """Where events go."""

    def __call__(self, event: Event, /) -> None:
        """Tell whoever subscribed."""
