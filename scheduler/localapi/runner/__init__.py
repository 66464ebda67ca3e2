"""The runner of the embedded API: takes accepted runs to their end, and removes old data of runs.

A run is a workspace, an optional clone, and a command in a process tree under a subreaper. The package
depends on the store of `scheduler.localapi`, and does not know HTTP.
"""
