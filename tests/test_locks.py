"""requirements-run.lock, for `make run` and `make install`, is a part of requirements.lock, which the tests
use.
"""

import re
import subprocess
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
    assert [
        name for name, entry in locked("requirements-run.lock").items() if "--hash=sha256:" not in entry
    ] == []


def make(*arguments: str) -> str:
    """Return the output of ``make`` with these arguments in the checkout."""
    return subprocess.run(["make", *arguments], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_make_run_installs_the_program_and_no_tool_of_its_developers() -> None:
    commands = make("--dry-run", "--always-make", "run")
    assert "-r requirements-run.lock" in commands
    assert "-r requirements.lock" not in commands


def test_make_alone_describes_every_target() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^  ([a-z]+) +\S", make("--silent"), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


def test_the_list_of_targets_fits_a_terminal() -> None:
    assert [line for line in make("--silent").splitlines() if len(line) > 80] == []
