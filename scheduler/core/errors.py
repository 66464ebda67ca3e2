"""The errors that cross rooms. Each says what its catcher can do.

::

    SchedulerError
    ├── ConfigurationError      wrong use: exit status 2
    │   └── TargetMismatch      the ledger knows the target under another URL or project
    ├── InvalidSchedule         (core/cron.py) an expression in a zone that is no schedule
    ├── DatabaseRefused         not a database of ours; left as it is: exit status 2
    └── Unreachable             exit status 3
        ├── LedgerUnavailable   not durable; nothing may be sent on the strength of it; try again later
        └── UpstreamError       the API could not be asked, or did not answer usefully
"""


class SchedulerError(Exception):
    """Anything we raise on purpose; its text is for people: what is wrong, where, and what to do."""


class ConfigurationError(SchedulerError):
    """The configuration or the command is wrong; nothing was begun."""


class TargetMismatch(ConfigurationError):
    """The ledger binds this target's name to another URL or project."""


class DatabaseRefused(SchedulerError):
    """The file is no database of ours, is damaged, or is of a newer version. It was left as it is."""


class Unreachable(SchedulerError):
    """The ledger or the API could not be reached; the same call may succeed later."""


class NoAnswer(Unreachable):
    """A server accepted a connection, and did not answer in time."""


class LedgerUnavailable(Unreachable):
    """A read or write of a database could not be done: disk full, read-only, locked, failing."""


class UpstreamError(Unreachable):
    """The API could not be asked, or its answer is no use."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None, held: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after  # seconds
        self.held = held  # nothing will work on this target until somebody mends it: key, scope, URL
