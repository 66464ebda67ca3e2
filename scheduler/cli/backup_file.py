"""The file of `scheduler backup`: a database, or an archive of the ledger and the API's database.

Each database is copied as its owner, into a file opened by the caller. A backup is checked as a whole before
any part is written elsewhere.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tarfile import TarInfo
from typing import BinaryIO, Final

from scheduler.cli.file_owner import act_as_owner
from scheduler.core.errors import ConfigurationError, DatabaseRefused
from scheduler.database import Schema
from scheduler.database.archive import SQLITE_HEADER, pack, read_members, unpack
from scheduler.database.backup import (
    copy_database,
    fill_copy,
    make_file,
    make_temporary_file,
    open_copy,
    require_whole,
)
from scheduler.database.errors import translate_errors
from scheduler.database.files import connect_for_reading, has_tables, read_kind
from scheduler.ledger import schema as ledger_schema
from scheduler.localapi import schema as api_schema

LEDGER: Final = ledger_schema.SCHEMA
API: Final = api_schema.SCHEMA
KINDS: Final = (LEDGER, API)
"""The kinds of databases, in the order of copying.

A run accepted meanwhile is in the later copy, and a ledger without the run reconciles the attempt.
"""

PLAIN_COPY: Final = (
    "a plain copy of a database in use (cp, rsync) lacks its newest rows, or all of its tables"
)

_NAME_BACKUP: Final = "name a file that `scheduler backup` made"


def write_backup(file: Path, databases: Sequence[tuple[Schema, Path]], at: datetime) -> None:
    """Copy the databases into ``file``, which must not exist yet.

    Raises `ConfigurationError`, `DatabaseRefused`, or `LedgerUnavailable`.
    """
    with make_file(file) as part, ExitStack() as copies:
        if len(databases) == 1:
            _copy_database(*databases[0], part, file)
            return
        members: list[tuple[str, Path]] = []
        for kind, path in databases:
            copied = copies.enter_context(make_temporary_file(file))
            _copy_database(kind, path, copied, file)
            members.append((kind.member, copied))
        with translate_errors(file):
            pack(part, members, at)


def _copy_database(kind: Schema, path: Path, part: Path, file: Path) -> None:
    with (
        fill_copy(part, kind, file) as into,
        act_as_owner(path),
        translate_errors(path),
        closing(connect_for_reading(path)) as source,
        translate_errors(file),
    ):
        copy_database(source, into)


Backup = Mapping[Schema, Callable[[Path], None]]
"""An open backup, readable also after the process changes its user.

A backup maps each kind of database to the function that writes the database into a new file.
"""


@contextmanager
def open_backup(file: Path) -> Iterator[Backup]:
    """Open a backup, and check its contents. Raises `ConfigurationError` or `DatabaseRefused`."""
    if not file.is_file():
        raise ConfigurationError(f"{file} is not there; {_NAME_BACKUP}")
    with translate_errors(file), file.open("rb") as content:
        beginning = content.read(len(SQLITE_HEADER))
        if not beginning:
            raise _make_no_tables_error(file)
        if beginning != SQLITE_HEADER:
            kinds = {kind.member: kind for kind in KINDS}
            members = read_members(content, file, kinds).values()
            yield {
                kinds[member.name]: partial(_stage_member, file, content, member, kinds[member.name])
                for member in members
            }
            return
    with open_copy(file, file) as connection:
        kind = _find_kind(file, connection)
        yield {kind: partial(_stage_database, file, connection, kind)}


def _find_kind(file: Path, connection: sqlite3.Connection) -> Schema:
    application_id, _ = read_kind(connection)
    if not has_tables(connection):
        raise _make_no_tables_error(file)
    for kind in KINDS:
        if kind.application_id == application_id:
            require_whole(file, connection, kind)
            return kind
    raise DatabaseRefused(f"{file} is an SQLite database of another program; {_NAME_BACKUP}")


def _make_no_tables_error(file: Path) -> ConfigurationError:
    return ConfigurationError(f"{file} has no tables: {PLAIN_COPY}. Nothing was changed; {_NAME_BACKUP}")


def _stage_database(file: Path, connection: sqlite3.Connection, kind: Schema, staged: Path) -> None:
    with make_file(staged) as part, fill_copy(part, kind, file) as into:
        copy_database(connection, into)


def _stage_member(file: Path, content: BinaryIO, member: TarInfo, kind: Schema, staged: Path) -> None:
    unpack(content, member, staged)
    with open_copy(staged, file) as connection:
        if _find_kind(file, connection) is not kind:
            raise DatabaseRefused(f"{file} is no backup: its {member.name} is no {kind.name}")
