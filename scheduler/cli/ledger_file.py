"""The ledger during a command: used as its owner, beside a daemon that may have the ledger open too."""

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
from scheduler.database.errors import translate_errors
from scheduler.ledger.lock import LedgerLock, is_locked, read_holder
from scheduler.ledger.schema import open_for_reading, open_ledger
from scheduler.ledger.wake import wake

T = TypeVar("T")


class NoLedger(Unreachable):
    """The ledger file does not exist: no daemon has run here yet."""


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection that changes nothing. Raises `NoLedger`.

    Raises `DatabaseRefused` for a file found invalid during reading.
    """
    with act_as_owner(path), translate_errors(path):
        _require_ledger(path)
        connection = open_for_reading(path)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def act_as_ledger_owner(path: Path) -> Iterator[None]:
    """Switch to the owner of the ledger, for code that opens the ledger itself.

    Raises the exceptions of `open_read_only`.
    """
    with act_as_owner(path), translate_errors(path):
        _require_ledger(path)
        yield


@contextmanager
def lock_existing_ledger(path: Path, at: datetime) -> Iterator[None]:
    """Lock the ledger, so that no other process uses the ledger.

    Raises `ConfigurationError` naming the daemon that uses the ledger, or `NoLedger`.
    """
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
        raise ConfigurationError(
            f"the ledger {path} is in use by {read_holder(path)}; stop that daemon first"
        )
    return lock


@contextmanager
def lock_ledger(path: Path, at: datetime) -> Iterator[None]:
    """Lock a ledger that may not exist yet, so that no daemon uses the ledger.

    The process may change its user during the block. Raises `ConfigurationError` naming the daemon that uses
    the ledger, or for a missing folder.
    """
    with act_as_owner(path), translate_errors(path):
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"there is no folder {path.parent}; name the ledger by --config, or install the daemon first"
            )
        lock = _acquire_lock(path, at)
    try:
        yield
    finally:
        lock.release()


def is_served(path: Path) -> bool:
    """Return whether a daemon has the ledger, and so keeps the record up to date.

    Return True also when the lock cannot be examined.
    """
    try:
        return is_locked(path)
    except LedgerUnavailable:
        return True


def write(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``operation`` in a transaction, and return its result when durable. Raises `NoLedger`."""
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
    """Wake the daemon of this ledger at the end of the block, if a daemon runs.

    The daemon is woken after an error too: the change may have been made.
    """
    try:
        yield
    finally:
        with contextlib.suppress(OSError, NotPermitted), act_as_owner(path):
            wake(path)


def _require_ledger(path: Path) -> None:
    if not path.exists():
        raise NoLedger(
            f"there is no ledger {path}; name the right one with --state-dir, --config or [ledger] url, "
            f"or start `{format_daemon_command()}` once"
        )
