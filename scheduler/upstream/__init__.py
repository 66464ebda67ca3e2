"""One target's API: its six calls, its automations as one verified snapshot, a budget of requests. All that sends HTTP to it is here."""

from scheduler.upstream.client import ApiClient, Document
from scheduler.upstream.fields import AutomationEdit, NewAutomation
from scheduler.upstream.target import TargetConfig

__all__ = ["ApiClient", "AutomationEdit", "Document", "NewAutomation", "TargetConfig"]
