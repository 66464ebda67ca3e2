"""Ports of the daemon: small protocols for the clock, the API, the ledger and events.

The implementations live in `upstream`, `ledger` and `scheduler.clock`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.events import Event
from scheduler.core.model import (
    Attempt,
    AttemptEnd,
    Automation,
    ClaimPlan,
    Conclusion,
    Occurrence,
    OpenOccurrence,
    Run,
    RunOrigin,
    RunUpdate,
    Snapshot,
    SnapshotUpdate,
    State,
)
from scheduler.core.occurrence_log import Step, StepsByOccurrence
from scheduler.core.recorded_state import RecordedRuns, RecordedTargetState, ThrottleSpan
from scheduler.core.response import AttemptAnswer


class DaemonClock(Protocol):
    """Three clocks: a wall clock that people read and set, and two clocks that only go forward."""

    def now(self) -> datetime:
        """Return the wall clock: aware, UTC."""

    def boottime(self) -> float:
        """Return the seconds since a fixed point, including the time in suspend."""

    def monotonic(self) -> float:
        """Return the seconds since a fixed point, without the time in suspend."""


class AttemptReservation(Protocol):
    """Reserved place in the request budget, for one attempt."""

    def use(self) -> None:
        """Use the place for a request that is sent now."""

    def give_back(self) -> None:
        """Return the place to the budget, unless the place was used or returned before."""


class Upstream(Protocol):
    """API of one target. Methods raise only `UpstreamError` and, where stated, `InvalidAutomation`."""

    async def read_snapshot(self) -> Snapshot:
        """Return a verified reading of all automations. Raises `UpstreamError`."""

    async def retrieve(self, automation_id: str) -> Automation | None:
        """Return one automation, or None when the API answers 404.

        Raises `UpstreamError` or `InvalidAutomation`.
        """

    @property
    def clock_offset(self) -> tuple[float, float] | None:
        """Clock offset (API clock minus local clock) and its uncertainty, in seconds.

        None until an answer of the API has shown a Date.
        """

    def note_clock_step(self) -> None:
        """Forget the clock offset after a step of the local clock. The next answer gives the new offset."""

    def reserve(self) -> "AttemptReservation | None":
        """Reserve a place in the request budget for one attempt. Return None when no place is free now."""

    def estimate_wait(self) -> float:
        """Return the seconds until `reserve` may give a place; 0 when a place is free now."""

    @property
    def blocked_until(self) -> float:
        """End of the wait requested by the API, on the clock that counts suspend. -inf: no request so far."""

    def resume_wait(self, seconds: float) -> None:
        """Send nothing for ``seconds`` from now on. This wait replaces every earlier wait.

        The API asked an earlier process for this wait.
        """

    def expect(self, *, poll_interval: float, polls: float, readings: float, at_once: int) -> None:
        """Keep a reserve in the request budget for ``polls`` and ``readings`` per second.

        ``at_once`` automations are read in parallel.
        """

    async def run(self, automation_id: str, idempotency_key: str) -> AttemptAnswer:
        """Make one attempt. Never raises because of the network or the API."""

    async def warm(self, connections: int) -> None:
        """Have ``connections`` connections open and ready, as far as possible. Sends no request."""


class Ledger(Protocol):
    """Durable record. A writing method returns when its write is durable.

    Otherwise the method raises `LedgerUnavailable`. ``steps`` are the earlier waits and events of an
    occurrence, for people. A write that is made anyway includes the steps.
    """

    async def bind(self, target: str, url: str, project_id: str) -> RecordedTargetState:
        """Bind the target's name to its URL and project, or check an existing binding.

        Return the recorded state of the target. Raises `TargetMismatch`.
        """

    async def record_snapshot(self, target: str, update: SnapshotUpdate) -> None:
        """Record the changes of a snapshot.

        The watermark goes back to the earliest ``effective_from``, so that no implied occurrence is missed.
        While more of the snapshot follows, the snapshot does not count as taken: it counts with its last
        part.
        """

    async def record_throttle(self, target: str, span: ThrottleSpan | None) -> None:
        """Record the wait that the API of the target asked for. None: the wait is over."""

    async def claim(self, target: str, plan: ClaimPlan) -> Mapping[Occurrence, int]:
        """Make missing rows, move the watermark, and replace the gaps of the target, in one transaction.

        Return the new rows by their first occurrence, with the number of occurrences in each row. Some
        skipped occurrences may have a row already. Such rows divide the others, and each part gets its own
        row.
        """

    async def write_attempt(
        self, occurrence: Occurrence, attempt: Attempt, steps: Sequence[Step] = ()
    ) -> None:
        """Write an attempt before its first byte leaves.

        The same attempt number again replaces the instant and the baseline.
        """

    async def end_attempt(
        self, occurrence: Occurrence, end: AttemptEnd, state: State, steps: Sequence[Step] = ()
    ) -> None:
        """Record the end of an attempt without an outcome. The occurrence continues in ``state``."""

    async def resolve_not_started(self, occurrence: Occurrence, steps: Sequence[Step] = ()) -> None:
        """Resolve the unknown attempt as "not started". The occurrence waits for the next attempt."""

    async def conclude(
        self,
        occurrence: Occurrence,
        conclusion: Conclusion,
        end: AttemptEnd | None = None,
        steps: Sequence[Step] = (),
    ) -> bool:
        """Give the occurrence its outcome. Return False when the run belongs to another occurrence already.

        Nothing is written in this case.
        """

    async def withdraw(self, occurrences: Sequence[Occurrence]) -> None:
        """Withdraw claims that were never sent: their rows are removed.

        Raises an error when an occurrence has an outcome, or an attempt with a result.
        """

    async def discard_attempts(
        self, occurrences: Sequence[Occurrence], steps: StepsByOccurrence = ()
    ) -> None:
        """Remove the newest attempt of each occurrence: the attempt was written and is never sent.

        The occurrences continue to wait. ``steps`` are written as in `record_steps`.
        """

    async def record_steps(self, steps: StepsByOccurrence) -> None:
        """Write steps of occurrences without another change of the occurrences.

        A recorded end of a step stays when the step is written again without an end.
        """

    async def rewind(self, target: str, now: datetime) -> None:
        """Rewind the record, because the clock went back to ``now``.

        The watermark and the outcomes without an attempt that lie ahead of ``now`` are withdrawn. Versions
        that would come into force later than ``now`` are in force from ``now`` on, and the newest snapshot is
        no newer than ``now``. The watermark may become earlier than ``now``: the fire times since the
        watermark are to be derived again.
        """

    async def read_open_occurrences(self, target: str) -> list[OpenOccurrence]:
        """Return every claim without an outcome, in the order of due."""

    async def find_missing(self, target: str, expected: Sequence[Occurrence]) -> set[Occurrence]:
        """Return the expected occurrences without a row: no own row, no span, and no gap contains them."""

    async def read_late_occurrences(self, target: str, now: datetime) -> list[OpenOccurrence]:
        """Return every claim without an outcome whose deadline is before ``now``, in the order of due."""

    async def read_fire_requests(self, target: str) -> list[FireRequest]:
        """Return the backfill requests of operators, oldest first."""

    async def reopen(self, request: FireRequest, reopening: Reopening) -> OpenOccurrence | str:
        """Open an occurrence again, or make it, and remove the request, in one transaction.

        Return a text when the occurrence may not be opened: the reason, which is recorded with the request.
        """

    async def refuse(self, request: FireRequest, why: str) -> None:
        """Refuse a backfill request, and record the reason."""

    async def read_pauses(self, target: str) -> frozenset[str]:
        """Return the ids of paused automations. ``*`` stands for all automations."""

    async def record_runs(self, target: str, update: RunUpdate) -> RecordedRuns:
        """Record new states of runs, and new runs.

        Return the ledger's knowledge of the runs. Notes are written for the unattributed runs, and the notes
        of the attributed runs are removed.
        """

    async def read_newest_runs(self, target: str) -> list[Run]:
        """Return the newest run of every automation with a run."""

    async def read_unattributed_runs(self, target: str) -> list[Run]:
        """Return the runs noted as unattributed, in the order of their ids."""

    async def find_run_origin(self, target: str, run: Run) -> RunOrigin | None:
        """Return the recorded origin of a run, or None when the ledger does not know the run.

        A manual run counts as known when it was requested around the start of the run.
        """


Publish = Callable[[Event], None]
"""Publisher of events: delivers an event to all subscribers."""
