"""The whole daemon on virtual time and a simulated network: whatever happens, every occurrence has its one
outcome, and it is true.

One seed decides everything. From it a `script` is *drawn*: the settings, and a list of timed actions
(`drawing`). Then it is *played* (`world`): first the storm, then minutes of calm in which all has to
settle. Then the *checks* look at what it left behind.

What is real: `scheduler.app.daemon.Daemon` with all that it is made of, from its lock file to its reloads and
its shutdown; the `ApiClient` with its pages, budget and judgement; the ledger on SQLite; metrics and log
lines. What is simulated, and where:

- `process`: the machine: clocks, signals, threads.
  A process can be killed at each step of each of its tasks, and at each commit.
- `disk`: the ledger's file, which can be full, locked or slow, or fail at its fsync,
  and the file that a killed process leaves.
- `network`: under the client's transport.
  Requests and answers are late, lost, cut, reset, refused, answered by another server,
  or carried out long after the client gave up. Reads lag behind.
- `api`: the service, with its own truth: every run that the service started, for whom,
  and each state of each automation.

The checks (`checks`, on the `evidence`) use none of the daemon's decisions: they compare the ledger with what
the API really did and was asked, with what the definitions imply, and with what was told in events, metrics
and log. Plain expressions in UTC are counted by hand (`counting`); for all others `core.cron.schedule` is
shared, which has tests of its own.

::

    # Play a seed again. A failing seed is made short, and its trace is printed.
    python -m tests.simulation 1234

    # Play many seeds on all cores. The exit status is 1 after a violation.
    make soak SEEDS=5000 FROM=0

    # Break the daemon on purpose, one way at a time, and count the seeds until a check notices.
    python -m tests.simulation sabotage

The same seed does the same everywhere: hashes of strings are fixed by ``PYTHONHASHSEED=0``, which the command
sets itself.
"""
