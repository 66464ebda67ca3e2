"""What the documents tell people to run is there, and their links lead somewhere."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from scheduler.settings import load

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
def test_every_link_leads_to_a_file_and_a_heading(document: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    source = next(each for each in DOCUMENTS if each.name == document)
    found = source if not path else (source.parent / path).resolve()
    assert found.exists(), f"{document} links to {link}"
    if anchor:
        headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
        assert anchor in {
            re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings
        }, f"{document}: {link}"


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
