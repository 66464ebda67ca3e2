"""The HTTP side of the embedded API: routes, checks, bodies, the contract and the answers.

The package depends on the store of `scheduler.localapi`, and does not know the runner.
"""
