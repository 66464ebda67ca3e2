"""The bus: publishes events to their observers, and keeps the observers apart.

The daemon publishes in the middle of its work. The bus reports an observer with an error; neither the other
observers nor the daemon notice the error.
"""

import contextlib
from collections.abc import Callable

import structlog

from scheduler.core.events import Event

Observer = Callable[[Event], None]


class Bus:
    """A bus that passes each event to every observer, in the order of subscription.

    Belongs to the loop's thread.
    """

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._faulty: set[Observer] = set()

    def subscribe(self, observer: Observer) -> None:
        """Call ``observer`` with every event from now on. The publisher waits for the observer."""
        self._observers.append(observer)

    def publish(self, event: Event) -> None:
        """Pass an event to every observer. Log the first exception of each observer, and raise none."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001  no error of an observer may stop the publisher
                self._report(observer, event, error)

    def _report(self, observer: Observer, event: Event, error: Exception) -> None:
        if observer in self._faulty:
            return
        self._faulty.add(observer)
        with contextlib.suppress(Exception):  # the log itself may be broken
            name = getattr(observer, "__qualname__", type(observer).__qualname__)
            log_observer_error(name, error, of=type(event).__name__)


def log_observer_error(observer: str, error: Exception, **keys: object) -> None:
    """Log the exception of an observer, with further keys."""
    text = f"{type(error).__name__}: {error}"
    structlog.get_logger().error("observer.failed", observer=observer, **keys, error=text, exc_info=error)
