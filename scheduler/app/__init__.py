"""The composition root: makes the running processes from the settings.

Only this package connects the other packages, and only here observers subscribe.
"""
