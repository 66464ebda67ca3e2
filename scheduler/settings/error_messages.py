"""Error messages for pydantic's findings: place, mistake and remedy.

Pydantic's own texts are for programmers.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pydantic_core import ErrorDetails

from scheduler.settings.problems import InvalidSetting, Problem, find_nearest, format_value
from scheduler.settings.registry import LISTS, SETTINGS, TABLES, SettingPath, format_path
from scheduler.settings.sources import Assignment, Origin

MessageParts = tuple[str, str]
"""The mistake, and the remedy."""

_EXAMPLES: Final[Mapping[tuple[str, ...], str]] = {
    ("target", "url"): 'url = "https://us.posthog.com"',
    ("target", "project_id"): 'project_id = "12345"',
    ("override", "automation"): 'automation = "nightly-*"',
}


def make_problems(
    faults: Iterable[ErrorDetails], assigned: Mapping[SettingPath, Assignment]
) -> list[Problem]:
    """Make a problem for each finding."""
    return [Problem(describe_place(fault["loc"], assigned), *_describe_fault(fault)) for fault in faults]


def describe_place(path: SettingPath, assigned: Mapping[SettingPath, Assignment]) -> str:
    """Describe the place of a value for people: the origin of the value and the setting."""
    origin = _find_origin(path, assigned)
    return f"{origin}: {format_path(path)}" if origin else format_path(path)


def _find_origin(path: SettingPath, assigned: Mapping[SettingPath, Assignment]) -> Origin | None:
    """Find the origin of the value at a place, of a value inside, or of the nearest value."""
    for length in range(len(path), 0, -1):
        for candidate, assignment in assigned.items():
            if candidate[:length] == path[:length]:
                return assignment.origin
    return None


def _describe_fault(fault: ErrorDetails) -> MessageParts:
    if fault["type"] in _DESCRIBERS:
        return _DESCRIBERS[fault["type"]](fault)
    what, remedy = _MESSAGES.get(fault["type"], ("{msg}, not {value}", "see docs/configuration.md"))
    context = fault.get("ctx", {})
    return what.format(value=format_value(fault["input"]), msg=fault["msg"], **context), remedy


def _describe_refusal(fault: ErrorDetails) -> MessageParts:
    """Return the message of a parser of this package."""
    error = fault["ctx"]["error"]
    if isinstance(error, InvalidSetting):
        return error.what, error.remedy
    return str(error), "see docs/configuration.md"


def _describe_unknown(fault: ErrorDetails) -> MessageParts:
    return "is no known setting", _suggest_name(_drop_numbers(fault["loc"]))


def _suggest_name(path: tuple[str, ...]) -> str:
    """Suggest the nearest known name.

    Names in the same table come first, then names elsewhere with a similar last word, and last the most
    similar name.
    """
    beside = {
        known[len(path) - 1]
        for known in (*SETTINGS, *TABLES)
        if len(known) >= len(path) and known[: len(path) - 1] == path[:-1]
    }
    if match := find_nearest(path[-1], beside):
        return f"did you mean {match}?"
    names = {".".join(known): known[-1] for known in SETTINGS}
    elsewhere = find_nearest(path[-1], set(names.values()), cutoff=0.8)
    likely = [name for name, last in names.items() if last == elsewhere] or list(names)
    return f"did you mean {find_nearest('.'.join(path), likely, cutoff=0)}?"


def _describe_missing(fault: ErrorDetails) -> MessageParts:
    return "is missing", f"add {_EXAMPLES[_drop_numbers(fault['loc'])]}"


def _describe_missing_table(fault: ErrorDetails) -> MessageParts:
    path = _drop_numbers(fault["loc"])
    header = f"[[{path[0]}]]" if path[:1] in LISTS else f"[{'.'.join(path)}]"
    what = f"should be a table, not {_describe_kind(fault['input'])}"
    return what, f"write {header} on a line of its own and its settings below"


def _describe_missing_list(fault: ErrorDetails) -> MessageParts:
    path, kind = _drop_numbers(fault["loc"]), _describe_kind(fault["input"])
    if path in TABLES:
        return (
            f"should be a list of tables, not {kind}",
            f"write [[{path[0]}]] with two brackets, once for each",
        )
    return f"should be a list, not {kind}", 'write it as ["one", "two"], also in an environment variable'


def _drop_numbers(path: SettingPath) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def _describe_kind(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else format_value(value)


_DESCRIBERS: Final[Mapping[str, Callable[[ErrorDetails], MessageParts]]] = {
    "value_error": _describe_refusal,
    "extra_forbidden": _describe_unknown,
    "missing": _describe_missing,
    "model_type": _describe_missing_table,
    "tuple_type": _describe_missing_list,
}
_MESSAGES: Final[Mapping[str, MessageParts]] = {
    "literal_error": ("should be {expected}, not {value}", "write one of them"),
    "enum": ("should be {expected}, not {value}", "write one of them"),
    "greater_than_equal": ("should be at least {ge}, not {value}", "write a number within the limits"),
    "less_than_equal": ("should be at most {le}, not {value}", "write a number within the limits"),
    "int_type": ("should be a whole number, not {value}", "write digits alone, as 400"),
    "bool_type": ("should be true or false, not {value}", "write one of the two, without quotes"),
}
