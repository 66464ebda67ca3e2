"""The fields of an automation that a client may write, by the API's own names."""

from typing import TypedDict


class _Optional(TypedDict, total=False):
    github_integration: int | None
    timezone: str
    template_id: str | None
    enabled: bool


class NewAutomation(_Optional):
    """A new automation. Where they are absent, the API sets ``timezone`` to UTC and ``enabled`` to true."""

    name: str
    prompt: str
    repository: str
    cron_expression: str


class AutomationEdit(_Optional, total=False):
    """What an edit changes; a field that is absent stays as it is."""

    name: str
    prompt: str
    repository: str
    cron_expression: str
