"""The durable record of definitions, occurrences, attempts, outcomes and runs, in SQLite.

- `schema`: the tables, and how the file is opened. `sqlite`: the daemon's verbs. `claims`, `snapshots`: the longer ones of them.
- `operator_requests`: what commands write: pauses, manual runs, a target's new name. `fire_requests`: what
  they ask the daemon to make up for.
- `history`: what people read. `steps`: what explains an occurrence afterwards.
- `retention`: how old rows go. `lock`: which of several daemons may write.
"""
