"""Names say what they are: functions are verbs, and a public class name exists once."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTICIPLES = frozenset(
    [
        "asked",
        "begun",
        "built",
        "chosen",
        "come",
        "done",
        "drawn",
        "felt",
        "found",
        "given",
        "gone",
        "heard",
        "held",
        "hidden",
        "kept",
        "known",
        "laid",
        "left",
        "lost",
        "made",
        "meant",
        "put",
        "said",
        "seen",
        "sent",
        "shown",
        "spent",
        "stood",
        "taken",
        "told",
        "wanted",
        "won",
        "written",
    ]
)
ADJECTIVES = frozenset(
    ["embed", "feed", "need", "proceed", "red", "seed", "shed", "speed"]
)  # that end as participles do
PREPOSITIONS = frozenset(
    [
        "after",
        "as",
        "at",
        "before",
        "behind",
        "beside",
        "by",
        "from",
        "in",
        "of",
        "on",
        "since",
        "to",
        "under",
        "until",
        "upon",
        "with",
        "without",
    ]
)
CONVERSIONS = frozenset(["as", "by", "from", "on", "to", "with"])  # `to_text`, `from_row`
QUESTIONS = frozenset(["are", "can", "has", "is", "may", "should", "was"])
EXCEPTIONS = {
    "connection_lost": "asyncio calls it so",
    "connection_made": "asyncio calls it so",
    "data_received": "asyncio calls it so",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module, without properties and magic methods: those are nouns, and
    Python's.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if "property" not in decorators and "setter" not in decorators and not node.name.startswith("__"):
                yield node


def find_fault(name: str) -> str | None:
    """Return why a name is no verb; None for a good name."""
    words = name.strip("_").split("_")
    first = words[0]
    if first in QUESTIONS or name in EXCEPTIONS:
        return None
    if first in PREPOSITIONS and (len(words) == 1 or first not in CONVERSIONS):
        return "a preposition"
    if first in PARTICIPLES or (first.endswith("ed") and first not in ADJECTIVES):
        return "a participle"
    return None


def test_functions_are_named_by_verbs() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} is {fault}"
        for path in sorted((ROOT / "scheduler").rglob("*.py"))
        for node in functions(ast.parse(path.read_text()))
        if (fault := find_fault(node.name))
    ]
    assert faults == []


def test_a_public_class_name_exists_once() -> None:
    places = defaultdict(list)
    for path in (ROOT / "scheduler").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("told", "a participle"),
        ("_carried_out", "a participle"),
        ("examined", "a participle"),
        ("of_row", "a preposition"),
        ("_since", "a preposition"),
        ("to_text", None),
        ("is_held", None),
        ("feed", None),
        ("find_held", None),
    ],
)
def test_a_name_that_is_no_verb_is_noticed(name: str, fault: str | None) -> None:
    assert find_fault(name) == fault
