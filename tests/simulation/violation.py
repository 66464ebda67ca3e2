"""`Violation`: something that must not be, and is."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    rule: str
    text: str
    automation_id: str | None = None
    scheduled_for: datetime | None = None

    def __str__(self) -> str:
        at = "" if self.scheduled_for is None else f" at {self.scheduled_for:%Y-%m-%d %H:%M:%SZ}"
        of = "" if self.automation_id is None else f" [{self.automation_id}{at}]"
        return f"{self.rule}: {self.text}{of}"
