"""The proof: what the record implies, set against what the record says happened.

- `versions`: which recorded version of a definition was in force when. `evaluation`: which instants one implied, by the rules of then.
- `expectation`: what all automations of a target implied in a stretch of time, counted so that SQLite can count against it.
- `comparison`: what the two disagree about. `findings`: how that is told. `ledger_queries`: what of the ledger it takes.
- `runner`: one audit from its beginning to its end, a stretch of time after the other.
- `explanation`: what happened to one automation at one instant, or why nothing did.

It asks nothing of the daemon's own planning: a mistake that both made would go unseen.
"""
