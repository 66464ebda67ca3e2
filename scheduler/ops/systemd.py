"""What systemd is told of this process: that it is up, what it is at, that it reloads or stops, and that it makes progress.

The protocol of sd_notify(3): one datagram to the socket in ``$NOTIFY_SOCKET``. It is these few lines; the bindings that there are need a
compiler, or are not kept up. Where no socket is named nothing is sent.

The watchdog is fed only while what the process is for goes on: a loop that turns while nothing is planned any more looks well from outside.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

from scheduler.core.events import ConfigReloaded, ConfigReloading, DaemonStopping, Event
from scheduler.core.printable import escaped

INTERVAL: Final = 1.0
"""Seconds between two looks at the process, or less where the watchdog wants that."""
_STATUS_EVERY: Final = 10
"""Looks after which a process that is up says again what it is at."""
_LONGEST_STATUS: Final = 500


class Supervisor:
    """The way to systemd. ``environ`` names its socket, and how often the watchdog is to be fed (sd_watchdog_enabled(3))."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if is_for_us else 0.0
        """Seconds within which it has to be fed; 0 for no watchdog."""

    def tell(self, *lines: str) -> None:
        """Send these assignments, such as ``READY=1``. A supervisor that takes nothing is no reason to stop: it is told again."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.settimeout(0)
            try:
                sending.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
            except OSError:
                return


class Notifier:
    """Keeps systemd informed of one process; also an observer of events.

    ``is_up`` is whether the process has begun to do what it is for, and ``is_alive`` whether it still makes progress; ``status`` says in a
    line what it is at. All are asked on the loop.
    """

    def __init__(
        self, *, is_up: Callable[[], bool], is_alive: Callable[[], bool], status: Callable[[], str], supervisor: Supervisor | None = None
    ) -> None:
        self._supervisor = supervisor or Supervisor()
        self._is_up = is_up
        self._is_alive = is_alive
        self._status = status
        self._up = False
        self._looks = 0

    async def run(self) -> None:
        """Look for ever."""
        watchdog = self._supervisor.watchdog
        while True:
            self.look()
            await asyncio.sleep(min(INTERVAL, watchdog / 2) if watchdog else INTERVAL)

    def look(self) -> None:
        """Tell what there is to tell now."""
        lines = []
        if not self._up and self._is_up():
            self._up, self._looks = True, 0
            lines.append("READY=1")
        if self._looks % _STATUS_EVERY == 0 or not self._up:
            lines.append(self._status_line())
        if self._supervisor.watchdog and self._is_alive():
            lines.append("WATCHDOG=1")
        self._looks += 1
        if lines:
            self._supervisor.tell(*lines)

    def observe(self, event: Event) -> None:
        """Tell of a reload, of its end, and that the end has begun."""
        match event:
            case ConfigReloading():
                self._supervisor.tell("RELOADING=1")
            case ConfigReloaded(error=error):
                refused = [] if error is None else [_status(f"the configuration was refused, the old one stays: {error}")]
                self._supervisor.tell(*(["READY=1"] if self._up else []), *refused)
            case DaemonStopping():
                self.stopping()

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._supervisor.tell("STOPPING=1", self._status_line())

    def _status_line(self) -> str:
        return _status(self._status())


def _status(text: str) -> str:
    """One line, whatever is in it: names and errors come from elsewhere, and a line break would begin another assignment."""
    return f"STATUS={escaped(text)[:_LONGEST_STATUS]}"
