"""The API of one target: six calls, the automations as one verified snapshot, and the request budget.

This package contains all code that sends HTTP to a target.
"""
