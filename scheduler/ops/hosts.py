"""Under which names the pages may be asked for.

A page from the internet can have its own name point at this machine (DNS rebinding) and read what is served here through the browser of
someone inside. Its requests then carry its own name as ``Host``. So that is checked: an address is always right, since no page has one
for a name; on a loopback address so is ``localhost``; elsewhere also this machine's own names, and those that the public name system
cannot hold, by which machines, containers and services call each other in a network of their own.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(:[0-9]{1,5})?", re.IGNORECASE)
_LOCAL_SUFFIXES: Final = ("localhost", "local", "internal", "home.arpa")
"""Reserved for local use: RFC 6761, RFC 6762, ICANN's resolution 2024.07.29.06, RFC 8375."""
_PATIENCE: Final = 5.0  # seconds for the resolver to say what this machine is called


def find_own_names() -> Collection[str]:
    """What this machine is called. Blocks while the resolver is asked."""
    return {socket.gethostname(), socket.getfqdn()}


class HostCheck:
    """ASGI middleware that answers 421 to a name which is not one of this server's. ``listen`` is the address that it listens on."""

    def __init__(self, app: ASGIApp, listen: str, own_names: Callable[[], Collection[str]] = find_own_names) -> None:
        self._app = app
        self._listen = _parse_host(listen) or ""
        self._own_names = own_names
        self._known_names = {"localhost", self._listen}
        self._is_resolved = _is_loopback(self._listen)  # then nobody calls it by the machine's name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        header = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if header is None or await self._is_accepted(header):  # a browser always sends one
            await self._app(scope, receive, send)
            return
        error = f"this server is not called {header[:255]!r}: ask for it by its address, or have it listen on that name"
        await JSONResponse({"error": error}, HTTPStatus.MISDIRECTED_REQUEST)(scope, receive, send)

    async def _is_accepted(self, header: str) -> bool:
        host = _parse_host(header)
        if host is None:
            return False
        if _parse_address(host) is not None or host in self._known_names:
            return True
        if _is_loopback(self._listen):
            return False
        return "." not in host or host.endswith(tuple(f".{suffix}" for suffix in _LOCAL_SUFFIXES)) or await self._is_own(host)

    async def _is_own(self, host: str) -> bool:
        """Asked once, when a name comes that nothing else explains: a resolver that does not answer should hold up nothing else."""
        if not self._is_resolved:
            self._is_resolved = True
            try:
                names = await asyncio.wait_for(asyncio.to_thread(self._own_names), _PATIENCE)
            except (TimeoutError, OSError):
                self._is_resolved = False
            else:
                self._known_names.update(name.lower() for name in names)
        return host in self._known_names


def _parse_host(address: str) -> str | None:
    """The host of ``host:port``, in its normal form; None when it is none."""
    match = _HOST.fullmatch(address)
    return match["host"].lower().rstrip(".") if match else None


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _parse_address(host)
    return host == "localhost" if address is None else address.is_loopback
