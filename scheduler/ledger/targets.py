"""The targets: their names, their URLs and projects, and the waits that their APIs asked for.

The functions take a connection: for reading, or as operations of `Database.write`.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError, TargetMismatch
from scheduler.core.instants import to_text
from scheduler.core.recorded_state import ThrottleSpan
from scheduler.ledger.rows import parse_first, parse_rows
from scheduler.ledger.sql_batch import Contradiction


@dataclass(frozen=True, slots=True)
class LedgerTarget:
    """A target in the ledger, bound to its URL and project.

    ``snapshot_at``: when the automations were last read. ``throttled_at`` and ``throttled_until``: the newest
    wait that the API asked for. ``restored_at``: when the ledger was last restored from a backup.
    """

    name: str
    url: str
    project_id: str
    snapshot_at: datetime | None
    watermark: datetime | None = None
    throttled_at: datetime | None = None
    throttled_until: datetime | None = None
    restored_at: datetime | None = None

    @property
    def throttle(self) -> ThrottleSpan | None:
        """The newest wait that the API asked for; may be over."""
        if self.throttled_at is None or self.throttled_until is None:
            return None
        return ThrottleSpan(self.throttled_at, self.throttled_until)


def read_targets(connection: sqlite3.Connection) -> list[LedgerTarget]:
    """Read the targets, ordered by name, also from a ledger with an older schema."""
    return parse_rows(LedgerTarget, connection.execute("SELECT * FROM target ORDER BY name"))


def read_target(connection: sqlite3.Connection, name: str) -> LedgerTarget:
    """Read a target. Raises `ConfigurationError` for an unknown target."""
    target = _find_target(connection, name)
    if target is None:
        known = ", ".join(target.name for target in read_targets(connection))
        raise ConfigurationError(
            f"the ledger has no target {name!r}; it knows {known or 'none: start the daemon once'}"
        )
    return target


def _find_target(connection: sqlite3.Connection, name: str) -> LedgerTarget | None:
    return parse_first(LedgerTarget, connection.execute("SELECT * FROM target WHERE name = ?", (name,)))


def _find_bound_target(connection: sqlite3.Connection, url: str, project_id: str) -> LedgerTarget | None:
    select = "SELECT * FROM target WHERE url = ? AND project_id = ?"
    return parse_first(LedgerTarget, connection.execute(select, (url, project_id)))


def bind(connection: sqlite3.Connection, target: str, url: str, project_id: str) -> None:
    """Bind the name to its URL and project, or check the binding. Raises `TargetMismatch`."""
    url = normalize_url(url)
    connection.execute(
        "INSERT INTO target (name, url, project_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (target, url, project_id),
    )
    bound = _find_bound_target(connection, url, project_id)
    if bound is None or bound.name != target:
        wanted = f"project {project_id} at {url}"
        known = _find_target(connection, target)
        raise TargetMismatch(
            _advise_on_name(target, wanted, bound)
            if known is None
            else _advise_on_binding(known, wanted, bound, is_same_project=known.project_id == project_id)
        )


def _advise_on_name(target: str, wanted: str, bound: LedgerTarget | None) -> str:
    assert bound is not None  # otherwise the name would have been bound
    return (
        f"the ledger knows {wanted} as target {bound.name!r}, not as {target!r}: to keep its history "
        "under the new name, stop the daemon "
        f"and run `{format_command(f'target rename {bound.name} {target}')}`; or call it {bound.name!r} "
        "again in the configuration"
    )


def _advise_on_binding(
    known: LedgerTarget, wanted: str, bound: LedgerTarget | None, *, is_same_project: bool
) -> str:
    """Describe the mismatch, and name the command to rename or move the target where a command helps."""
    name = known.name
    text = f"the ledger knows target {name!r} as project {known.project_id} at {known.url}, not as {wanted}: "
    if bound is not None:
        return text + (
            f"that one it knows as {bound.name!r}; give it that name in the configuration, or move both: "
            f"`{format_command(f'target rename {name} {name}-old')}`, then "
            f"`{format_command(f'target rename {bound.name} {name}')}`"
        )
    if is_same_project:
        text += (
            "if it is the same API at a new address, stop the daemon and run "
            f"`{format_command(f'target move {name}')}`; else "
        )
    return text + "give the new target another name in the configuration, to keep the histories apart"


def move_target(connection: sqlite3.Connection, target: str, url: str, project_id: str) -> str | None:
    """Bind a target to the new URL of the API. Return the old URL, None when there is nothing to do.

    No daemon may be running. Raises `ConfigurationError` for another project, for a target missing in the
    ledger, and when the URL belongs to another target.
    """
    url = normalize_url(url)
    known = _find_target(connection, target)
    if known is None:
        raise ConfigurationError(f"the ledger has no target {target!r}: there is nothing to move")
    if known.project_id != project_id:
        raise ConfigurationError(
            f"the ledger knows target {target!r} as project {known.project_id}, not as project {project_id}; "
            "another project needs another name"
        )
    bound = _find_bound_target(connection, url, project_id)
    if bound is not None and bound.name != target:
        raise ConfigurationError(
            f"the ledger knows project {project_id} at {url} as target {bound.name!r}; rename that one first"
        )
    connection.execute("UPDATE target SET url = ? WHERE name = ?", (url, target))
    return None if known.url == url else known.url


def normalize_url(url: str) -> str:
    """Return the URL in the form for comparisons.

    Scheme and host are in lower case, without a default port and without a trailing slash.
    """
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = (
        "" if parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme.lower())} else f":{parts.port}"
    )
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


def rename_target(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Give a target's history another name. No daemon may use the ledger meanwhile.

    Raises `ConfigurationError`.
    """
    read_target(connection, old)
    if old != new and _find_target(connection, new) is not None:
        raise ConfigurationError(f"the ledger has a target {new!r} already; rename that one first")
    connection.execute("UPDATE target SET name = ? WHERE name = ?", (new, old))


def record_throttle(connection: sqlite3.Connection, target: str, span: ThrottleSpan | None) -> None:
    """Record the wait asked for by the API of the target; None: no wait is left."""
    since, until = (None, None) if span is None else (to_text(span.since), to_text(span.until))
    update = "UPDATE target SET throttled_at = ?, throttled_until = ? WHERE name = ?"
    if connection.execute(update, (since, until, target)).rowcount != 1:
        raise Contradiction(f"the target {target!r} has no row in the ledger")


def unthrottle_target(connection: sqlite3.Connection, target: str) -> datetime | None:
    """Delete the wait that the API of a target asked for. Return the end of the wait, None without a wait.

    Raises `ConfigurationError` for a target that is not in the ledger.
    """
    until = read_target(connection, target).throttled_until
    record_throttle(connection, target, None)
    return until


def note_restoration(connection: sqlite3.Connection, at: datetime) -> None:
    """Note for all targets that the ledger was restored from a backup.

    Since the backup, the targets may have had runs without a record in the ledger.
    """
    connection.execute("UPDATE target SET restored_at = ?", (to_text(at),))
