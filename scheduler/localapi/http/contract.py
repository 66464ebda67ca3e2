"""The contract: the fields of an automation, their order, and the rules for new and changed automations.

Pure. The contract sets the order of the fields, and the order decides which of several errors is named.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.cron.zones import PLACEHOLDERS
from scheduler.localapi.http.errors import make_validation_error
from scheduler.localapi.http.fields import ABSENT, Field, Flag, Reference, Text
from scheduler.localapi.store import FIELDS, Value

_CRON_FIELDS: Final = 5
_READ_ONLY_TYPES: Final = {"last_run_at": "datetime", "created_at": "datetime", "updated_at": "datetime"}


class Contract:
    """The rules for values from clients. ``github_integrations`` are the ids that an automation may name."""

    def __init__(self, github_integrations: Collection[int] = ()) -> None:
        self.fields: tuple[Field, ...] = (
            Text(name="name", max_length=255),
            Text(name="prompt"),
            Text(name="repository", max_length=255, check=_parse_repository),
            Reference(
                name="github_integration", nullable=True, default=None, known=frozenset(github_integrations)
            ),
            Text(name="cron_expression", max_length=100, check=_check_cron_expression),
            Text(name="timezone", max_length=128, default="UTC", check=_check_timezone),
            Text(name="template_id", max_length=255, nullable=True, blank=True, default=None),
            Flag(name="enabled", default=True),
        )

    def parse_new(self, data: object) -> dict[str, Value]:
        """Return every writable field of a new automation. Raises `ApiError` for the first wrong field.

        Unknown fields are ignored.
        """
        fields = _require_mapping(data)
        return {field.name: field.read_new(fields) for field in self.fields}

    def parse_changes(self, data: object) -> dict[str, Value]:
        """Return only the fields in ``data``, for an existing automation. Raises as `parse_new` does."""
        fields = _require_mapping(data)
        values = ((field, field.get_value(fields)) for field in self.fields)
        return {field.name: field.read(value) for field, value in values if value is not ABSENT}

    def describe_fields(self) -> dict[str, dict[str, Any]]:
        """Describe every field of an automation, as in Django REST framework's SimpleMetadata."""
        writable = {field.name: field for field in self.fields}
        return {name: _describe_field(name, writable.get(name)) for name in FIELDS}


def _describe_field(name: str, field: Field | None) -> dict[str, Any]:
    """Describe a writable field, or with None a read-only field."""
    description: dict[str, Any] = {
        "type": field.type_name if field else _READ_ONLY_TYPES.get(name, "string"),
        "required": field is not None and field.is_required,
        "read_only": field is None,
        "label": name.replace("_", " ").capitalize(),
    }
    if isinstance(field, Text) and field.max_length is not None:
        description["max_length"] = field.max_length
    return description


def _require_mapping(data: object) -> Mapping[str, object]:
    if data is None:
        raise make_validation_error("null", "No data provided")
    if not isinstance(data, dict):
        raise make_validation_error(
            "invalid_input", f"Invalid data. Expected a dictionary, but got {type(data).__name__}."
        )
    return data


def _parse_repository(text: str) -> str:
    parts = text.split("/")
    if len(parts) != len(("organization", "repository")) or not all(parts):
        raise ValueError("Repository must be in the format organization/repository")
    return text.lower()


def _check_cron_expression(text: str) -> str:
    """Accept schedules that this scheduler can evaluate. The daemon would quarantine other schedules."""
    if len(text.split()) != _CRON_FIELDS:
        raise ValueError(
            "Only standard 5-field cron expressions are supported (minute hour day month weekday). "
            "Example: '0 9 * * 1-5'."
        )
    try:
        Schedule.parse(text, "UTC")
    except InvalidSchedule:
        detail = "Invalid cron expression. Use standard 5-field cron syntax (e.g., '0 9 * * 1-5')."
        raise ValueError(detail) from None
    return text


def _check_timezone(text: str) -> str:
    if text not in _list_timezones():
        raise ValueError(f"'{text}' is not a valid IANA timezone.")
    return text


@cache
def _list_timezones() -> frozenset[str]:
    # Listing time zones reads the folders of the zone data, tens of milliseconds each time.
    return frozenset(available_timezones()) - PLACEHOLDERS
