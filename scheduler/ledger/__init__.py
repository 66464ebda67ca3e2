"""The durable record of definitions, occurrences, attempts, outcomes and runs, in SQLite.

- `schema`: the tables, and how the file is opened.
- `sqlite`: the operations of the daemon. `claims` and `snapshots` hold the longer operations.
- `operator_requests`: pauses, manual runs and new names of targets (written by commands).
- `fire_requests`: the requests of commands for backfills.
- `history`: the lines for people. `steps`: the waits and events in the explanation of an occurrence.
- `retention`: the removal of old rows. `lock`: decides which of several daemons may write.
"""
