"""The host names under which the server answers.

A page on the internet can make its own name resolve to this machine (DNS rebinding) and read this server's
pages through the browser of an internal user. Such a request has the name of the attacker as ``Host``, and
the server therefore checks ``Host``:

- An address is always accepted, since an attacker's page has a name.
- ``localhost`` and the name in the listen address are always accepted.
- When the server does not listen on a loopback address, it also accepts this machine's own names, and names
  that the public DNS cannot hold. Machines, containers and services use such names in their own network.
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
_PATIENCE: Final = 5.0  # seconds for the resolver to return the names of this machine


def find_own_names() -> Collection[str]:
    """Return the names of this machine. Blocks while the resolver works."""
    return {socket.gethostname(), socket.getfqdn()}


class HostCheck:
    """ASGI middleware that answers 421 to a request for a foreign host name.

    ``listen`` is the listen address of the server.
    """

    def __init__(
        self, app: ASGIApp, listen: str, own_names: Callable[[], Collection[str]] = find_own_names
    ) -> None:
        self._app = app
        self._listen = _parse_host(listen) or ""
        self._own_names = own_names
        self._known_names = {"localhost", self._listen}
        # on a loopback address, clients do not use the machine's name
        self._is_resolved = _is_loopback(self._listen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse a request for a foreign host name."""
        header = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if header is None or await self._is_accepted(header):  # a browser always sends Host
            await self._app(scope, receive, send)
            return
        remedy = "use its address, or set this name as its listen address"
        error = f"this server is not called {header[:255]!r}: {remedy}"
        await JSONResponse({"error": error}, HTTPStatus.MISDIRECTED_REQUEST)(scope, receive, send)

    async def _is_accepted(self, header: str) -> bool:
        host = _parse_host(header)
        if host is None:
            return False
        if _parse_address(host) is not None or host in self._known_names:
            return True
        if _is_loopback(self._listen):
            return False
        return (
            "." not in host
            or host.endswith(tuple(f".{suffix}" for suffix in _LOCAL_SUFFIXES))
            or await self._is_own(host)
        )

    async def _is_own(self, host: str) -> bool:
        """Return whether ``host`` is a name of this machine.

        The resolver is asked only for a name that no other rule accepts, and until its first answer: a
        resolver without an answer must not delay other requests.
        """
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
    """Return the host of ``host:port`` in its normal form, None for malformed text."""
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
