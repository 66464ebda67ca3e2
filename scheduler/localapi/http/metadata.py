"""The answer to OPTIONS: a description of a view, as in Django REST framework's SimpleMetadata.

The description is derived from the contract's fields, and cannot contradict the fields.
"""

from typing import Any, Final

from scheduler.localapi.http.bodies import PARSED_TYPES
from scheduler.localapi.http.fields import Field, Flag, Reference, Text
from scheduler.localapi.http.negotiation import JSON
from scheduler.localapi.store import FIELDS

_DESCRIPTION: Final = "Automations: prompts that are run on a schedule."
_TYPES: Final[dict[type[Field], str]] = {Text: "string", Flag: "boolean", Reference: "field"}
_READ_ONLY_TYPES: Final = {"last_run_at": "datetime", "created_at": "datetime", "updated_at": "datetime"}


def describe(name: str, fields: tuple[Field, ...] | None) -> dict[str, Any]:
    """Describe a view. ``fields`` are the fields of a POST, None for a key or a view without POST."""
    described: dict[str, Any] = {
        "name": name,
        "description": _DESCRIPTION,
        "renders": [JSON],
        "parses": list(PARSED_TYPES),
    }
    if fields is not None:
        writable = {field.name: field for field in fields}
        described["actions"] = {"POST": {name: _describe_field(name, writable.get(name)) for name in FIELDS}}
    return described


def _describe_field(name: str, field: Field | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": _READ_ONLY_TYPES.get(name, "string") if field is None else _TYPES[type(field)],
        "required": field is not None and field.is_required,
        "read_only": field is None,
        "label": name.replace("_", " ").capitalize(),
    }
    if isinstance(field, Text) and field.max_length is not None:
        described["max_length"] = field.max_length
    return described
