"""The list of settings: the models' leaves with their place in the file and their environment variable."""

import typing
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scheduler.settings.models import Settings

SettingPath = tuple[str | int, ...]
"""The place of a setting in the file: ``("server", "listen")``.

Tables count from 0: ``("target", 0, "url")``.
"""

VARIABLE_PREFIX: Final = "SCHEDULER_"


def make_variable_name(path: tuple[str, ...]) -> str:
    """Return the environment variable for a place in the file, where a variable is possible."""
    return VARIABLE_PREFIX + "__".join(path).upper()


def format_path(path: SettingPath) -> str:
    """Format a place in the file for people: ``server.listen``, ``target[0].url``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def find_table_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field with a table or a list of tables; None for a plain setting."""
    inner = typing.get_args(field.annotation) or (field.annotation,)
    return inner[0] if isinstance(inner[0], type) and issubclass(inner[0], BaseModel) else None


def _walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        table = find_table_model(field)
        if table is None:
            yield here, field
        else:
            yield from _walk(table, here)


SETTINGS: Final[Mapping[tuple[str, ...], FieldInfo]] = dict(_walk(Settings, ()))
"""Every setting by its place. In a list of tables the place has no number: ``("target", "url")``."""
TABLES: Final[frozenset[tuple[str, ...]]] = frozenset(
    path[:length] for path in SETTINGS for length in range(1, len(path))
)
LISTS: Final[frozenset[tuple[str, ...]]] = frozenset(
    (field.alias or name,)
    for name, field in Settings.model_fields.items()
    if typing.get_origin(field.annotation) is tuple
)
