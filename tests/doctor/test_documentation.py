"""docs/monitor.md has an entry for every check, in the order of the checks, a row for every status, and no
other.
"""

import re
from pathlib import Path

import pytest

from scheduler.doctor import facts
from scheduler.doctor.checks import CHECKS, clocks, reachability, request_forecast, zone_data
from scheduler.doctor.findings import Status
from scheduler.doctor.probes.api import NIL_ID

TEXT = re.split(r"^## ", (Path(__file__).parents[2] / "docs" / "monitor.md").read_text(), flags=re.MULTILINE)
(SECTION,) = [part for part in TEXT if part.startswith("The doctor\n")]


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    table = re.search(rf"^\| {re.escape(first)} \|.*\n\| --- .*\n((?:\|.*\n)+)", SECTION, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def entries() -> list[tuple[str, str]]:
    """The name and the text of each check."""
    parts = re.split(
        r"^#### (.+)\n", SECTION.partition("\n### The checks\n")[2].partition("\n### ")[0], flags=re.MULTILINE
    )
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_every_check_has_its_entry_and_no_other() -> None:
    assert [name for name, _ in entries()] == [name for name, _ in CHECKS]


@pytest.mark.parametrize(("name", "text"), entries())
def test_every_entry_says_what_is_looked_at_what_is_wrong_and_what_to_do(name: str, text: str) -> None:
    parts = re.split(r"^- \*\*(\w+)\.\*\*", text, flags=re.MULTILINE)[1:]
    assert parts[::2] == ["Examines", "Reports", "Do"], name
    assert all(part.strip() for part in parts[1::2]), name


def test_every_status_has_its_row_and_no_other() -> None:
    assert [row[0].strip("`") for row in rows("status of a finding")] == [str(status) for status in Status]


@pytest.mark.parametrize(
    "text",
    [
        f"PATCH of the automation `{NIL_ID}`",
        f"within {reachability._SOON.days} days",
        f"more than {clocks._NOTABLE:.0f} s",
        f"Foreign runs within {facts.LOOK_BACK.days} days",
        "two years old",
        "24 hours",
    ],
)
def test_what_it_says_of_limits_is_so(text: str) -> None:
    assert text in SECTION
    assert zone_data._YEARS == 2
    assert request_forecast.DAY == 24 * 60
