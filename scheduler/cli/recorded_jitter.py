"""The check for jitter in the recorded settings, without loading the code that evaluates schedules."""

import json
import sqlite3
from typing import Final

from scheduler.settings import Settings

_NEWEST: Final = "SELECT schedule, overrides FROM policy ORDER BY id DESC LIMIT 1"
_NO_JITTER: Final = {None, "0s"}


def has_jitter(connection: sqlite3.Connection, settings: Settings) -> bool:
    """Return whether any automation may be due later than its instant.

    The newest recorded settings decide, or ``settings`` without a record.
    """
    found = connection.execute(_NEWEST).fetchone()
    if found is None:
        return any(policies.jitter for policies in settings.all_policies)
    return any(
        each.get("jitter") not in _NO_JITTER
        for each in (json.loads(found["schedule"]), *json.loads(found["overrides"]))
    )
