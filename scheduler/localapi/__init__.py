"""The embedded API: the task automations contract over SQLite, and the runner that carries out the runs it accepts.

It stands alone: it knows nothing of the daemon, its ledger or its settings, so that it can be served by itself.
"""
