"""A scheduler daemon for task automations: fires each occurrence once, and can prove it."""

__version__ = "0.1.0"
