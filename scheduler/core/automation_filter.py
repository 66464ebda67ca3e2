"""The automations that a person means: by id, by name, or by a pattern for the name (``nightly-*``)."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from scheduler.core.model import Automation, InvalidAutomation, to_canonical_id


def find_id(text: str | None) -> str | None:
    """Return the text as an id in canonical form; None for any other text."""
    try:
        return to_canonical_id(text)
    except InvalidAutomation:
        return None


def make_automation_filter(text: str) -> Callable[[Automation], bool]:
    """Return a predicate for the automations with this id, this name, or a name that fits the pattern."""
    matches = make_match(text)
    return lambda automation: matches(automation.id, automation.name)


def make_match(text: str) -> Callable[[str, str], bool]:
    """Return a predicate like `make_automation_filter`, for an id and a name."""
    wanted_id = find_id(text)
    if wanted_id is not None:
        return lambda automation_id, _: automation_id == wanted_id
    return lambda _, name: name == text or fnmatchcase(name, text)


def make_glob(text: str | None) -> str | None:
    """Return the pattern in the form of SQLite's GLOB; None without a pattern."""
    return None if text is None else text.replace("[!", "[^")
