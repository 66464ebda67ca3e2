"""The embedded API: the task automations contract over SQLite, and the runner for the accepted runs.

The package is independent of the daemon, the ledger and the settings, and can be served alone.
"""
