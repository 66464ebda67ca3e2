"""The version, the changelog and the upgrade notes agree."""

import re
from pathlib import Path

from scheduler import __version__

ROOT = Path(__file__).parents[1]
HEADINGS = re.findall(r"^## \[(.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
NOTES = (ROOT / "docs" / "upgrade-and-move.md").read_text()


def test_the_changelog_begins_with_changes_that_are_not_released() -> None:
    assert HEADINGS[0] == "Unreleased]"


def test_each_release_has_a_date_and_the_newest_is_this_version() -> None:
    assert [
        heading for heading in HEADINGS[1:] if not re.fullmatch(r"[\d.]+\] - \d{4}-\d\d-\d\d", heading)
    ] == []
    assert HEADINGS[1].startswith(f"{__version__}] - ")


def test_this_version_has_upgrade_notes() -> None:
    assert f"\n### {__version__}\n" in NOTES
