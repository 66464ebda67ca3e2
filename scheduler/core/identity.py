"""The key under which all attempts of one occurrence are sent."""

import hashlib
from datetime import datetime

from scheduler.core.instants import to_text_seconds


def make_idempotency_key(url: str, project_id: str, automation_id: str, scheduled_for: datetime) -> str:
    """The same for every attempt of an occurrence, whatever the target is called and whoever sends it: 64 hexadecimal digits."""
    parts = (url.rstrip("/"), project_id, automation_id, to_text_seconds(scheduled_for))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
