"""A state that comes and goes, told as one: from its first sight until it has not been seen for some time. Pure."""

from datetime import datetime


class Episode:
    """One state of a target. Seconds are of one clock that only goes forward; ``since`` is the instant of the first sight."""

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._seen = 0.0
        self.since: datetime | None = None

    def see(self, now: datetime, seconds: float) -> bool:
        """Note that the state holds. Returns whether it has just begun."""
        self._seen = seconds
        begins = self.since is None
        self.since = self.since or now
        return begins

    def end(self, seconds: float) -> datetime | None:
        """End the episode when the state has not been seen for the quiet time. Returns since when it lasted, or None."""
        if self.since is None or seconds - self._seen < self._quiet:
            return None
        since, self.since = self.since, None
        return since
