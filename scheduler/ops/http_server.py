"""An HTTP server for any ASGI application, by uvicorn in the running loop.

The daemon's pages and the embedded API use the same server. This module binds the address, because uvicorn
ends the process when it cannot bind. Signals are left to the owner of the process.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from scheduler.core.errors import ConfigurationError
from scheduler.ops.bounds import RequestSizeLimit
from scheduler.ops.connection import MAX_HEAD, Connection

_BACKLOG: Final = 2048
_LAST_PORT: Final = 65_535
_LOW_PORT: Final = "ports below 1024 need a privilege; choose a higher one"
_BIND_ERRORS: Final = {
    errno.EADDRINUSE: "another program listens there already; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: _LOW_PORT,
    errno.EPERM: _LOW_PORT,
}
_ABSENT_ERRORS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Not an error while the host has another address.

Many machines resolve localhost to ``::1`` and have no IPv6.
"""


class HttpServer:
    """A server for one application; an async context manager.

    ``listen`` is ``host:port`` or ``[IPv6]:port``. Port 0 lets the system choose a port, and "" disables the
    server. ``setting`` is the name of the setting, for errors. ``keep_alive`` is the number of seconds for
    which an idle connection stays open. ``connections`` is the limit for simultaneous connections; a request
    beyond the limit gets a 503. ``patience`` is the number of whole seconds for open requests to end when the
    server stops.
    """

    def __init__(
        self,
        app: ASGIApp,
        listen: str,
        *,
        setting: str,
        keep_alive: int = 5,
        connections: int | None = None,
        patience: int = 2,
    ) -> None:
        self._listen = listen
        self._setting = setting
        self._server = _Server(
            uvicorn.Config(
                RequestSizeLimit(app),
                http=Connection,
                h11_max_incomplete_event_size=MAX_HEAD,
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=keep_alive,
                limit_concurrency=connections,
                timeout_graceful_shutdown=patience,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        """Start the server. ``address`` becomes ``host:port`` with the port in use.

        Raise `ConfigurationError` when the server cannot listen.
        """
        if not self._listen:
            return self
        sockets = await self._bind()
        host, port = sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._task = asyncio.create_task(self._server.serve(sockets), name=f"serving {self.address}")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Accept no more requests. Return when all open requests are answered or abandoned."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None

    async def _bind(self) -> list[socket.socket]:
        """Return a socket for every address of the host, all with the same port."""
        host, port = self._parse_listen()
        try:
            addresses = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._make_error(f"the host {host!r} is not known: {error.strerror}") from None
        sockets: list[socket.socket] = []
        problem: OSError | None = None
        for family, _, _, _, (address, *_) in dict.fromkeys(addresses):
            try:
                port = sockets[0].getsockname()[1] if sockets else port
                sockets.append(_bind_address(family, str(address), port))
            except OSError as error:
                problem = error
                if error.errno not in _ABSENT_ERRORS:
                    break
        if problem is not None and (not sockets or problem.errno not in _ABSENT_ERRORS):
            for listener in sockets:
                listener.close()
            raise self._make_error(_BIND_ERRORS.get(problem.errno or 0) or problem.strerror or str(problem))
        return sockets

    def _parse_listen(self) -> tuple[str, int]:
        host, _, port = self._listen.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and int(port) <= _LAST_PORT):
            raise self._make_error("it should be host:port, or [IPv6]:port")
        return host.removeprefix("[").removesuffix("]"), int(port)

    def _make_error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"cannot listen on {self._listen} ({self._setting}): {problem}")


class _Server(uvicorn.Server):
    """uvicorn as a part of a process, not as its owner."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and set ``ready`` at the end of the start."""
        await super().startup(sockets)
        self.ready.set()


def _bind_address(family: int, address: str, port: int) -> socket.socket:
    return socket.create_server(
        (address, port), family=family, backlog=_BACKLOG, dualstack_ipv6=address == "::"
    )
