"""What the daemon costs and how late it fires, as runs that anyone can repeat: ``make bench``, or ``python -m
bench.fire`` for one of them.

Machines differ and are shared: compare within one run, and quote ratios.
"""
