"""`scheduler up`: the daemon, and the embedded API as its child process.

A working key is made and kept, and a first automation is created on request.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scheduler.app.api_process import Child, start_api
from scheduler.app.daemon import Daemon
from scheduler.app.settings_mapping import make_upstream_config
from scheduler.app.state_directory import KEY_NAME, read_key, write_key
from scheduler.clock import SystemClock
from scheduler.core.command_line import format_command
from scheduler.core.errors import ConfigurationError
from scheduler.localapi.keys import ApiKeys, Scope
from scheduler.localapi.schema import open_database
from scheduler.settings.load import Configuration
from scheduler.settings.models import TargetSection
from scheduler.settings.registry import SettingPath, format_path
from scheduler.upstream.client import ApiClient
from scheduler.upstream.fields import NewAutomation

_UNEXPECTED_END: Final = 1
"""The exit status when the API ended in good order although nobody asked `up` to stop."""
DEMO: Final[NewAutomation] = {
    "name": "demo",
    "prompt": "Say hello to whoever tries this.\n",
    "repository": "example/demo",
    "cron_expression": "* * * * *",
    "timezone": "UTC",
}


async def run_up(
    folder: Path, load: Callable[[], Configuration], announce: Callable[[], None], *, demo: bool
) -> int:
    """Run both until a signal says stop, or until one of them ends; return the exit status.

    The exit status is the status of the API. The status is never 0 when the API ended although nobody asked
    `up` to stop: the supervisor of `up` must notice. ``announce`` is called when the API answers, before the
    daemon starts. Raises the exceptions of the daemon.
    """
    configuration = load()
    embedded = _find_embedded(configuration, folder, demo=demo)
    async with start_api(folder) as child:
        if not await child.wait_ready():
            return await child.wait() or _UNEXPECTED_END
        await _keep_key(configuration.settings.api.database.path, _get_key_file(folder), embedded)
        if embedded is not None and demo:
            await _ensure_demo(embedded)
        announce()
        return await _run_beside(child, Daemon(load))


async def _run_beside(child: Child, daemon: Daemon) -> int:
    """Run the daemon as long as the API lives, stop the API afterwards, and return the exit status.

    The daemon ends first, so that open requests get their answers.
    """
    least = 0

    async def stop_with_child() -> None:
        nonlocal least
        status = await child.wait()
        least = 0 if daemon.is_stopping else _UNEXPECTED_END
        daemon.stop(f"the embedded API ended with exit status {status}")

    watching = asyncio.create_task(stop_with_child())
    try:
        await daemon.run()
    finally:
        watching.cancel()
    return await child.stop() or least


async def _keep_key(database_file: Path, own: Path, target: TargetSection | None) -> None:
    """Ensure that the key file of the embedded API's target has a valid key: the present key, or a new key.

    ``own`` is the key file in the state directory. An invalid key there is replaced. Raises
    `ConfigurationError` for an invalid key in another file.
    """
    file = target.key_file if target is not None and target.key_file is not None else own
    database = await asyncio.to_thread(open_database, database_file)
    try:
        keys = ApiKeys(database, SystemClock().now)
        text = await asyncio.to_thread(read_key, file)
        if await keys.check(text) is not None:
            return
        if text and file != own:
            present = f"the key in {file} (key_file of target {target.name if target else ''})"
            remedy = "remove the file, and a new key is made there, or unset key_file"
            raise ConfigurationError(f"{present} is no key of this embedded API; {remedy}")
        key = await keys.create([Scope.READ, Scope.WRITE], int(target.project_id) if target else 1)
        await asyncio.to_thread(write_key, file, key.text)
    finally:
        await asyncio.to_thread(database.close)


def _find_embedded(configuration: Configuration, folder: Path, *, demo: bool) -> TargetSection | None:
    """Return the target that is the embedded API; None when all targets are other APIs.

    Raises `ConfigurationError` when a target was meant to be the embedded API: the target has the key kept
    here, or the environment set the address. Raises `ConfigurationError` also for a demo without such a
    target: at another API, the demo would cost a run every minute.
    """
    settings, origins = configuration.settings, configuration.origins
    listen = settings.api.listen
    if embedded := settings.embedded_targets:
        return embedded[0]
    here = f"no [[target]] has its url http://{listen.local_address if listen else ''}"
    if demo:
        need = "--demo adds an automation to the embedded API"
        raise ConfigurationError(f"{need}, but {here}; start without --demo")
    named: list[tuple[SettingPath, str]] = [(("api", "listen"), str(listen or ""))]
    named += [(("target", number, "url"), target.url) for number, target in enumerate(settings.targets)]
    moved = any(path in origins and origins[path].kind == "environment" for path, _ in named)
    if moved or _get_key_file(folder) in {target.key_file for target in settings.targets}:
        addresses = ", ".join(
            f"{format_path(path)} is {value} ({origins.get(path, 'default')})" for path, value in named
        )
        remedy = f"set the same address in the environment and in {configuration.file}, or start"
        raise ConfigurationError(
            f"the embedded API would run, but {here}: {addresses}; "
            f"{remedy} `{format_command('run')}` for another API"
        )
    return None


def _get_key_file(folder: Path) -> Path:
    return (folder / KEY_NAME).absolute()


async def _ensure_demo(target: TargetSection) -> None:
    """Ensure that the demo's automation exists and is enabled, however often `up` starts."""
    async with ApiClient(make_upstream_config(target), SystemClock()) as api:
        documents = await api.list_documents()
        demo = next((document for document in documents if document.get("name") == DEMO["name"]), None)
        if demo is None:
            await api.create(DEMO)
        elif not demo.get("enabled"):
            await api.update(str(demo["id"]), {"enabled": True})
