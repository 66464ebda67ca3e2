"""What the tests of the client share: a target on a fault server, and both event loops."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from scheduler.clock import SystemClock
from scheduler.core.events import RequestEnded
from scheduler.upstream.client import ApiClient
from scheduler.upstream.target import TargetConfig
from tests.defaults import target_config
from tests.fault_server import FaultServer

KEY = "phx_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
ID = "01890a5d-ac96-774b-bcce-b302099a8057"
AUTOMATION: dict[str, object] = {
    "id": ID,
    "name": "Nightly",
    "prompt": "Tidy up.",
    "repository": "acme/app",
    "cron_expression": "0 3 * * *",
    "timezone": "Europe/Vienna",
    "enabled": True,
    "last_run_at": "2026-11-23T19:20:00.123456Z",
    "last_run_status": "running",
    "last_task_run_id": "run-1",
    "last_error": None,
    "updated_at": "2026-11-23T19:20:00.123456Z",
}


def target(
    url: str, *, request_timeout: float = 5.0, connect_timeout: float = 5.0, ca_file: Path | None = None
) -> TargetConfig:
    return target_config(
        url, KEY, request_timeout=request_timeout, connect_timeout=connect_timeout, ca_file=ca_file
    )


def client(
    server: FaultServer | str,
    *,
    request_timeout: float = 5.0,
    connect_timeout: float = 5.0,
    ca_file: Path | None = None,
    observe: Callable[[RequestEnded], None] = lambda _: None,
) -> ApiClient:
    url = server if isinstance(server, str) else server.url
    config = target(url, request_timeout=request_timeout, connect_timeout=connect_timeout, ca_file=ca_file)
    return ApiClient(config, SystemClock(), observe)


Run = Callable[[Coroutine[Any, Any, Any]], Any]
LOOPS: dict[str, Run] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
