"""deploy/scheduler.toml, which an installation begins with: every setting is in it, with its default."""

import re
import tomllib
from pathlib import Path

from scheduler.settings.load import load
from scheduler.settings.registry import SETTINGS

EXAMPLE = (Path(__file__).parents[2] / "deploy" / "scheduler.toml").read_text()
SET = EXAMPLE.replace('url = ""', 'url = "https://a.example"', 1).replace(
    'project_id = ""', 'project_id = "1"', 1
)
COMPLETE = re.sub(r"^#(?=\[|\w+ = )", "", SET, flags=re.MULTILINE)
"""With every default taken in."""

OF_ITS_OWN = {("target", "url"), ("target", "project_id"), ("api", "database")}
"""What is no default: what has none, and where the API's own user keeps its database."""


def settings(file: Path, text: str) -> object:
    file.write_text(text)
    return load(file, {}).settings


def test_it_is_valid_once_url_and_project_are_set(tmp_path: Path) -> None:
    assert settings(tmp_path / "scheduler.toml", SET)


def test_every_setting_is_in_it_and_nothing_else() -> None:
    found = {
        (section, *path)
        for section, inner in tomllib.loads(COMPLETE).items()
        for path in paths(inner[0] if isinstance(inner, list) else inner)
    }
    assert found == set(SETTINGS)


def paths(table: dict[str, object]) -> list[tuple[str, ...]]:
    return [
        (name, *below)
        for name, inner in table.items()
        for below in (paths(inner) if isinstance(inner, dict) else [()])
    ]


def test_what_it_shows_are_the_defaults(tmp_path: Path) -> None:
    shown = tomllib.loads(COMPLETE)
    minimal = (
        '[[target]]\nurl = "https://a.example"\nproject_id = "1"\n[api]\ndatabase = '
        f'"{shown["api"]["database"]}"\n'
    )
    [override] = shown.pop("override")
    assert override.pop("automation")
    assert override == {name: value for name, value in shown["schedule"].items() if name in override}
    complete = COMPLETE.replace(
        "[[override]]", "[override]"
    )  # of the policies it shows what they are without it
    without = re.sub(r"^\[override\]\n(?:\w.*\n)+", "", complete, flags=re.MULTILINE)
    assert settings(tmp_path / "scheduler.toml", without) == settings(tmp_path / "minimal.toml", minimal)


def test_only_what_has_no_default_is_set() -> None:
    found = {
        (section, name)
        for section, inner in tomllib.loads(EXAMPLE).items()
        for name in (inner[0] if isinstance(inner, list) else inner)
    }
    assert found == OF_ITS_OWN


def test_it_holds_no_key() -> None:
    assert "phx_" not in EXAMPLE
