"""The doctor: the present and coming problems of an installation, with advice.

`fact_collector` collects the facts concurrently, each within a time limit. `checks` lists the checks: pure
functions from the facts to findings. The doctor starts no run, takes no lock and writes nothing.
"""
