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

from scheduler.cli.owner import NotPermitted, acting_as_owner
from scheduler.core.command_line import start_daemon
from scheduler.core.errors import ConfigurationError, LedgerUnavailable, Unreachable
from scheduler.core.instants import from_text
from scheduler.database.faults import translated
from scheduler.ledger.lock import LedgerLock, holder, is_locked
from scheduler.ledger.schema import open_for_reading, open_ledger
from scheduler.ledger.wake import wake

T = TypeVar("T")


class NoLedger(Unreachable):
    """There is no file where the ledger should be: no daemon has run here yet."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing. Raises `NoLedger`, and what the file is found to be while it is read: `DatabaseRefused`."""
    with acting_as_owner(path), translated(path):
        _require(path)
        connection = open_for_reading(path)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def using(path: Path) -> Iterator[None]:
    """Be whoever the ledger belongs to, for what opens it by itself. Raises as `reading` does."""
    with acting_as_owner(path), translated(path):
        _require(path)
        yield


@contextmanager
def owning(path: Path, at: datetime) -> Iterator[None]:
    """Be the only one that uses the ledger. Raises `ConfigurationError` naming the daemon that does, or `NoLedger`."""
    with acting_as_owner(path):
        _require(path)
        lock = _locked(path, at)
    try:
        yield
    finally:
        lock.release()


def _locked(path: Path, at: datetime) -> LedgerLock:
    lock = LedgerLock.try_acquire(path, node=f"{socket.gethostname()} (scheduler)", since=at)
    if lock is None:
        raise ConfigurationError(f"the ledger {path} is in use by {holder(path)}; stop that daemon first")
    return lock


@contextmanager
def hold(path: Path, at: datetime) -> Iterator[None]:
    """Keep daemons off a ledger that may not be there yet, whoever this process is meanwhile.

    Raises `ConfigurationError` naming the daemon that uses the ledger, or for a missing folder.
    """
    with acting_as_owner(path), translated(path):
        if not path.parent.is_dir():
            raise ConfigurationError(f"there is no folder {path.parent}; name the ledger by --config, or install the daemon first")
        lock = _locked(path, at)
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
    with acting_as_owner(path):
        _require(path)
        return asyncio.run(_written(path, operation))


async def _written(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    database = open_ledger(path)
    try:
        return await database.write(operation)
    finally:
        database.close()


@contextmanager
def waking(path: Path) -> Iterator[None]:
    """Wake the daemon of this ledger, if one runs, when the block has ended, also with an error: the change may have been made."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, NotPermitted), acting_as_owner(path):
            wake(path)


def _require(path: Path) -> None:
    if not path.exists():
        raise NoLedger(
            f"the ledger {path} is not there; say which one is meant by --state-dir, --config or [ledger] url, "
            f"or start `{start_daemon()}` once"
        )
