"""Real faults: the daemon and the embedded API as processes, on real sockets, disks and clocks, while
everything goes wrong that can.

- `site`: one daemon, one API, the proxy between them, and what can be spoiled: a disk of its own, a clock
  that can be set, a watched log.
- `fault`: what a fault is. `network`, `processes`, `storage` and `clock` hold them: each a small class that
  begins, ends, and says what it may cost.
- `editor`: the people, who create, edit and disable automations meanwhile.
- `storm`: draws faults from a seed, or plays named ones, and then lets all of it calm down.
- `final_check`: what must hold in the end, from the two databases alone: the API's runs and the accepted
  occurrences are the same, one to one.

``make faults MINUTES=60`` runs a storm (``python -m tests.faults --help``); ``make test`` sees to it that
each kind of fault is had once.
"""
