"""The garbage collection goes through no object that a start has loaded: that would stop the loop."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from scheduler.app import daemon as daemon_module
from tests.app.running_daemon import living
from tests.fault_server import until


def test_it_leaves_the_first_lists_alone_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        lists_read: list[bool] = []
        monkeypatch.setattr(daemon_module, "_LOOK_FOR_LISTS_EVERY", 0.01)
        async with living(tmp_path, monkeypatch, started=False) as (life, _):
            freeze = SimpleNamespace(
                freeze=lambda: lists_read.append(all(target.is_up for target in life.daemon._targets))
            )
            monkeypatch.setattr(daemon_module, "gc", freeze)
            await until(lambda: len(lists_read) == 2)
            assert lists_read == [False, True]

    asyncio.run(main())
