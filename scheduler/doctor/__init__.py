"""The doctor: the present and coming problems of an installation, with advice.

`fact_collector` calls the `probes` concurrently, each within a time limit. The `checks` are pure functions
from the facts to findings. The doctor starts no run, takes no lock and writes nothing.
"""
