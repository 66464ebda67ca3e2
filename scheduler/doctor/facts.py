"""All that the checks know: plain values, gathered beforehand. Whatever could not be found out is `UnknownFact`, with the reason.

Those of the ledger come from a process of their own, as JSON, so they hold nothing but texts, numbers and instants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from scheduler.core.model import Automation, Snapshot
from scheduler.core.status import NONE_FAILING, FailingAutomations
from scheduler.settings import Configuration, Problem, Settings, TargetSection
from scheduler.settings.keys import KeyPlace
from scheduler.settings.models import RunnerSettings

PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
TRUST_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables that have to do with the way to an API: those that count for nothing here, and those that count."""
LOOK_BACK: Final = timedelta(days=7)
"""How far back runs that nobody here started, and growth, are looked at."""


@dataclass(frozen=True, slots=True)
class UnknownFact:
    """What could not be found out, and why."""

    reason: str


Occupant = Literal["nobody", "scheduler", "silent", "somebody"] | UnknownFact
"""Who answers at an address that is ours to listen on. ``silent``: somebody accepts connections, and does not answer."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process of ours that holds a database. ``is_stopped``: a signal stopped it, and it does nothing."""

    id: int
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file or a folder: whose it is, and who may do what with it."""

    path: Path
    uid: int
    gid: int
    owner: str  # the user's name, or the number of one who has none
    mode: int  # permissions alone
    size: int

    def is_accessible(self, uid: int, gid: int, what: int) -> bool:
        """Whether this user may do ``what`` (4 read, 2 write) with it, as far as the mode tells."""
        shift = 6 if uid == self.uid else 3 if gid == self.gid else 0
        return uid == 0 or bool(self.mode >> shift & what)


# ---------------------------------------------------------------- a target


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """Where a key comes from. ``error`` is why there is none that can be used; ``kind`` is how it begins, never more of it."""

    place: KeyPlace | None
    file: FileFacts | None = None
    kind: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connectivity:
    """How far one gets to an API without sending it anything. ``broken`` is the step that failed, None when none did.

    With a ``proxy``, as it may be shown, ``name`` and ``connection`` are the proxy's; then comes the proxy's own answer.
    """

    host: str
    port: int
    tls: bool
    addresses: tuple[str, ...] = ()
    expires: datetime | None = None  # the certificate
    issuer: str = ""
    proxy: str = ""
    broken: Literal["name", "connection", "proxy", "tls"] | None = None
    error: str = ""
    verify_code: int | None = None  # OpenSSL's, of a certificate that is refused


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API could not be asked, in the words of its client."""

    text: str
    status: int | None = None
    held: bool = False  # somebody has to mend something; the text ends with what


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFacts:
    """What one reading of all automations showed, and what the probe for the right to write did."""

    snapshot: Snapshot | None = None
    refusal: Refusal | None = None
    requests: int = 0  # that the reading took
    slowest_seconds: float = 0.0  # of these, in seconds
    clock_offset: tuple[float, float] | None = None  # seconds that it is ahead of ours, and how far off that may be
    may_write: bool | None = None  # None: it could not be told
    write_refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """One target. ``connectivity`` and ``api`` are `UnknownFact` when the steps before them failed."""

    settings: TargetSection
    key: KeyFacts
    connectivity: Connectivity | UnknownFact
    api: ApiFacts | UnknownFact

    @property
    def snapshot(self) -> Snapshot | None:
        """What the API shows; None when it could not be read."""
        return self.api.snapshot if isinstance(self.api, ApiFacts) else None


# ---------------------------------------------------------------- the ledger


@dataclass(frozen=True, slots=True)
class LedgerTarget:
    """A target as the ledger binds it, when its automations were last read, and when the ledger was last restored from a backup."""

    name: str
    url: str
    project_id: str
    snapshot_at: datetime | None
    restored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KnownAutomation:
    """An automation, as the API or the ledger's last snapshot shows it. ``broken`` is why it has no definition."""

    target: str
    id: str
    name: str
    cron_expression: str = ""
    timezone: str = ""
    enabled: bool = True
    broken: str | None = None
    run_id: str | None = None
    run_at: datetime | None = None  # on the API's clock


@dataclass(frozen=True, slots=True)
class ForeignRunSummary:
    """Runs of one automation that nobody here started. ``doubles``: how many of them beside an occurrence of ours."""

    target: str
    automation_id: str
    name: str
    count: int
    newest: datetime
    doubles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecord:
    """What stands in a ledger that can be read."""

    occurrences: int = 0
    recent: int = 0  # of these, in the last seven days
    oldest: datetime | None = None
    evaluation: tuple[str, str, int] | None = None  # by which croniter, zone data and rules version, the last time
    targets: tuple[LedgerTarget, ...] = ()
    automations: tuple[KnownAutomation, ...] = ()
    paused: frozenset[tuple[str, str]] = frozenset()  # target and automation; * for all
    foreign_runs: tuple[ForeignRunSummary, ...] = ()
    newest_runs: dict[str, datetime] = field(default_factory=dict)  # by automation, on the API's clock
    failing: FailingAutomations = NONE_FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """The ledger's files, and what is in them. ``error``: it could not be looked at, or is none."""

    path: Path
    folder: FileFacts | None = None
    files: tuple[FileFacts, ...] = ()  # the ledger itself first, if it is there
    writable: bool = True  # for its owner, as is its folder
    filesystem: str = ""
    free: int = 0  # bytes
    error: str | None = None
    application_id: int = 0
    version: int = 0
    has_wal: bool = True
    damage: tuple[str, ...] | None = ()  # what is wrong with its pages; None: it was not looked at to its end
    holder: int | None = None  # the process that has its lock
    lock_text: str = ""  # what stands in the lock file
    record: LedgerRecord | None = None

    @property
    def file(self) -> FileFacts | None:
        """The ledger's own file."""
        return self.files[0] if self.files and self.files[0].path == self.path else None


