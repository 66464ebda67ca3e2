"""The doctor: what is wrong with an installation, or will be, and what to do about it.

`fact_collector` finds out the facts, all beside each other and each bounded in time; `checks` lists the
checks, which are pure functions from
those facts to findings. Nothing here starts a run, takes a lock, or writes.
"""
