"""A scheduler daemon for task automations: fires each occurrence once, and can prove it."""

__version__ = "0.2.0"