# ---------------------------------------------------------------- this machine


@dataclass(frozen=True, slots=True)
class ZoneCopy:
    """A copy of the zone data."""

    version: str
    source: str
    root: str


@dataclass(frozen=True, slots=True)
class ZoneFacts:
    """The copies, the one in use first, and the zones in use that another copy has otherwise, with from when on."""

    copies: tuple[ZoneCopy, ...]
    disagreements: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk on which a file or a folder lies, or will lie. ``device`` is the same for all that lies on one disk."""

    path: Path
    device: int
    free: int  # bytes
    filesystem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedFacts:
    """What the embedded API needs on this machine. ``program`` and ``git``: where they are found for a run.

    They are looked up in the PATH of ``server``, which lacks the variables ``unset_variables`` of
    ``[api.runner] environment``. ``program_fault``
    says why the program cannot start although it is there.

    ``runner`` are the settings that the server loads, or would load from its unit, None where its variables are not known.
    ``differing_variables`` names the environment variables that make these settings differ from the settings of this command.

    ``disk`` is that of the database, ``runs_disk`` that of the runs; None when nobody can tell.
    """

    program: str | None
    git: str | None
    folder: FileFacts | None
    database: FileFacts | None
    program_fault: str | None = None
    server: str = "this command"
    unset_variables: tuple[str, ...] = ()
    runner: RunnerSettings | UnknownFact | None = None
    differing_variables: tuple[str, ...] = ()
    disk: DiskFacts | None = None
    runs_disk: DiskFacts | None = None
    interrupted: str | None = None  # a restore that was killed, and what to do


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """What the embedded API keeps on disk, in bytes, of so many ``runs``. Of fewer, when the time did not suffice, ``measured``."""

    database: int
    outputs: int
    clones: int
    runs: int
    measured_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything. Without a ``configuration`` there are only its ``problems`` and what this machine shows by itself."""

    now: datetime
    version: str
    evaluation: tuple[str, str, int]  # this process's croniter, zone data and rules version
    configuration: Configuration | None
    problems: Sequence[Problem] = ()
    file: FileFacts | None = None  # the configuration's
    holds_key: bool = False  # that file
    environment: Mapping[str, str]  # the variables that matter: by name, values only of those that are no secret
    targets: Sequence[TargetFacts] = ()
    ledger: LedgerFacts | UnknownFact
    daemon: Mapping[str, object] | UnknownFact  # its own status page
    daemon_process: ProcessFacts | UnknownFact | None = None  # None: no process holds the ledger, or nobody can tell
    server: Occupant = "nobody"
    embedded: EmbeddedFacts | UnknownFact | None = None  # None: not in use
    embedded_storage: StorageFacts | UnknownFact | None = None  # None: there is nothing yet
    embedded_process: ProcessFacts | UnknownFact | None = None  # the same of the embedded API's database
    embedded_server: Occupant = "nobody"
    embedded_health: Mapping[str, object] | UnknownFact | None = None  # by part, whether the part works; None: nobody answers
    zones: ZoneFacts | UnknownFact
    synchronised: bool | None = None  # the machine's clock; None: it cannot be told

    @property
    def settings(self) -> Settings:
        """The settings; the defaults when the configuration cannot be used."""
        return self.configuration.settings if self.configuration else Settings()

    @property
    def record(self) -> LedgerRecord | None:
        """What stands in the ledger, if it can be read."""
        return self.ledger.record if isinstance(self.ledger, LedgerFacts) else None

    def list_automations(self, target: TargetFacts) -> Sequence[KnownAutomation] | None:
        """All automations of a target, as the API shows them, else as the ledger's last snapshot has them; None: not known."""
        name, snapshot = target.settings.name, target.snapshot
        if snapshot is not None:
            sound = [_make_known_automation(name, each) for each in snapshot.automations.values()]
            return [*sound, *(KnownAutomation(name, id_, error.name or id_, broken=error.reason) for id_, error in snapshot.broken.items())]
        if self.record is None or not any(each.name == name and each.snapshot_at for each in self.record.targets):
            return None
        return [each for each in self.record.automations if each.target == name]

    def get_daemon_target(self, target: str) -> Mapping[str, object]:
        """What the running daemon says of a target; empty when there is none, or it has no such target."""
        listed = self.daemon.get("targets") if isinstance(self.daemon, Mapping) else None
        found = (each for each in listed if isinstance(each, Mapping) and each.get("name") == target) if isinstance(listed, list) else ()
        return next(iter(found), {})


def _make_known_automation(target: str, each: Automation) -> KnownAutomation:
    definition = each.definition
    return KnownAutomation(
        target,
        each.id,
        each.name,
        definition.cron_expression,
        definition.timezone,
        definition.enabled,
        run_id=each.run_id,
        run_at=each.run_at,
    )
