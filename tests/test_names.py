"""Names and docstrings are plain: functions are verbs, docstrings name their subject, lines are short."""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
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

OPENINGS = re.compile(
    r"(What|Whatever|Whether (that|it|this)|It|That|Those|One (that|was|which)|Who|Nobody|There|This|"
    r"The same)\b"
)
MAX_COLUMNS = 110
CODE = ("scheduler", "tests", "bench")
PRAGMA = re.compile(r"  # (noqa|type): ?.*")  # a reason may make a line longer


@cache
def parse(path: Path) -> ast.Module:
    """Return the tree of a module."""
    return ast.parse(path.read_text())


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
        for node in functions(parse(path))
        if (fault := find_fault(node.name))
    ]
    assert faults == []


def test_a_public_class_name_exists_once() -> None:
    places = defaultdict(list)
    for path in (ROOT / "scheduler").rglob("*.py"):
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_a_docstring_begins_with_a_verb_or_its_subject() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {docstring.splitlines()[0]}"
        for path in sorted((ROOT / "scheduler").rglob("*.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if OPENINGS.match(docstring := ast.get_docstring(node) or "")
    ]
    assert faults == []


def list_long_lines(text: str) -> list[int]:
    """Return the numbers of the lines over the limit. A pragma with its reason does not count."""
    return [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if len(PRAGMA.sub("", line)) > MAX_COLUMNS and "noqa: E501 -- " not in line
    ]


def test_a_line_of_code_has_at_most_110_columns() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
        for number in list_long_lines(path.read_text())
    ]
    assert faults == []
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    exempt = [pattern for pattern, rules in settings["per-file-ignores"].items() if "E501" in rules]
    assert exempt == []


@pytest.mark.parametrize(
    ("line", "is_long"),
    [
        ("x" * 110, False),
        ("x" * 111, True),
        ("x" * 110 + "  # noqa: S608 -- a literal", False),
        ("x" * 111 + "  # noqa: S608 -- a literal", True),
        ("x" * 111 + "  # noqa: E501", True),
        ("x" * 111 + "  # noqa: E501 -- an address", False),
    ],
)
def test_a_long_line_is_noticed(line: str, *, is_long: bool) -> None:
    assert list_long_lines(line) == [1] * is_long


@pytest.mark.parametrize(
    "docstring",
    [
        "What is short.",
        "It was left.",
        "That it is alive.",
        "One that tells of no change.",
        "The same, later.",
    ],
)
def test_a_docstring_without_a_subject_is_noticed(docstring: str) -> None:
    assert OPENINGS.match(docstring)


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
