"""The audit: compare the occurrences implied by the definitions with the occurrences on record.

- `versions`: the period of each recorded definition version.
- `evaluation`: the instants implied by a definition, by the rules of that time.
- `expectation`: the instants implied by all automations of a target in a stretch of time, counted for a
  comparison with counts of SQLite.
- `comparison`: the differences between the two. `findings`: the differences in sentences.
- `runner`: a whole audit, stretch of time by stretch of time.
- `explanation`: the history of an automation at an instant, or the reason why nothing happened.

The queries are in `scheduler.ledger.audit_queries` and `scheduler.ledger.versions`. The audit uses no part of
the daemon's planning: a mistake shared by both would stay undetected.
"""
