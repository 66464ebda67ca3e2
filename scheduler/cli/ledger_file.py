"""The ledger during a command: used as its owner, beside a daemon that may have the ledger open too.

Commands look an automation up in the collection of the ledger's automations.
"""

import asyncio
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from scheduler.cli.file_owner import NotPermitted, act_as_owner
from scheduler.cli.lookup import AutomationCollection, Candidate
from scheduler.cli.times import now
from scheduler.core.command_line import format_daemon_command
from scheduler.core.errors import ConfigurationError, LedgerUnavailable, Unreachable
from scheduler.database.errors import translate_errors
from scheduler.database.lock_file import read_holder
from scheduler.ledger import automations
from scheduler.ledger.automations import AutomationMatch
from scheduler.ledger.lock import LedgerLock, is_locked
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
    with act_as_ledger_owner(path), closing(open_for_reading(path)) as connection:
        yield connection


@contextmanager
def act_as_ledger_owner(path: Path) -> Iterator[None]:
    """Switch to the owner of the ledger, for code that opens the ledger itself.

    Raises the exceptions of `open_read_only`.
    """
    with act_as_owner(path), translate_errors(path):
        _require_ledger(path)
        yield


def make_ledger_collection(
    connection: sqlite3.Connection, target: str | None = None, *, only_present: bool = False
) -> AutomationCollection[AutomationMatch]:
    """Make the collection for a target, or for all targets, removed automations included.

    ``only_present``: only the automations of the newest snapshot, by their current names.
    """
    where = " in the newest snapshot" if only_present else " in the ledger"
    collection = AutomationCollection(
        where if target is None else f"{where}, target {target}",
        partial(automations.find_named, connection, target, only_present=only_present),
        partial(automations.find_with_prefix, connection, target, only_present=only_present),
        partial(automations.read_names, connection, target),
        lambda match: Candidate(match.automation_id, match.name, f"target {match.target}", match.target),
    )
    find_formerly_named = partial(automations.find_formerly_named, connection, target)
    return collection if only_present else replace(collection, find_formerly_named=find_formerly_named)


def acquire_lock(path: Path, at: datetime) -> LedgerLock:
    """Lock a ledger, which may not exist yet, for the owner of its files.

    Raises `ConfigurationError` naming the daemon that uses the ledger.
    """
    lock = LedgerLock.try_acquire(path, node=f"{socket.gethostname()} (scheduler)", since=at)
    if lock is None:
        holder = read_holder(path)
        raise ConfigurationError(f"the ledger {path} is in use by {holder}; stop that daemon first")
    return lock


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
    with closing(open_ledger(path)) as database:
        return await database.write(operation)


def write_alone(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``operation`` as `write` does, while no other process uses the ledger.

    Raises `ConfigurationError` naming the daemon that uses the ledger, or `NoLedger`.
    """
    with act_as_owner(path):
        _require_ledger(path)
        lock = acquire_lock(path, now())
    try:
        return write(path, operation)
    finally:
        lock.release()


@contextmanager
def wake_daemon_after(path: Path) -> Iterator[None]:
    """Wake the daemon of this ledger at the end of the block, if a daemon runs.

    The daemon is woken after an error too: the change may have been made.
    """
    try:
        yield
    finally:
        with suppress(OSError, NotPermitted), act_as_owner(path):
            wake(path)


def write_and_wake(path: Path, operation: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``operation`` as `write` does, and wake the daemon."""
    with wake_daemon_after(path):
        return write(path, operation)


def _require_ledger(path: Path) -> None:
    if not path.exists():
        remedy = "name the right one with --state-dir, --config or [ledger] url"
        raise NoLedger(f"there is no ledger {path}; {remedy}, or start `{format_daemon_command()}` once")
