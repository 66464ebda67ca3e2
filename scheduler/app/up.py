"""`scheduler up`: the embedded API and the daemon in one process, with a key that is made and kept, and a first automation if wanted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.app.api import answering
from scheduler.app.daemon import Daemon
from scheduler.app.state import KEY_NAME, read_key, write_key
from scheduler.app.wiring import upstream_config
from scheduler.core.errors import ConfigurationError
from scheduler.daemon.clock import SystemClock
from scheduler.localapi.keys import Keys, Scope
from scheduler.settings import Configuration, Settings, Target
from scheduler.upstream import ApiClient, Document, NewAutomation

DEMO: Final[NewAutomation] = {
    "name": "demo",
    "prompt": "Say hello to whoever tries this.\n",
    "repository": "example/demo",
    "cron_expression": "* * * * *",
    "timezone": "UTC",
}
_PAGE: Final = 1000


async def up(folder: Path, load: Callable[[], Configuration], announce: Callable[[], None], *, demo: bool) -> None:
    """Run both until a signal says stop. ``announce`` is called when the API answers and before the daemon starts."""
    settings = load().settings
    embedded = _embedded(settings) if demo else None
    async with answering(settings) as api:
        await _keep_key(api.keys, folder / KEY_NAME)
        if embedded is not None:
            await _ensure_demo(embedded)
        announce()
        await Daemon(load).run()


async def _keep_key(keys: Keys, file: Path) -> None:
    """Have a key that works in the file: the one that is there, or a new one."""
    if await keys.check(await asyncio.to_thread(read_key, file)) is None:
        made = await keys.create([Scope.READ, Scope.WRITE])
        await asyncio.to_thread(write_key, file, made.text)


def _embedded(settings: Settings) -> Target:
    """The target that is the embedded API. A demo at somebody else's API would cost them a run every minute."""
    url = f"http://{settings.api.listen}"
    for target in settings.targets:
        if target.url == url:
            return target
    raise ConfigurationError(f"--demo adds an automation to the embedded API, but no [[target]] has its url {url}; start without --demo")


async def _ensure_demo(target: Target) -> None:
    """Have the demo's automation, enabled, however often this is started."""
    async with ApiClient(upstream_config(target), SystemClock()) as api:
        found = await _named(api, DEMO["name"])
        if found is None:
            await api.create(DEMO)
        elif not found.get("enabled"):
            await api.update(str(found["id"]), {"enabled": True})


async def _named(api: ApiClient, name: str) -> Document | None:
    """The first automation of this name."""
    offset, page = 0, await api.list_page(limit=_PAGE)
    while page.rows:
        for row in page.rows:
            if isinstance(row, dict) and row.get("name") == name:
                return row
        offset += len(page.rows)
        page = await api.list_page(offset=offset, limit=_PAGE)
    return None
