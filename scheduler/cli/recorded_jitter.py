"""What the recorded settings say, as far as it can be told without loading what evaluates schedules."""

import json
import sqlite3
from typing import Final

from scheduler.settings import Settings

_NEWEST: Final = "SELECT schedule, overrides FROM policy ORDER BY id DESC LIMIT 1"
_NO_JITTER: Final = {None, "0s"}


def has_jitter(connection: sqlite3.Connection, settings: Settings) -> bool:
    """Whether any automation may be due later than at its instant, by the newest recorded settings, else by these."""
    found = connection.execute(_NEWEST).fetchone()
    if found is None:
        return any(policies.jitter for policies in settings.all_policies)
    return any(each.get("jitter") not in _NO_JITTER for each in (json.loads(found["schedule"]), *json.loads(found["overrides"])))
