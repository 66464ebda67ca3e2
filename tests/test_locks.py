"""requirements-run.lock, which `make install` goes by, is a part of requirements.lock, which the tests go by."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def locked(name: str) -> dict[str, str]:
    """Each package with its version and its hashes."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries if entry}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=; ]", each)[0] for each in requirements}


def test_what_is_installed_is_what_was_tested() -> None:
    assert locked("requirements-run.lock").items() <= locked("requirements.lock").items()


def test_what_the_project_needs_is_installed_and_no_tool_of_its_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    needed = names(project["project"]["dependencies"]) | names(groups["build"])
    assert needed <= set(locked("requirements-run.lock"))
    tools = names([each for each in groups["dev"] if isinstance(each, str)]) - needed
    assert not tools & set(locked("requirements-run.lock"))


def test_every_package_has_its_hashes() -> None:
    assert [name for name, entry in locked("requirements-run.lock").items() if "--hash=sha256:" not in entry] == []
