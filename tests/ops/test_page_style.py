"""The palette of the status page, as WCAG 2.2 measures it, and that nothing in style, script and templates
leads elsewhere.
"""

import re
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path

import pytest

from scheduler.ops.page import assets

FOLDER = Path(assets.__file__).parent
STYLE = assets.STYLE.content.decode()
LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)

TEXT = [
    *product(["ink", "soft", "link", "bad", "warn"], ["paper", "card"]),
    *product(["ink", "soft", "link"], ["soft-back"]),
    *((tone, f"{tone}-back") for tone in ("good", "warn", "bad", "open", "soft")),
    *(("ink", f"{tone}-back") for tone in ("good", "warn", "bad")),  # a sentence in the verdict
    ("card", "link"),  # a button
]
"""What is written on what: 4.5 to 1 (1.4.3)."""
SHAPES = [
    ("bar", "card"),
    ("edge", "card"),
    ("edge", "paper"),
    ("link", "card"),
    ("link", "paper"),
    ("card", "good"),
    ("card", "bad"),
    ("card", "warn"),
]
"""What is drawn on what: 3 to 1 (1.4.11)."""


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(palette: dict[str, str], one: str, other: str) -> float:
    darker, lighter = sorted(luminance(palette[each]) for each in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_is_calculated_as_it_is_defined() -> None:
    assert contrast({"a": "#000000", "b": "#ffffff"}, "a", "b") == pytest.approx(21)
    assert contrast({"a": "#767676", "b": "#ffffff"}, "a", "b") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("least", "pairs"), [(4.5, TEXT), (3.0, SHAPES)], ids=["text", "shapes"])
def test_everything_stands_out_from_what_it_is_on(
    palette: dict[str, str], least: float, pairs: list[tuple[str, str]]
) -> None:
    assert [
        (one, other, round(contrast(palette, one, other), 2))
        for one, other in pairs
        if contrast(palette, one, other) < least
    ] == []


def test_light_and_dark_name_the_same_colours_and_no_rule_has_one_of_its_own() -> None:
    assert LIGHT.keys() == DARK.keys()
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-f]{3,8}\b|rgb\(|hsl\(", rules)
    assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) == set(LIGHT)


@pytest.mark.parametrize(
    "file",
    sorted(each for each in FOLDER.rglob("*.*") if each.suffix in {".css", ".js", ".svg", ".html"}),
    ids=str,
)
def test_nothing_leads_elsewhere_or_is_written_where_the_policy_forbids_it(file: Path) -> None:
    text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"https?://|//[a-z]|@import|url\(", text)
    if file.suffix == ".html":
        assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|<script>|\|\s*safe|autoescape", text)


def test_an_installed_package_has_all_of_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, cwd=root, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        packed = set(files.namelist())
    assert {
        str(each.relative_to(root))
        for each in FOLDER.rglob("*.*")
        if each.suffix in {".css", ".js", ".svg", ".html"}
    } <= packed
