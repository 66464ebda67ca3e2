"""The settings: models, sources and errors."""

from scheduler.settings.keys import UnusableKey, load_key
from scheduler.settings.load import Configuration, load
from scheduler.settings.models import Override, Settings, TargetSection
from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable
from scheduler.settings.sources import DEFAULT_FILE, Assignment, Origin, make_option_assignment

__all__ = [
    "DEFAULT_FILE",
    "Assignment",
    "Configuration",
    "Origin",
    "Override",
    "Problem",
    "Settings",
    "SettingsError",
    "SettingsUnreadable",
    "TargetSection",
    "UnusableKey",
    "load",
    "load_key",
    "make_option_assignment",
]
