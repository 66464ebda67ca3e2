"""The ledger for the length of one command, as its owner, beside a daemon that may have it open too."""

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from scheduler.cli.file_owner import NotPermitted, act_as_owner
from scheduler.core.command_line import format_daemon_command
from scheduler.core.errors import ConfigurationError, LedgerUnavailable, Unreachable
from scheduler.core.instants import from_text
from scheduler.database.errors import translate_errors
from scheduler.ledger.lock import LedgerLock, is_locked, read_holder
from scheduler.ledger.schema import open_for_reading, open_ledger
from scheduler.ledger.wake import wake

T = TypeVar("T")


class NoLedger(Unreachable):
    """There is no file where the ledger should be: no daemon has run here yet."""


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing. Raises `NoLedger`, and what the file is found to be while it is read: `DatabaseRefused`."""
    with act_as_owner(path), translate_errors(path):
        _require_ledger(path)
        connection = open_for_reading(path)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def act_as_ledger_owner(path: Path) -> Iterator[None]:
    """Be whoever the ledger belongs to, for what opens it by itself. Raises as `open_read_only` does."""
    with act_as_owner(path), translate_errors(path):
        _require_ledger(path)
        yield


@contextmanager
def lock_existing_ledger(path: Path, at: datetime) -> Iterator[None]:
    """Be the only one that uses the ledger. Raises `ConfigurationError` naming the daemon that does, or `NoLedger`."""
    with act_as_owner(path):
        _require_ledger(path)
        lock = _acquire_lock(path, at)
    try:
        yield
    finally:
        lock.release()


def _acquire_lock(path: Path, at: datetime) -> LedgerLock:
    lock = LedgerLock.try_acquire(path, node=f"{socket.gethostname()} (scheduler)", since=at)
    if lock is None:
        raise ConfigurationError(f"the ledger {path} is in use by {read_holder(path)}; stop that daemon first")
    return lock


@contextmanager
def lock_ledger(path: Path, at: datetime) -> Iterator[None]:
    """Keep daemons off a ledger that may not be there yet, whoever this process is meanwhile.

    Raises `ConfigurationError` naming the daemon that uses the ledger, or for a missing folder.
    """
    with act_as_owner(path), translate_errors(path):
        if not path.parent.is_dir():
            raise ConfigurationError(f"there is no folder {path.parent}; name the ledger by --config, or install the daemon first")
        lock = _acquire_lock(path, at)
    try:
        yield
    finally:
        lock.release()


def is_served(path: Path) -> bool:
    """Return whether a daemon has the ledger, so that what is on record is the present; also True when nobody can tell."""
    try:
        return is_locked(path)
    except LedgerUnavailable:
        return True


def read_last_seen(connection: sqlite3.Connection) -> dict[str, datetime]:
    """Return the begin of the newest good poll of each target."""
    rows = connection.execute("SELECT name, snapshot_at FROM target WHERE snapshot_at IS NOT NULL")
    return {name: from_text(snapshot_at) for name, snapshot_at in rows}


def write(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    """What ``operation`` returns once it is durable. Raises `NoLedger`."""
    with act_as_owner(path):
        _require_ledger(path)
        return asyncio.run(_write(path, operation))


async def _write(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    database = open_ledger(path)
    try:
        return await database.write(operation)
    finally:
        database.close()


@contextmanager
def wake_daemon_after(path: Path) -> Iterator[None]:
    """Wake the daemon of this ledger, if one runs, when the block has ended, also with an error: the change may have been made."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, NotPermitted), act_as_owner(path):
            wake(path)


def _require_ledger(path: Path) -> None:
    if not path.exists():
        raise NoLedger(
            f"the ledger {path} is not there; say which one is meant by --state-dir, --config or [ledger] url, "
            f"or start `{format_daemon_command()}` once"
        )
