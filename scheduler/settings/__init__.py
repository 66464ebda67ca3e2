"""Settings: what can be set, where it is read from, and what is wrong with it."""

from scheduler.settings.keys import KeyUnusable, load_key
from scheduler.settings.layers import DEFAULT_FILE, Assignment, Origin, option
from scheduler.settings.load import Configuration, Effective, load
from scheduler.settings.models import Override, Settings, Target
from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable

__all__ = [
    "DEFAULT_FILE",
    "Assignment",
    "Configuration",
    "Effective",
    "KeyUnusable",
    "Origin",
    "Override",
    "Problem",
    "Settings",
    "SettingsError",
    "SettingsUnreadable",
    "Target",
    "load",
    "load_key",
    "option",
]
