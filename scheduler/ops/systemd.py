"""Notifications to systemd: ready, status, reload, stop and watchdog.

The protocol of sd_notify(3) is one datagram to the socket in ``$NOTIFY_SOCKET``. The protocol takes few
lines, and the available bindings need a compiler or are not maintained. Without a socket in the environment
nothing is sent.

The watchdog is fed only while the actual work of the process makes progress. A loop that runs without
planning anything would look healthy from outside.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from scheduler.core.events import ConfigReloaded, ConfigReloading, DaemonStopping, Event
from scheduler.core.terminal_text import to_printable
from scheduler.ops.bus import log_observer_error

INTERVAL: Final = 1.0
"""Seconds between two updates. Half the watchdog interval is used where it is shorter."""
_STATUS_INTERVAL: Final = 10
"""Updates after which a ready process sends its status again."""
_MAX_STATUS: Final = 500


class Supervisor:
    """The connection to systemd.

    ``environ`` contains the socket and the watchdog interval (sd_watchdog_enabled(3)).
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Open from the start: a process without free file descriptors is alive, and must be able
        # to notify systemd.
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_UNIX, kind) if address else None
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if is_for_us else 0.0
        """Seconds within which the watchdog must be fed; 0 for no watchdog."""

    def send(self, line: str) -> bool:
        """Send an assignment such as ``READY=1``.

        Return whether systemd received the assignment, and True without a socket.
        """
        if self._socket is None:
            return True
        try:
            self._socket.sendto(line.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()


class Notifier:
    """The notifier of systemd about one process; also an observer of events.

    ``is_up`` returns whether the process has begun its work. ``is_alive`` returns whether the process still
    makes progress. ``status`` returns the current work in one line. All three are called on the loop.
    """

    def __init__(
        self,
        *,
        is_up: Callable[[], bool],
        is_alive: Callable[[], bool],
        status: Callable[[], str],
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor()
        self._is_up = is_up
        self._is_alive = is_alive
        self._format_status = status
        self._up = False
        self._updates = 0
        self._faulty = False  # an update has failed
        # messages that must arrive, in order: systemd would wait for them without limit
        self._unsent: deque[str] = deque()

    async def run(self) -> None:
        """Send updates until the task is cancelled."""
        watchdog = self._supervisor.watchdog
        try:
            while True:
                self._update_safely()
                await asyncio.sleep(min(INTERVAL, watchdog / 2) if watchdog else INTERVAL)
        finally:
            self._supervisor.close()

    def _update_safely(self) -> None:
        """Update, and log the first exception.

        An error must not stop the updates: the watchdog would end the daemon without a recorded reason.
        """
        try:
            self.update()
        except Exception as error:  # noqa: BLE001  no error may prevent the next update
            if not self._faulty:
                self._faulty = True
                log_observer_error("Notifier.update", error)

    def update(self) -> None:
        """Send the watchdog message first, then readiness and status."""
        if self._supervisor.watchdog and self._is_alive():
            self._send("WATCHDOG=1")
        if not self._up and self._is_up():
            self._up, self._updates = True, 0
            self._unsent.append("READY=1")
        is_status_due = self._updates % _STATUS_INTERVAL == 0 or not self._up
        self._updates += 1
        self._send(self._make_status_line() if is_status_due else None)

    def observe(self, event: Event) -> None:
        """Tell systemd the start and the end of a reload, and the start of the stop."""
        match event:
            case ConfigReloading():
                self._unsent.append("RELOADING=1")
                self._send()
            case ConfigReloaded(error=error):
                if self._up:
                    self._unsent.append("READY=1")
                refusal = f"the new configuration was refused, the old one stays in force: {error}"
                self._send(None if error is None else _format_status(refusal))
            case DaemonStopping():
                self.announce_stop()

    def announce_stop(self) -> None:
        """Tell systemd that the stop has begun."""
        self._unsent.append("STOPPING=1")
        self._send(self._make_status_line())

    def _send(self, line: str | None = None) -> None:
        """Send the unsent messages one by one, then ``line``.

        An unreceived message stays unsent until the next update, and ``line`` is then dropped.
        """
        while self._unsent and self._supervisor.send(self._unsent[0]):
            self._unsent.popleft()
        if line is not None and not self._unsent:
            self._supervisor.send(line)

    def _make_status_line(self) -> str:
        return _format_status(self._format_status())


def _format_status(text: str) -> str:
    """Return the status assignment in one line.

    Names and errors are foreign text, and a line break would begin another assignment.
    """
    return f"STATUS={to_printable(text)[:_MAX_STATUS]}"
