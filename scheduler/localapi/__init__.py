"""The embedded API: the task automations contract over SQLite, and the runner for the accepted runs.

`http` answers requests, `runner` carries out runs, and both meet only in the store: the modules beside the
two packages. `server` builds everything.

The package is independent of the daemon, the ledger and the settings, and can be served alone.
"""
