"""Ports for servers that tests start, stop and start again.

A port that the system has chosen (port 0) is from the range of outgoing connections: between two starts, any
connection of any process may be given it, and the next start fails. These are below that range (ip(7),
ip_local_port_range).
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_FIRST: Final = 20_000
_BEHIND: Final = 32_768
_STRIDE: Final = 64
"""Processes that test side by side begin at different ports of so many, and go on in steps of as many."""


def _ports() -> Iterator[int]:
    begin = _FIRST + os.getpid() % _STRIDE
    while True:
        yield from range(begin, _BEHIND, _STRIDE)


_PORTS: Final = _ports()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, another one each time."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports have no end")
