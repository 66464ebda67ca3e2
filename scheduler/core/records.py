"""What the ledger gives back when a target is bound: everything a starting daemon goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from scheduler.core.model import Automation


@dataclass(frozen=True, slots=True)
class RecordedAutomation:
    """An automation as last recorded: its newest definition's version, and the newest run known of it."""

    automation: Automation
    effective_from: datetime
    broken: str | None  # why the API's object has no usable definition


@dataclass(frozen=True, slots=True)
class RecordedTarget:
    """A target as last recorded. ``snapshot_at`` and ``watermark`` are None before the first good poll."""

    snapshot_at: datetime | None
    watermark: datetime | None
    automations: Mapping[str, RecordedAutomation]
