"""Exceptions shared between packages. Each exception tells its handler the possible action.

::

    SchedulerError
    ├── ConfigurationError      wrong use: exit status 2
    │   └── TargetMismatch      the ledger knows the target under another URL or project
    ├── InvalidSchedule         (core/cron/schedule.py) an expression in a zone that is no schedule
    ├── DatabaseRefused         not a database of ours; left as it is: exit status 2
    └── Unreachable             exit status 3
        ├── LedgerUnavailable   not durable; nothing may be sent on the strength of it; try again later
        └── UpstreamError       the API could not be asked, or did not answer usefully
"""


class SchedulerError(Exception):
    """Base of all deliberate errors of this project.

    The text is for people: the error, its place, and the remedy.
    """


class ConfigurationError(SchedulerError):
    """The configuration or the command is wrong. No work was begun."""


class TargetMismatch(ConfigurationError):
    """The ledger binds this target's name to another URL or project."""


class DatabaseRefused(SchedulerError):
    """The file is no database of this project, is damaged, or is of a newer version.

    The file was not changed.
    """


class Unreachable(SchedulerError):
    """The ledger or the API could not be reached. The same call may succeed later."""


class NoAnswer(Unreachable):
    """A server accepted a connection, and did not answer in time."""


class LedgerUnavailable(Unreachable):
    """A read or write of a database failed: disk full, read-only, locked, or an I/O error."""


class UpstreamError(Unreachable):
    """The API could not be asked, or its answer is not usable."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, held: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after  # seconds
        self.held = held  # no request to this target works until the key, scope or URL is corrected
