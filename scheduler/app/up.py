"""`scheduler up`: the daemon, and the embedded API as its child, with a key that is made and kept, and a first automation if wanted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.app.api_process import Child, start_api
from scheduler.app.daemon import Daemon
from scheduler.app.state import KEY_NAME, read_key, write_key
from scheduler.app.wiring import upstream_config
from scheduler.core.errors import ConfigurationError
from scheduler.daemon.clock import SystemClock
from scheduler.localapi.keys import Keys, Scope
from scheduler.localapi.schema import open_database
from scheduler.settings import Configuration, Settings, Target
from scheduler.upstream import ApiClient, Document, NewAutomation

_ENDED_UNASKED: Final = 1
"""The exit status when the API ended in good order, and nobody had asked `up` to stop."""
DEMO: Final[NewAutomation] = {
    "name": "demo",
    "prompt": "Say hello to whoever tries this.\n",
    "repository": "example/demo",
    "cron_expression": "* * * * *",
    "timezone": "UTC",
}


async def up(folder: Path, load: Callable[[], Configuration], announce: Callable[[], None], *, demo: bool) -> int:
    """Run both until a signal says stop, or one of them ends; return the exit status.

    It is the API's, and never 0 when the API ended although nobody asked `up` to stop: whatever supervises `up` has to see that.
    ``announce`` is called when the API answers and before the daemon starts. Raises what the daemon raises.
    """
    settings = load().settings
    embedded = _embedded(settings) if demo else None
    async with start_api(folder) as child:
        if not await child.wait_ready():
            return await child.wait() or _ENDED_UNASKED
        await _keep_key(settings.api.database.path, folder / KEY_NAME)
        if embedded is not None:
            await _ensure_demo(embedded)
        announce()
        return await _run_beside(child, Daemon(load))


async def _run_beside(child: Child, daemon: Daemon) -> int:
    """Run the daemon as long as the API lives, and stop the API after it; return the exit status.

    The daemon ends first, so that what is in flight gets its answer.
    """
    least = 0

    async def stop_with_child() -> None:
        nonlocal least
        status = await child.wait()
        least = 0 if daemon.is_stopping else _ENDED_UNASKED
        daemon.stop(f"the embedded API ended with exit status {status}")

    watching = asyncio.create_task(stop_with_child())
    try:
        await daemon.run()
    finally:
        watching.cancel()
    return await child.stop() or least


async def _keep_key(database_file: Path, file: Path) -> None:
    """Have a key that works in the file: the one that is there, or a new one."""
    database = await asyncio.to_thread(open_database, database_file)
    try:
        keys = Keys(database, SystemClock().now)
        if await keys.check(await asyncio.to_thread(read_key, file)) is None:
            made = await keys.create([Scope.READ, Scope.WRITE])
            await asyncio.to_thread(write_key, file, made.text)
    finally:
        await asyncio.to_thread(database.close)


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
    return next((document for document in await api.documents() if document.get("name") == name), None)
