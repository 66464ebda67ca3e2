"""Each rule of docs/semantics.md has an id, and docs/rules.md names the tests that prove the rule."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEMANTICS = (ROOT / "docs" / "semantics.md").read_text()
INDEX = (ROOT / "docs" / "rules.md").read_text()
SIMULATION = ROOT / "tests" / "simulation"
CHECKS = "tests/simulation/"
"""Files of checks: their functions are checks of the simulation, and a sabotage may stand beside a check."""

ID = re.compile(r'<a id="(?P<anchor>[^"]*)"></a>`(?P<rule>[A-Z]+-\d+)`(?: |$)', re.MULTILINE)
STATEMENT = re.compile(r"^(?:- |\d+\. |\| )(?P<text>.*)$")
ENTRY = re.compile(r"- \[`(?P<rule>[A-Z]+-\d+)`\]\(semantics\.md#(?P<anchor>[^)]+)\)")
PROOF = re.compile(r"  - `(?P<file>tests/[a-z0-9_/]+\.py)::(?P<name>\w+)`")
SABOTAGE = re.compile(r"    - sabotage: (?P<name>.+)")


@dataclass(frozen=True)
class Proof:
    """A test, or a check of the simulation with the sabotages that the check notices."""

    file: str
    name: str
    sabotages: list[str] = field(default_factory=list)


@dataclass
class Entry:
    """A rule in the index, with its statement in one line and its proofs."""

    rule: str
    anchor: str
    statement: str = ""
    proofs: list[Proof] = field(default_factory=list)


def list_statements(page: str) -> list[str]:
    """Return the first line of each rule of the page: list items, and rows of tables without the headings."""
    rows = [line for line in page.splitlines() if STATEMENT.match(line)]
    headings = {above for above, line in pairwise(rows) if line.startswith("| ---")}
    return [line for line in rows if line not in headings and not line.startswith("| ---")]


def read_index(page: str) -> list[Entry]:
    """Return the entries of the index. A list item in another form is a fault of the page."""
    entries: list[Entry] = []
    for line in page.splitlines():
        if entry := ENTRY.fullmatch(line):
            entries.append(Entry(entry["rule"], entry["anchor"]))
        elif proof := PROOF.fullmatch(line):
            entries[-1].proofs.append(Proof(proof["file"], proof["name"]))
        elif sabotage := SABOTAGE.fullmatch(line):
            entries[-1].proofs[-1].sabotages.append(sabotage["name"])
        elif entries and not entries[-1].statement and line.startswith("  ") and line.endswith("."):
            entries[-1].statement = line.strip()
        else:
            assert not line.lstrip().startswith("- "), f"no rule, no proof and no sabotage: {line}"
    return entries


@cache
def list_definitions(file: str) -> frozenset[str]:
    """Return the names of all functions and classes in a file of the project; none for a missing file."""
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def list_sabotages() -> frozenset[str]:
    """Return the names of all sabotages, which are the keys of two dictionaries of the simulation."""
    sabotages: set[str] = set()
    for file in ("sabotages.py", "load_sabotages.py"):
        for node in ast.parse((SIMULATION / file).read_text()).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
                keys = [key for key in node.value.keys if isinstance(key, ast.Constant)]
                is_sabotages = ast.unparse(node.target).endswith("SABOTAGES")
                sabotages.update(str(key.value) for key in keys if is_sabotages)
    return frozenset(sabotages)


def find_faults(entries: list[Entry], sabotages: frozenset[str]) -> Iterator[str]:
    """Yield each test, check and sabotage that the index names and the project lacks."""
    checks = (SIMULATION / "checks" / "__init__.py").read_text()
    for entry in entries:
        if not entry.statement:
            yield f"{entry.rule} has no statement"
        if not entry.proofs:
            yield f"{entry.rule} has no test"
        for proof in entry.proofs:
            is_check = proof.file.startswith(CHECKS) and not proof.name.startswith("test_")
            if proof.name not in list_definitions(proof.file):
                yield f"{entry.rule}: {proof.file} has no {proof.name}"
            elif not is_check and not proof.name.startswith("test_"):
                yield f"{entry.rule}: {proof.name} is no test"
            elif "/checks/" in proof.file and f".{proof.name}," not in checks:
                yield f"{entry.rule}: no simulation runs the check {proof.name}"
            if proof.sabotages and not is_check:
                yield f"{entry.rule}: a test of its own notices no sabotage, {proof.name}"
            for sabotage in sorted(set(proof.sabotages) - sabotages):
                yield f"{entry.rule}: there is no sabotage {sabotage!r}"


ENTRIES = read_index(INDEX)
RULES = [found["rule"] for found in ID.finditer(SEMANTICS)]


def test_each_statement_of_a_rule_has_an_id() -> None:
    without = [line for line in list_statements(SEMANTICS) if not ID.match(line.split(" ", 1)[1])]
    assert without == []
    assert len(RULES) == len(list_statements(SEMANTICS)) > 100


def test_each_id_is_unique_and_has_its_anchor() -> None:
    assert sorted(set(RULES)) == sorted(RULES)
    assert [found["anchor"] for found in ID.finditer(SEMANTICS)] == [rule.lower() for rule in RULES]


def test_the_index_has_the_rules_in_their_order() -> None:
    assert [entry.rule for entry in ENTRIES] == RULES
    assert [entry.anchor for entry in ENTRIES] == [rule.lower() for rule in RULES]


def test_the_tests_of_each_rule_exist() -> None:
    assert list(find_faults(ENTRIES, list_sabotages())) == []


def test_each_sabotage_belongs_to_a_rule() -> None:
    noticed = {sabotage for entry in ENTRIES for proof in entry.proofs for sabotage in proof.sabotages}
    assert noticed == list_sabotages()
    assert len(noticed) > 50


RUNS = "tests/simulation/checks/runs.py"
HELPER = min(name for name in list_definitions(RUNS) if name.startswith("_"))
FAULTY: Mapping[str, tuple[list[str], str]] = {
    "no test": ([], "A-1 has no test"),
    "no file": (["  - `tests/test_none.py::test_a`"], "A-1: tests/test_none.py has no test_a"),
    "no function": (["  - `tests/test_rules.py::test_none`"], "A-1: tests/test_rules.py has no test_none"),
    "no check": ([f"  - `{RUNS}::at_most`"], f"A-1: {RUNS} has no at_most"),
    "an unused check": ([f"  - `{RUNS}::{HELPER}`"], f"A-1: no simulation runs the check {HELPER}"),
    "a helper": (["  - `tests/test_rules.py::find_faults`"], "A-1: find_faults is no test"),
    "no sabotage": (
        [f"  - `{RUNS}::at_most_one_run`", "    - sabotage: none"],
        "A-1: there is no sabotage 'none'",
    ),
    "a sabotage of a test": (
        ["  - `tests/test_rules.py::test_a_fault_of_the_index_is_found`", "    - sabotage: some"],
        "A-1: a test of its own notices no sabotage, test_a_fault_of_the_index_is_found",
    ),
}


@pytest.mark.parametrize(("proofs", "fault"), FAULTY.values(), ids=FAULTY)
def test_a_fault_of_the_index_is_found(proofs: list[str], fault: str) -> None:
    page = "\n".join(["- [`A-1`](semantics.md#a-1)", "  A rule.", *proofs])
    assert list(find_faults(read_index(page), frozenset({"some"}))) == [fault]


def test_a_rule_without_a_statement_is_found() -> None:
    page = "- [`A-1`](semantics.md#a-1)\n  - `tests/test_rules.py::test_a_rule_without_a_statement_is_found`"
    assert list(find_faults(read_index(page), frozenset())) == ["A-1 has no statement"]


@pytest.mark.parametrize("line", ["- `A-1`", "  - tests/test_rules.py", "    - the sabotage"])
def test_a_line_of_another_form_is_a_fault(line: str) -> None:
    with pytest.raises(AssertionError, match="no rule, no proof and no sabotage"):
        read_index(line)


def test_a_statement_without_an_id_is_found() -> None:
    page = "| answer | effect |\n| --- | --- |\n| 404 | none |\n\n- A rule.\n  - A part of the rule.\n1. One."
    assert list_statements(page) == ["| 404 | none |", "- A rule.", "1. One."]
