"""docs/configuration.md names every setting with its default and its variable, and no other."""

import re
import tomllib
from pathlib import Path

import pytest

from scheduler.settings import sources
from scheduler.settings.load import load
from scheduler.settings.registry import SETTINGS, make_variable_name

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<default>.+?) \| (?P<variable>.*?) ?\| (?P<meaning>.*?) ?\|$")


def documented() -> dict[tuple[str, ...], re.Match[str]]:
    rows: dict[tuple[str, ...], re.Match[str]] = {}
    section: tuple[str, ...] = ()
    for line in TEXT.splitlines():
        if heading := re.fullmatch(r"## `\[+([\w.]+)\]+`", line):
            section = tuple(heading[1].split("."))
        elif section and (row := ROW.match(line)):
            rows[(*section, row["key"])] = row
    return rows


def default_text(path: tuple[str, ...]) -> str:
    if SETTINGS[path].is_required():
        return "required"
    if path[0] == "override":
        return "from `[schedule]`"
    return "as in code"


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert set(documented()) == set(SETTINGS)


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_a_settings_variable_is_documented(path: tuple[str, ...]) -> None:
    row = documented()[path]
    assert row["variable"] == ("" if path[0] == "override" else f"`{make_variable_name(path)}`")
    assert row["meaning"] or path[0] == "override"


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_a_settings_default_is_documented(path: tuple[str, ...], tmp_path: Path) -> None:
    default = documented()[path]["default"]
    expected = default_text(path)
    if expected != "as in code":
        assert default == expected
        return
    file = tmp_path / "scheduler.toml"
    target = '[[target]]\nurl = "https://a.example"\nproject_id = "1"\n'
    header = target if path[0] == "target" else f"{target}[{'.'.join(path[:-1])}]\n"
    file.write_text(target)
    without = load(file, {}).settings
    file.write_text(f"{header}{path[-1]} = {default.strip('`')}\n")
    assert load(file, {}).settings == without


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_an_example_of_the_documentation_is_a_valid_file(example: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text(example)
    assert tomllib.loads(example)
    load(file, {})


def test_the_documentations_variables_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FILE", Path("/nonexistent"))
    lines = [
        line.removeprefix("export ")
        for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
    ]
    variables = dict(line.split("=", 1) for line in lines if line.startswith("SCHEDULER_"))
    assert len(variables) == 6
    load(None, {name: text.strip("'") for name, text in variables.items()})
