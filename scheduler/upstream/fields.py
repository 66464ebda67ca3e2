"""The fields of an automation that a client may write, by the API's own names."""

from typing import TypedDict


class _OptionalFields(TypedDict, total=False):
    github_integration: int | None
    timezone: str
    template_id: str | None
    enabled: bool


class NewAutomation(_OptionalFields):
    """A new automation. Where they are absent, the API sets ``timezone`` to UTC and ``enabled`` to true."""

    name: str
    prompt: str
    repository: str
    cron_expression: str


class AutomationEdit(_OptionalFields, total=False):
    """What an edit changes; a field that is absent stays as it is."""

    name: str
    prompt: str
    repository: str
    cron_expression: str
