"""What a simulation is told to do: its settings, and a list of timed actions. Drawn from a seed, see
`drawing`; played by `play`.

Apart from the drawing and the playing so that a failing script can be shortened: what is left when actions
are left out makes sense still. Automations are named by their number; an action on one that is not there does
nothing. All times are in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

CALM: Final = 1200.0
"""Seconds in which all has to settle.

The longest back-off, hold, time-out and settle time, one after the other, several times.
"""


class Fault(StrEnum):
    """What a network and a server do to a request."""

    REFUSED = "refused"  # no connection
    NO_CONNECTION = "no connection"  # none within connect_timeout
    LOST_REQUEST = "lost request"  # never arrives, and nobody hears of that
    LOST_ANSWER = "lost answer"  # carried out
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"  # carried out
    HALF_ANSWER = "half answer"  # carried out, the body is cut off
    GARBAGE = "garbage"  # a body that is no answer to that; a run is carried out, or not
    STATUS = "status"  # another status; a 5xx, 408 or 425 may have been carried out
    LATE = "late"  # arrives long after it left
    SLOW = "slow"
    LAGGING = "lagging"  # a read that shows the state of some seconds ago
    SHORT_PAGE = "short page"  # a row is missing, the count is right
    SHIFTING = "shifting"  # a row is renamed while the list is being paged


LIST, RETRIEVE, RUN = "list", "retrieve", "run"
READS = (LIST, RETRIEVE)
ALL = (LIST, RETRIEVE, RUN)


class Disk(StrEnum):
    """What a disk does to a ledger."""

    FULL = "full"
    LOCKED = "locked"
    FSYNC = "fsync"  # the failed write is not seen, but is back after a death before the next write
    SLOW = "slow"


class Dies(StrEnum):
    """Where a process that is to be killed is killed."""

    NOW = "now"
    AT_A_STEP = "at a step"  # of one of its tasks: at an await
    BEFORE_A_COMMIT = "before a commit"
    AFTER_A_COMMIT = "after a commit"  # before anybody hears of it
    BEFORE_A_RUN = "before a run"  # as a request to run leaves
    AFTER_A_RUN = "after a run"  # as its answer comes


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that happens at ``at`` on the event loop's clock."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather(Action):
    """For so long, with this ``chance``, these requests to a target meet a fault."""

    lasts: float
    target: int
    endpoints: tuple[str, ...]
    fault: Fault
    chance: float = 1.0
    status: int = 0
    carried_out: bool = False
    retry_after: str | None = None
    amount: float = 0.0  # seconds of delay or lag; or which garbage
    automations: tuple[int, ...] = ()  # requests about these alone; empty: about all


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(Action):
    """Somebody changes an automation; what is None stays."""

    target: int
    automation: int
    expression: str | None = None
    timezone: str | None = None
    enabled: bool | None = None
    name: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Action):
    """Somebody makes one more automation, or one of this number again when it was deleted."""

    target: int
    automation: int
    expression: str
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Action):
    """Somebody deletes one."""

    target: int
    automation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(Action):
    """The API's object of an automation has no usable definition for so long."""

    lasts: float
    target: int
    automation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanish(Action):
    """The list leaves out automations for so long; each of them still answers. Empty ``automations``: the
    list is empty.
    """

    lasts: float
    target: int
    automations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrude(Action):
    """The list holds one more row for so long, which is this JSON text and no automation."""

    lasts: float
    target: int
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody(Action):
    """A run is started by somebody else."""

    target: int
    automation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger(Action):
    """For so long the disk is in trouble. ``reads``: reading is, too. ``surfaces``: what failed at its fsync
    is there after a crash.
    """

    lasts: float
    trouble: Disk
    reads: bool = False
    surfaces: bool = False
    took: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Action):
    """The wall clock is set, and set right again after so long; None: at the end."""

    seconds: float
    back_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend(Action):
    """The machine sleeps."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(Action):
    """SIGKILL, at the ``count``-th of such places from then on; another process begins so much later."""

    dies: Dies
    count: int
    down: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doom(Action):
    """The processes that begin from then on are killed one after the other, each at its ``counts``-th such
    place; the next begins soon.
    """

    dies: Dies
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate(Action):
    """SIGTERM; another process begins so long after it has ended."""

    down: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Second(Action):
    """A second daemon is started on the same ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(Action):
    """SIGHUP, with other settings."""

    schedule: Mapping[str, str]
    policies: Mapping[int, Mapping[str, object]]
    zones_missing: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Action):
    """An operator pauses an automation, or all (None) of a target; and resumes it after so long."""

    target: int
    automation: int | None
    lasts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Action):
    """Somebody asks the daemon whether it is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(Action):
    """A command on the daemon's machine says that it has changed something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup(Action):
    """Somebody makes a backup of the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore(Action):
    """Somebody stops the daemon, restores the newest backup, starts the daemon after ``down``, and resumes
    all ``paused`` seconds later.
    """

    down: float
    paused: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An automation that there is from the beginning."""

    target: int
    expression: str
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """One target, and what its API is like."""

    idempotent: bool = False
    page: int = 100  # rows that it gives at most
    skew: float = 0.0  # seconds that its clock is ahead
    latency: float = 0.05
    run_lasts: tuple[float | None, ...] = (30.0,)  # one of these; None: without end
    request_timeout: float = 30.0
    max_in_flight: int = 64
    requests_per_minute: int = 400
    requests_per_hour: int = 100_000
    run_id_start: str = ""  # text before the UUID of a run

    @property
    def has_one_page(self) -> bool:
        """Whether the whole list fits into one page."""
        return self.page >= 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How things are at the beginning."""

    begin: datetime
    span: float  # seconds until the storm is over
    targets: tuple[TargetPlan, ...]
    automations: tuple[Planned, ...]
    schedule: Mapping[str, str]  # of [schedule], as it is written
    policies: Mapping[int, Mapping[str, object]]  # of [[override]], by the automation's number
    drain: str = "25s"
    commit: float = 0.003
    zones_missing: frozenset[str] = frozenset()
    calm: float = CALM  # seconds in which everything has to settle after the storm
    loses_nothing: bool = False  # the budget suffices, however much polls would like to have of it
    keep_ledgers: bool = False  # keep a copy of the ledger of each killed process for the checks


@dataclass(frozen=True, slots=True)
class Script:
    """All of it."""

    seed: int
    setting: Setting
    actions: tuple[Action, ...] = field(repr=False)
