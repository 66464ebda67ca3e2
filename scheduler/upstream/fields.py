"""The fields of an automation that a client may write, by the API's own names."""

from typing import TypedDict


class _OptionalFields(TypedDict, total=False):
    github_integration: int | None
    timezone: str
    template_id: str | None
    enabled: bool


class NewAutomation(_OptionalFields):
    """A new automation. When absent, ``timezone`` becomes UTC and ``enabled`` becomes true in the API."""

    name: str
    prompt: str
    repository: str
    cron_expression: str


class AutomationEdit(_OptionalFields, total=False):
    """The changes of an edit. An absent field stays unchanged."""

    name: str
    prompt: str
    repository: str
    cron_expression: str
