"""What the documents tell people to run is there, and their links lead somewhere."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from scheduler.settings.load import load

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(pattern: str) -> list[tuple[str, str]]:
    """What of this form the documents name, each with the document."""
    return [(each.name, found) for each in DOCUMENTS for found in re.findall(pattern, each.read_text())]


@pytest.mark.parametrize(("document", "target"), sorted(set(named(r"`make ([a-z]+)"))))
def test_every_make_target_that_is_named_is_there(document: str, target: str) -> None:
    assert target in TARGETS, f"{document} names `make {target}`"


@pytest.mark.parametrize(("document", "module"), sorted(set(named(r"python -m ([a-z_.]+)"))))
def test_every_module_that_is_to_be_run_is_there(document: str, module: str) -> None:
    assert importlib.util.find_spec(module) is not None, f"{document} names `python -m {module}`"


@pytest.mark.parametrize(("document", "link"), sorted(set(named(r"\]\(((?!https?:)[^)#]*(?:#[^)]+)?)\)"))))
def test_every_link_leads_to_a_file_and_an_anchor(document: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    source = next(each for each in DOCUMENTS if each.name == document)
    found = source if not path else (source.parent / path).resolve()
    assert found.exists(), f"{document} links to {link}"
    if anchor:
        text = found.read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {
            re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings
        }.union(re.findall(r'<a id="([^"]+)"></a>', text))
        assert anchor in anchors, f"{document}: {link}"


@pytest.mark.parametrize(("document", "picture"), sorted(set(named(r'(?:src|srcset)="([^"]+)"'))))
def test_every_picture_is_there(document: str, picture: str) -> None:
    assert (ROOT / picture).is_file(), f"{document} shows {picture}"


AGENTS = (ROOT / "docs" / "agents.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", AGENTS, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("settings", blocks("toml"))
def test_every_recipe_for_an_agent_is_a_configuration(tmp_path: Path, settings: str) -> None:
    (tmp_path / "scheduler.toml").write_text(settings)
    load(tmp_path / "scheduler.toml", {})


@pytest.mark.parametrize("script", blocks("sh"))
def test_every_script_for_an_agent_can_be_read(script: str) -> None:
    assert (
        subprocess.run(["sh", "-n"], input=script, check=False, capture_output=True, text=True).stderr == ""
    )


def test_there_are_recipes_and_scripts() -> None:
    assert len(blocks("toml")) >= 10
    assert len(blocks("sh")) >= 5


# ------------------------------------------------------------ lines

BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
UNBREAKABLE = re.compile(r"(?:[-*>] |\d+\. )?(?:\[[^]]*\]\(\S+\)|`[^` ]+`)[.,:;]?")
"""A line that is a single link, or a single name."""


def list_long_lines(text: str) -> list[str]:
    """The lines of prose over 120 columns, without tables, blocks of code and lines that cannot be broken."""
    return [
        line
        for line in BLOCK.sub("", text).splitlines()
        if len(line) > 120 and not line.lstrip().startswith("|") and not UNBREAKABLE.fullmatch(line.strip())
    ]


@pytest.mark.parametrize("page", DOCUMENTS[1:], ids=lambda page: page.name)
def test_a_line_of_prose_has_at_most_120_columns(page: Path) -> None:
    assert not list_long_lines(page.read_text())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("word " * 25, 1),
        (f"- {'word ' * 25}", 1),
        (f"[{'word ' * 25}](a.md), and more", 1),
        (f"  [{'word ' * 25}](a.md).", 0),
        (f"| {'word ' * 25}|", 0),
        (f"```sh\n{'word ' * 25}\n```", 0),
        (f"1. Run:\n\n   ```\n   {'word ' * 25}\n   ```\n\n{'word ' * 25}", 1),
    ],
)
def test_a_long_line_is_noticed_where_a_shorter_line_is_possible(text: str, number: int) -> None:
    assert len(list_long_lines(text)) == number
