"""Episodes: a state with interruptions is one episode, from its first sight until the end of a quiet time.

This module is pure.
"""

from datetime import datetime


class Episode:
    """One state of a target.

    Seconds are of one clock without steps backward. ``since`` is the instant of the first sight.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._seen = 0.0
        self.since: datetime | None = None

    def see(self, now: datetime, seconds: float) -> bool:
        """Record a sight of the state. Return whether the episode begins now."""
        self._seen = seconds
        begins = self.since is None
        self.since = self.since or now
        return begins

    def end(self, seconds: float) -> datetime | None:
        """End the episode when the state has not been seen for the quiet time.

        Return the beginning of the ended episode, or None.
        """
        if self.since is None or seconds - self._seen < self._quiet:
            return None
        since, self.since = self.since, None
        return since
