"""The facts for the checks: plain values, collected before the checks run.

A fact that could not be determined is an `UnknownFact` with the reason. The facts of the ledger come as JSON
from a separate process. They hold only texts, numbers and instants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from scheduler.core.cron.zones import ZoneDataCopy
from scheduler.core.model import Automation, Snapshot
from scheduler.ledger.automations import AutomationRow
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget
from scheduler.settings.keys import KeyPlace
from scheduler.settings.load import Configuration
from scheduler.settings.models import RunnerSettings, Settings, TargetSection
from scheduler.settings.problems import Problem

PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
TRUST_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The environment variables for connections to an API.

The scheduler ignores the proxy variables and uses the trust variables.
"""
LOOK_BACK: Final = timedelta(days=7)
"""The period before now in which foreign runs and the growth of the ledger are examined."""


@dataclass(frozen=True, slots=True)
class UnknownFact:
    """A fact that could not be determined, with the reason."""

    reason: str


Occupant = Literal["nobody", "scheduler", "silent", "somebody"] | UnknownFact
"""The program that answers at a listen address of the configuration.

``nobody``: no connection is possible, or no address is configured. ``scheduler``: a scheduler answers.
``silent``: a program accepts connections and does not answer. ``somebody``: any other answer.
"""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A scheduler process that holds a database.

    ``is_stopped``: a signal stopped the process, and the process does nothing.
    """

    id: int
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The owner, the permissions and the size of a file or a folder."""

    path: Path
    uid: int
    gid: int
    owner: str  # the user's name, or the user id of a user without a name
    mode: int  # permission bits only
    size: int

    def is_accessible(self, uid: int, gid: int, what: int) -> bool:
        """Return whether the mode lets this user do ``what`` (4 read, 2 write). Root may do both."""
        shift = 6 if uid == self.uid else 3 if gid == self.gid else 0
        return uid == 0 or bool(self.mode >> shift & what)


# ---------------------------------------------------------------- a target


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The source of a key.

    ``error``: why no usable key exists. ``kind``: the first characters of the key, never more.
    """

    place: KeyPlace | None
    file: FileFacts | None = None
    kind: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connectivity:
    """The result of connecting to an API, without a request.

    ``broken``: the failed step, None without a failure. ``proxy`` is the proxy's address without credentials.
    With a proxy, the steps ``name`` and ``connection`` concern the proxy. The next step is then ``proxy``:
    the proxy's own answer.
    """

    host: str
    port: int
    tls: bool
    addresses: tuple[str, ...] = ()
    expires: datetime | None = None  # end of the certificate's validity
    issuer: str = ""
    proxy: str = ""
    broken: Literal["name", "connection", "proxy", "tls"] | None = None
    error: str = ""
    verify_code: int | None = None  # OpenSSL's code for a refused certificate


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a request to the API failed, in the words of the API client."""

    text: str
    status: int | None = None
    held: bool = False  # an operator has to remove the cause; the text ends with the advice


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFacts:
    """The result of one reading of all automations, and of the test whether the key may write."""

    snapshot: Snapshot | None = None
    refusal: Refusal | None = None
    requests: int = 0  # sent for the reading
    slowest_seconds: float = 0.0  # the slowest of these requests, in seconds
    clock_offset: tuple[float, float] | None = None  # clock offset and its possible error, in seconds
    may_write: bool | None = None  # None: unknown
    write_refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """The facts about one target.

    ``connectivity`` is `UnknownFact` when the examination itself failed or took too long. ``api`` is
    `UnknownFact` also when the API cannot be reached or no key can be used.
    """

    settings: TargetSection
    key: KeyFacts
    connectivity: Connectivity | UnknownFact
    api: ApiFacts | UnknownFact

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot from the API; None when the automations could not be read."""
        return self.api.snapshot if isinstance(self.api, ApiFacts) else None


# ---------------------------------------------------------------- the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """The ledger's files and their content. ``error``: why the file cannot be read, or is no ledger."""

    path: Path
    folder: FileFacts | None = None
    files: tuple[FileFacts, ...] = ()  # the ledger itself first, if the ledger exists
    writable: bool = True  # the owner may write the ledger and the folder
    filesystem: str = ""
    free: int = 0  # bytes
    error: str | None = None
    application_id: int = 0
    version: int = 0
    has_wal: bool = True
    damage: tuple[str, ...] | None = ()  # damaged pages; None: the check was not completed
    holder: int | None = None  # id of the process with the ledger's lock
    lock_text: str = ""  # content of the lock file
    record: LedgerRecord | None = None

    @property
    def file(self) -> FileFacts | None:
        """The ledger's own file; None when the file does not exist."""
        return self.files[0] if self.files and self.files[0].path == self.path else None


# ---------------------------------------------------------------- this machine


