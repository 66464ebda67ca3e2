"""`scheduler up`: the embedded API and the daemon in one process, with a key that is made and kept, and a first automation if wanted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.app.api import answering
from scheduler.app.daemon import Daemon
from scheduler.app.state import KEY_NAME, read_key, write_key
from scheduler.app.wiring import upstream_config
from scheduler.daemon.clock import SystemClock
from scheduler.localapi.keys import Keys, Scope
from scheduler.settings import Configuration, Target
from scheduler.upstream import ApiClient, NewAutomation

DEMO: Final[NewAutomation] = {
    "name": "demo",
    "prompt": "Say hello to whoever tries this.\n",
    "repository": "example/demo",
    "cron_expression": "* * * * *",
    "timezone": "UTC",
}


async def up(folder: Path, load: Callable[[], Configuration], announce: Callable[[], None], *, demo: bool) -> None:
    """Run both until a signal says stop. ``announce`` is called when the API answers and before the daemon starts."""
    settings = load().settings
    async with answering(settings) as api:
        await _keep_key(api.keys, folder / KEY_NAME)
        if demo:
            await _ensure_demo(settings.targets[0])
        announce()
        await Daemon(load).run()


async def _keep_key(keys: Keys, file: Path) -> None:
    """Have a key that works in the file: the one that is there, or a new one."""
    if await keys.check(await asyncio.to_thread(read_key, file)) is None:
        made = await keys.create([Scope.READ, Scope.WRITE])
        await asyncio.to_thread(write_key, file, made.text)


async def _ensure_demo(target: Target) -> None:
    """Have the demo's automation, enabled, however often this is started."""
    async with ApiClient(upstream_config(target), SystemClock()) as api:
        page = await api.list_page(limit=1000)
        if any(isinstance(row, dict) and row.get("name") == DEMO["name"] for row in page.rows):
            return
        await api.create(DEMO)
