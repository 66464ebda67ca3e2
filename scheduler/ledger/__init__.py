"""The durable record of definitions, occurrences, attempts, outcomes and runs, in SQLite.

- `schema`: the tables, and how the file is opened. `sqlite`: the daemon's verbs. `claims`, `sightings`: the longer ones of them.
- `intents`: what commands write: pauses, manual runs, a target's new name. `fires`: what they ask the daemon to make up for.
- `history`: what people read. `steps`: what explains an occurrence afterwards.
- `retention`: how old rows go. `lock`: which of several daemons may write.
"""