@dataclass(frozen=True, slots=True)
class ZoneFacts:
    """The copies of the zone data, and the differences between the copies.

    ``copies``: the copy in use comes first. ``disagreements``: each zone in use with a different definition
    in another copy, and the instant of the first difference.
    """

    copies: tuple[ZoneDataCopy, ...]
    disagreements: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk of an existing or future file or folder. ``device``: the same for all paths on one disk."""

    path: Path
    device: int
    free: int  # bytes
    filesystem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedFacts:
    """The programs, files and settings of the embedded API on this machine.

    ``program`` and ``git``: the paths of these programs for a run, looked up in the PATH of ``server``.
    ``unset_variables``: the variables of ``[api.runner] environment`` missing in ``server``.
    ``program_fault``: why the program cannot start although the program exists.

    ``runner``: the settings that the server loads, or would load from its unit. `UnknownFact`: the settings
    have errors. None: the server's variables are not known. ``differing_variables``: the names of the
    environment variables that make these settings differ from the settings of this command.

    ``disk``: the disk of the database. ``runs_disk``: the disk of the runs. None: unknown.
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
    interrupted: str | None = None  # a restore was killed: the message, with advice


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """The disk usage of the embedded API, in bytes.

    ``runs``: the number of runs on disk. ``measured_runs``: the number of runs measured within the time
    limit.
    """

    database: int
    outputs: int
    clones: int
    runs: int
    measured_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts about an installation.

    Without a usable ``configuration``: its ``problems``, no targets, and the rest by the default settings.
    """

    now: datetime
    version: str
    evaluation: tuple[str, str, int]  # this process's croniter, zone data and rules version
    configuration: Configuration | None
    problems: Sequence[Problem] = ()
    file: FileFacts | UnknownFact | None = None  # the configuration file
    holds_key: bool | UnknownFact = False  # whether the configuration file contains a key
    environment: Mapping[str, str]  # proxy and trust variables; the value of a proxy may be secret
    targets: Sequence[TargetFacts] = ()
    ledger: LedgerFacts | UnknownFact
    daemon: Mapping[str, object] | UnknownFact  # the daemon's own status page
    daemon_process: ProcessFacts | UnknownFact | None = None  # None: no process holds the ledger, or unknown
    server: Occupant = "nobody"
    embedded: EmbeddedFacts | UnknownFact | None = None  # None: not in use
    embedded_storage: StorageFacts | UnknownFact | None = None  # None: no database yet
    embedded_process: ProcessFacts | UnknownFact | None = None  # holder of the embedded API's database
    embedded_server: Occupant = "nobody"
    embedded_health: Mapping[str, object] | UnknownFact | None = None  # whether a part works; None: no answer
    zones: ZoneFacts | UnknownFact = UnknownFact("they were not looked at")
    synchronised: bool | None = None  # this machine's clock; None: unknown

    @property
    def settings(self) -> Settings:
        """The settings, or the default settings when the configuration cannot be used."""
        return self.configuration.settings if self.configuration else Settings()

    @property
    def record(self) -> LedgerRecord | None:
        """The content of the ledger; None when the ledger cannot be read."""
        return self.ledger.record if isinstance(self.ledger, LedgerFacts) else None

    def list_automations(self, target: TargetFacts) -> Sequence[AutomationRow] | None:
        """Return all automations of a target from the API, else from the ledger's last snapshot.

        Return None when neither has a snapshot.
        """
        name, snapshot = target.settings.name, target.snapshot
        if snapshot is not None:
            return [
                *(_make_row(name, automation) for automation in snapshot.automations.values()),
                *(
                    AutomationRow(
                        name, id_, error.name or id_, None, None, enabled=True, invalid=error.reason
                    )
                    for id_, error in snapshot.broken.items()
                ),
            ]
        recorded = self.find_recorded_target(name)
        if self.record is None or recorded is None or recorded.snapshot_at is None:
            return None
        return [row for row in self.record.automations if row.target == name]

    def find_recorded_target(self, name: str) -> LedgerTarget | None:
        """Return the target of this name in the ledger; None when the ledger has no such target."""
        targets = self.record.targets if self.record else ()
        return next((target for target in targets if target.name == name), None)

    @property
    def daemon_targets(self) -> Sequence[Mapping[str, object]]:
        """The running daemon's status of each target; empty without a daemon."""
        listed = self.daemon.get("targets") if isinstance(self.daemon, Mapping) else None
        statuses = listed if isinstance(listed, list) else []
        return [status for status in statuses if isinstance(status, Mapping)]

    def get_daemon_target(self, target: str) -> Mapping[str, object]:
        """Return the running daemon's status of a target; empty without a daemon or without this target."""
        return next((status for status in self.daemon_targets if status.get("name") == target), {})


def _make_row(target: str, automation: Automation) -> AutomationRow:
    definition = automation.definition
    return AutomationRow(
        target,
        automation.id,
        automation.name,
        definition.cron_expression,
        definition.timezone,
        definition.enabled,
        run_id=automation.run_id,
        run_at=automation.run_at,
    )
