"""Pydantic's findings in our own words: where, what, and what to do. Pydantic's own texts are for programmers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pydantic_core import ErrorDetails

from scheduler.settings.catalogue import LISTS, SETTINGS, TABLES, Dotted, dotted
from scheduler.settings.layers import Assignment, Origin
from scheduler.settings.problems import Problem, Wrong, nearest, shown

Text = tuple[str, str]
"""What is wrong, and what to do."""

_EXAMPLES: Final[Mapping[tuple[str, ...], str]] = {
    ("target", "url"): 'url = "https://us.posthog.com"',
    ("target", "project_id"): 'project_id = "12345"',
    ("override", "automation"): 'automation = "nightly-*"',
}


def complaints(faults: Iterable[ErrorDetails], assigned: Mapping[Dotted, Assignment]) -> list[Problem]:
    """One problem for each finding."""
    return [Problem(where(fault["loc"], assigned), *_text(fault)) for fault in faults]


def where(path: Dotted, assigned: Mapping[Dotted, Assignment]) -> str:
    """The place of a value for people: who wrote it, and which setting it is."""
    origin = _origin(path, assigned)
    return f"{origin}: {dotted(path)}" if origin else dotted(path)


def _origin(path: Dotted, assigned: Mapping[Dotted, Assignment]) -> Origin | None:
    """Who wrote the value at a place, inside it, or as near to it as there is anything."""
    for length in range(len(path), 0, -1):
        for candidate, assignment in assigned.items():
            if candidate[:length] == path[:length]:
                return assignment.origin
    return None


def _text(fault: ErrorDetails) -> Text:
    if fault["type"] == "value_error":
        return _refused(fault)
    say = _TEXTS.get(fault["type"])
    return say(fault) if say else (f"{fault['msg']}, not {shown(fault['input'])}", "see docs/configuration.md")


def _refused(fault: ErrorDetails) -> Text:
    """What one of our own readers said."""
    error = fault["ctx"]["error"]
    return (error.what, error.remedy) if isinstance(error, Wrong) else (str(error), "see docs/configuration.md")


def _unknown(fault: ErrorDetails) -> Text:
    return "is no known setting", _suggestion(_plain(fault["loc"]))


def _suggestion(path: tuple[str, ...]) -> str:
    """The nearest known name: beside the unknown one, else anywhere by its last word, else whatever is most like it."""
    beside = {known[len(path) - 1] for known in (*SETTINGS, *TABLES) if len(known) >= len(path) and known[: len(path) - 1] == path[:-1]}
    if match := nearest(path[-1], beside):
        return f"did you mean {match}?"
    names = {".".join(known): known[-1] for known in SETTINGS}
    elsewhere = nearest(path[-1], set(names.values()), cutoff=0.8)
    likely = [name for name, last in names.items() if last == elsewhere] or list(names)
    return f"did you mean {nearest('.'.join(path), likely, cutoff=0)}?"


def _missing(fault: ErrorDetails) -> Text:
    return "is missing", f"add {_EXAMPLES[_plain(fault['loc'])]}"


def _no_table(fault: ErrorDetails) -> Text:
    path = _plain(fault["loc"])
    header = f"[[{path[0]}]]" if path[:1] in LISTS else f"[{'.'.join(path)}]"
    return f"should be a table, not {_kind(fault['input'])}", f"write {header} on a line of its own and its settings below"


def _no_list(fault: ErrorDetails) -> Text:
    path = _plain(fault["loc"])
    if path in TABLES:
        return f"should be a list of tables, not {_kind(fault['input'])}", f"write [[{path[0]}]] with two brackets, once for each"
    return f"should be a list, not {_kind(fault['input'])}", 'write it as ["one", "two"], also in an environment variable'


def _no_choice(fault: ErrorDetails) -> Text:
    return f"should be {fault['ctx']['expected']}, not {shown(fault['input'])}", "write one of them"


def _bound(word: str, limit: str) -> Callable[[ErrorDetails], Text]:
    return lambda fault: (f"should be at {word} {fault['ctx'][limit]}, not {shown(fault['input'])}", "write a number within the limits")


def _no(kind: str, remedy: str) -> Callable[[ErrorDetails], Text]:
    return lambda fault: (f"should be {kind}, not {shown(fault['input'])}", remedy)


def _plain(path: Dotted) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def _kind(value: object) -> str:
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)


_TEXTS: Final[Mapping[str, Callable[[ErrorDetails], Text]]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "model_type": _no_table,
    "tuple_type": _no_list,
    "literal_error": _no_choice,
    "enum": _no_choice,
    "greater_than_equal": _bound("least", "ge"),
    "less_than_equal": _bound("most", "le"),
    "int_type": _no("a whole number", "write digits alone, as 400"),
    "bool_type": _no("true or false", "write one of the two, without quotes"),
}
