"""What systemd is told of this process: that it is up, what it is at, that it reloads or stops, and that it makes progress.

The protocol of sd_notify(3): one datagram to the socket in ``$NOTIFY_SOCKET``. It is these few lines; the bindings that there are need a
compiler, or are not kept up. Where no socket is named nothing is sent.

The watchdog is fed only while what the process is for goes on: a loop that turns while nothing is planned any more looks well from outside.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from scheduler.core.events import ConfigReloaded, ConfigReloading, DaemonStopping, Event
from scheduler.core.terminal_text import to_printable

INTERVAL: Final = 1.0
"""Seconds between two looks at the process, or less where the watchdog wants that."""
_STATUS_INTERVAL: Final = 10
"""Looks after which a process that is up says again what it is at."""
_MAX_STATUS: Final = 500


class Supervisor:
    """The way to systemd. ``environ`` names its socket, and how often the watchdog is to be fed (sd_watchdog_enabled(3))."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Open from the start: a process that has run out of file descriptors is alive, and has to be able to say so.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if is_for_us else 0.0
        """Seconds within which it has to be fed; 0 for no watchdog."""

    def send(self, *lines: str) -> bool:
        """Send these assignments, such as ``READY=1``; whether they were taken, or nobody wants to be told."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()


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
        self._format_status = status
        self._up = False
        self._updates = 0
        self._faulty = False  # a look has failed
        self._unsent: deque[str] = deque()  # what has to arrive, in order: systemd would wait for it for ever

    async def run(self) -> None:
        """Look until it is cancelled."""
        watchdog = self._supervisor.watchdog
        try:
            while True:
                self._update_safely()
                await asyncio.sleep(min(INTERVAL, watchdog / 2) if watchdog else INTERVAL)
        finally:
            self._supervisor.close()

    def _update_safely(self) -> None:
        """Look. What goes wrong is logged the first time that it does: the watchdog must not end the daemon without a reason on record."""
        try:
            self.update()
        except Exception as error:  # noqa: BLE001  whatever it is, the next look comes
            if not self._faulty:
                self._faulty = True
                what = f"{type(error).__name__}: {error}"
                structlog.get_logger().error("observer.failed", observer="Notifier.update", error=what, exc_info=error)

    def update(self) -> None:
        """Tell what there is to tell now; that it is alive first, whatever else there is to say."""
        if self._supervisor.watchdog and self._is_alive():
            self._send("WATCHDOG=1")
        lines = []
        if not self._up and self._is_up():
            self._up, self._updates = True, 0
            self._unsent.append("READY=1")
        if self._updates % _STATUS_INTERVAL == 0 or not self._up:
            lines.append(self._make_status_line())
        self._updates += 1
        self._send(*lines)

    def observe(self, event: Event) -> None:
        """Tell of a reload, of its end, and that the end has begun."""
        match event:
            case ConfigReloading():
                self._unsent.append("RELOADING=1")
                self._send()
            case ConfigReloaded(error=error):
                if self._up:
                    self._unsent.append("READY=1")
                self._send(*([] if error is None else [_format_status(f"the configuration was refused, the old one stays: {error}")]))
            case DaemonStopping():
                self.announce_stop()

    def announce_stop(self) -> None:
        """Tell that the end has begun."""
        self._unsent.append("STOPPING=1")
        self._send(self._make_status_line())

    def _send(self, *lines: str) -> None:
        """Send what is owed, each by itself, and then these lines. What systemd does not take now is told at the next look."""
        while self._unsent and self._supervisor.send(self._unsent[0]):
            self._unsent.popleft()
        if lines and not self._unsent:
            self._supervisor.send(*lines)

    def _make_status_line(self) -> str:
        return _format_status(self._format_status())


def _format_status(text: str) -> str:
    """One line, whatever is in it: names and errors come from elsewhere, and a line break would begin another assignment."""
    return f"STATUS={to_printable(text)[:_MAX_STATUS]}"
