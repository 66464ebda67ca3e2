"""One server has a database: a server that lost its lock ends at once."""

import asyncio
from pathlib import Path

import pytest

from scheduler.app import state_directory
from scheduler.app.api import serve
from scheduler.app.state_directory import prepare_folder
from scheduler.core.command_line import FILE_NAME
from scheduler.core.errors import LedgerUnavailable
from scheduler.database import lock_file
from scheduler.database.lock_file import locate_lock_file
from scheduler.localapi.lock import ServerLock
from scheduler.settings.load import load
from tests.ports import free_port


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_server_that_lost_its_lock_file_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    monkeypatch.setattr(lock_file, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(state_directory, "_API_PORT", free_port())
    prepare_folder(tmp_path, {})
    settings = load(tmp_path / FILE_NAME, {}).settings
    database = settings.api.database.path

    async def lose_lock() -> None:
        answering = asyncio.Event()
        server = asyncio.create_task(serve(settings, answering.set))
        async with asyncio.timeout(30):
            await asyncio.wait({server, asyncio.create_task(answering.wait())}, return_when="FIRST_COMPLETED")
            locate_lock_file(database).unlink()
            other = ServerLock.acquire(database) if is_replaced else None
            try:
                await server
            finally:
                if other is not None:
                    assert other.is_held()
                    other.release()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(lose_lock())
    (error,) = raised.value.exceptions
    assert isinstance(error, LedgerUnavailable)
    assert f"{locate_lock_file(database)} was removed or replaced while this server held it" in str(error)
