"""The embedded API's database during a command.

The database is opened as its owner, beside a server that may have the database open too.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from scheduler.cli.file_owner import act_as_owner
from scheduler.core.command_line import format_api_command
from scheduler.core.errors import Unreachable
from scheduler.database import Database
from scheduler.localapi.schema import open_database

T = TypeVar("T")


def carry_out(path: Path, use: Callable[[Database], Awaitable[T]], *, make: bool = False) -> T:
    """Open the database, and return the result of ``use``.

    A missing database is created only with ``make``, readable by its owner only. Without ``make``, raises
    `Unreachable` when the database is missing.
    """
    with act_as_owner(path):
        if not make and not path.exists():
            remedy = f"start `{format_api_command()}`, or name another in [api] database"
            raise Unreachable(f"the embedded API's database {path} is not there; {remedy}")
        before = os.umask(0o077)  # prompts and the hashes of keys are for the owner only
        try:
            return asyncio.run(_carry_out(path, use))
        finally:
            os.umask(before)


async def _carry_out(path: Path, use: Callable[[Database], Awaitable[T]]) -> T:
    with closing(open_database(path)) as database:
        return await use(database)
