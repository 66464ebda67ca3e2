"""The settings: models, sources and errors."""
