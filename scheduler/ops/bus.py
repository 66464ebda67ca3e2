"""Where events are published and from where they reach their observers.

Apart from every observer, because it is what keeps them apart: one that fails is reported, and neither the others nor the daemon, which
publishes in the middle of its work, notice.
"""

import contextlib
from collections.abc import Callable

import structlog

from scheduler.core.events import Event

Observer = Callable[[Event], None]


class Bus:
    """Hands each event to every observer, in the order in which they subscribed. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._faulty: set[Observer] = set()

    def subscribe(self, observer: Observer) -> None:
        """Call ``observer`` with every event from now on. It must be quick: whoever publishes waits for it."""
        self._observers.append(observer)

    def publish(self, event: Event) -> None:
        """Tell every observer. What one of them raises is logged the first time that it does, and goes no further."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001  whatever it is, whoever published has more important things to do
                self._report(observer, event, error)

    def _report(self, observer: Observer, event: Event, error: Exception) -> None:
        if observer in self._faulty:
            return
        self._faulty.add(observer)
        with contextlib.suppress(Exception):  # the log itself may be what is broken
            name = getattr(observer, "__qualname__", type(observer).__qualname__)
            structlog.get_logger().error(
                "observer.failed", observer=name, of=type(event).__name__, error=f"{type(error).__name__}: {error}", exc_info=error
            )
