"""Ports for servers that tests start, stop and start again.

A port that the system has chosen (port 0) is from the range of outgoing connections: between two starts, any
connection of any process may be given it, and the next start fails. These are below that range (ip(7),
ip_local_port_range).
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_FIRST: Final = 20_000
_BEHIND: Final = 32_768
_STRIDE: Final = 64
"""How many processes may test side by side: each has every 64th port to itself."""


def _claim_slot() -> int:
    """A number below `_STRIDE` that no other process on this network has until this process ends."""
    for slot in range(_STRIDE):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0scheduler.tests.ports.{slot}")
        except OSError:
            claim.close()
        else:
            claim.detach()  # open until the end
            return slot
    raise AssertionError(f"more than {_STRIDE} processes test side by side")


_SLOT: Final = _claim_slot()


def _ports() -> Iterator[int]:
    while True:
        yield from range(_FIRST + _SLOT, _BEHIND, _STRIDE)


_PORTS: Final = _ports()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, another one each time."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports have no end")
