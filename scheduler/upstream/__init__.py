"""The API of one target: six calls, the automations as one verified snapshot, and the request budget.

This package contains all code that sends HTTP to a target.
"""

from scheduler.upstream.client import ApiClient, Document
from scheduler.upstream.fields import AutomationEdit, NewAutomation
from scheduler.upstream.target import TargetConfig

__all__ = ["ApiClient", "AutomationEdit", "Document", "NewAutomation", "TargetConfig"]
