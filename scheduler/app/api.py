"""The embedded API as a process, started by an operator or by `scheduler up`."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from scheduler.app.api_process import Parent
from scheduler.clock import SystemClock
from scheduler.core.errors import ConfigurationError
from scheduler.localapi.config import ApiConfig, RunnerConfig
from scheduler.localapi.server import LocalApi
from scheduler.ops.http_server import HttpServer
from scheduler.ops.logs import Log
from scheduler.ops.systemd import Notifier
from scheduler.settings.models import ApiSettings, Settings

_KEEP_ALIVE: Final = 75
"""Seconds for which an idle connection stays open.

Longer than the limit of clients, so that the clients close the connections.
"""

_MAX_CONNECTIONS: Final = 512
"""Maximum number of connections; further connections are answered with 503.

Each connection takes a file descriptor. A process often has 1,024 descriptors, and runs need some too.
"""


@asynccontextmanager
async def run_api(settings: Settings) -> AsyncIterator[LocalApi]:
    """Serve the embedded API on ``[api] listen`` for the duration of the block.

    Raises `ConfigurationError` when the address or the database is in use, `DatabaseRefused`, or
    `Unreachable`.
    """
    if settings.api.listen is None:
        remedy = 'set [api] listen, for example to "127.0.0.1:8040"'
        raise ConfigurationError(f"the embedded API has no address to listen on; {remedy}")
    api = await LocalApi.start(make_api_config(settings.api), now=SystemClock().now)
    try:
        async with HttpServer(
            api.app,
            str(settings.api.listen),
            setting="[api] listen",
            keep_alive=_KEEP_ALIVE,
            connections=_MAX_CONNECTIONS,
        ):
            yield api
    finally:
        await api.close()


async def serve(settings: Settings, announce: Callable[[], None], parent: Parent | None = None) -> None:
    """Serve until a signal says stop; a second signal ends the process at once.

    ``announce`` is called when requests are answered. With a ``parent``, the end of the parent is a reason to
    stop too. Raises `LedgerUnavailable` when the lock of the database is lost.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if parent is not None:
        parent.watch(stopping.set)
    for number in (signal.SIGTERM,) if parent is not None else (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: os._exit(0) if stopping.is_set() else stopping.set())
    log = Log(
        format=settings.log.format, level=settings.log.level, node=settings.daemon.node, now=SystemClock().now
    )
    try:
        async with run_api(settings) as api, asyncio.TaskGroup() as group:
            announce()
            notifier = Notifier(is_up=lambda: True, is_alive=api.is_alive, status=api.describe_state)
            endless = [group.create_task(work) for work in (notifier.run(), api.guard_lock())]
            await stopping.wait()
            for task in endless:
                task.cancel()
            notifier.announce_stop()
    finally:
        log.flush()


def make_api_config(api: ApiSettings) -> ApiConfig:
    """Make the configuration of the embedded API."""
    runner = RunnerConfig(
        folder=api.runs_folder,
        command=api.runner.command,
        environment=api.runner.environment,
        clone_url=api.runner.clone_url,
        clone_timeout=api.runner.clone_timeout.total_seconds(),
        timeout=api.runner.timeout.total_seconds(),
        queue_timeout=api.runner.queue_timeout.total_seconds(),
        max_parallel=api.runner.max_parallel,
        output_limit=api.runner.output_limit,
        retention=api.runner.retention.total_seconds(),
        clone_retention=api.runner.clone_retention.total_seconds(),
        row_retention=api.retention.total_seconds(),
        umask=api.runner.umask,
    )
    return ApiConfig(
        database=api.database.path,
        runner=runner,
        github_integrations=frozenset(api.github_integrations),
        requests_per_minute=api.requests_per_minute,
        max_page=api.max_page,
        public_url=api.public_url,
    )
