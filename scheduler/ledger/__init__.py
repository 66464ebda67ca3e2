"""The durable record of definitions, occurrences, attempts, outcomes and runs, in SQLite.

- `schema`: the tables, and how the file is opened.
- `sqlite`: the operations of the daemon. `claims` and `snapshots` hold the longer operations.
- `targets`: names, URLs and projects of targets. `operator_requests`: pauses and manual runs of commands.
- `fire_requests`: the requests of commands for backfills.
- `history`: the lines for people. `steps`: the waits and events in the explanation of an occurrence.
- `retention`: the removal of old rows. `lock`: decides which of several daemons may write.
"""
