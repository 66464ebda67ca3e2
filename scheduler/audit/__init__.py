"""The audit: compare the occurrences implied by the definitions with the occurrences on record.

- `versions`: the recorded definition versions, and the period of each version.
- `evaluation`: the instants implied by a definition, by the rules of that time.
- `expectation`: the instants implied by all automations of a target in a stretch of time, counted for a
  comparison with counts of SQLite.
- `comparison`: the differences between the two. `findings`: the differences in sentences.
- `ledger_queries`: the queries of an audit.
- `runner`: a whole audit, stretch of time by stretch of time.
- `explanation`: the history of an automation at an instant, or the reason why nothing happened.

The audit uses no part of the daemon's planning: a mistake shared by both would stay undetected.
"""
