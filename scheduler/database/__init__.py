"""SQLite for a daemon: durable writes in groups, reads beside them, and a file that is taken for ours only when it is.

The one place that opens databases; what is in them is the business of the ledger and of the embedded API.

- `Database`: a writer thread that makes one transaction of whatever is waiting, a reader, and one for people; none waits for another.
- `open_for_reading`: a plain connection for a command that looks and changes nothing.
- `Migration`: one step of a schema.
"""

from scheduler.database.database import Database
from scheduler.database.files import Migration, Tables, open_for_reading

__all__ = ["Database", "Migration", "Tables", "open_for_reading"]
