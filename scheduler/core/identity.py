"""The idempotency key of an occurrence, common to all its attempts."""

import hashlib
from datetime import datetime

from scheduler.core.instants import to_text_seconds


def make_idempotency_key(url: str, project_id: str, automation_id: str, scheduled_for: datetime) -> str:
    """Return the idempotency key of an occurrence: 64 hexadecimal digits.

    The key is the same for every attempt, whatever the name of the target and whichever node sends the
    attempt.
    """
    parts = (url.rstrip("/"), project_id, automation_id, to_text_seconds(scheduled_for))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
