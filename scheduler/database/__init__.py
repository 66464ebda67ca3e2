"""SQLite for a daemon: group commits, reads in parallel, and checks before a file is used.

This package is the only place that opens databases. The contents belong to the ledger and to the embedded
API.

- `Database`: a writer thread with one transaction for all waiting writes, a reader, a background reader, and
  a browser for people. None of these threads waits for another.
- `open_for_reading`: a plain connection for a command that only reads.
- `Schema`: the kind of a database. `Migration`: one step of a schema.
"""

from scheduler.database.database import Database
from scheduler.database.files import Migration, Schema, open_for_reading

__all__ = ["Database", "Migration", "Schema", "open_for_reading"]
