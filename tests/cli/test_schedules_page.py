"""docs/schedules.md says what is so: its commands print what it shows, and its tables agree with the code."""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from scheduler.core.cron.clock_changes import find_clock_changes
from scheduler.core.cron.description import describe_schedule, join_words
from scheduler.core.cron.dialect_difference import Code, Difference
from scheduler.core.cron.dialects import find_differences
from scheduler.core.cron.schedule import Schedule
from tests.cli.conftest import Scheduler

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
CONSOLES = re.findall(r"^```console\n\$ scheduler (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


def rows(header: str) -> list[list[str]]:
    """The cells of all tables that begin with this header."""
    found = []
    for table in re.findall(rf"^{re.escape(header)}\n\|[- |]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        found += [
            [cell.strip().replace("\\*", "*") for cell in line.strip()[1:-1].split("|")]
            for line in table.splitlines()
        ]
    assert found
    return found


@pytest.mark.parametrize(("command", "output"), CONSOLES)
def test_a_command_prints_what_the_page_shows(scheduler: Scheduler, command: str, output: str) -> None:
    done = scheduler(*shlex.split(command))
    assert (done.status, done.err) == (0, "")
    assert done.out == output


def test_there_are_commands() -> None:
    assert len(CONSOLES) == PAGE.count("```console") == 2


@pytest.mark.parametrize(("expression", "words"), rows("| expression | in words |"))
def test_an_expression_has_these_words(expression: str, words: str) -> None:
    assert describe_schedule(Schedule.parse(expression.strip("`"), "UTC")) == words


@pytest.mark.parametrize(
    ("expression", "policies", "ahead", "back"), rows("| expression | policies | 2025-03-30 | 2025-10-26 |")
)
def test_a_clock_change_does_this(expression: str, policies: str, ahead: str, back: str) -> None:
    skip, twice = "skip" in policies, "twice" in policies
    schedule = Schedule.parse(
        expression.strip("`"),
        "Europe/Berlin",
        dst_gap="skip" if skip else "after",
        dst_repeat="twice" if twice else "once",
    )
    told = [
        change.words.split(": ", 1)[1]
        for change in find_clock_changes(schedule, BEGIN, BEGIN + timedelta(days=365))
    ]
    assert told == [ahead, back]


DIALECTS = rows("| code | for example | here | elsewhere |")


@pytest.mark.parametrize(("code", "expression", "here", "elsewhere"), DIALECTS)
def test_other_crons_are_said_to_do_this(code: str, expression: str, here: str, elsewhere: str) -> None:
    schedule = Schedule.parse(expression.strip("`"), "Europe/Berlin")
    changes = find_clock_changes(schedule, BEGIN, BEGIN + timedelta(days=365))
    difference = next(each for each in find_differences(schedule, changes) if each.code == code.strip("`"))
    assert (difference.here, _elsewhere(difference)) == (here, elsewhere)


def _elsewhere(difference: Difference) -> str:
    return (
        "; ".join(f"{join_words(other.dialects)}: {other.does}" for other in difference.elsewhere)
        or "the same"
    )


def test_every_code_is_on_the_page() -> None:
    assert sorted(row[0].strip("`") for row in DIALECTS) == sorted(get_args(Code))


def test_every_key_is_on_the_page(scheduler: Scheduler) -> None:
    done = scheduler("explain", "--cron", "30 2 * * 1", "--timezone", "Europe/Berlin", "--json")
    explained = json.loads(done.out)
    inner = {
        *explained["clock_changes"][0],
        *explained["differences"][0],
        *explained["differences"][0]["elsewhere"][0],
    }
    named = {
        name
        for row in rows("| key | what it holds |")
        for cell in row
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert {*explained, *inner, "automation_id", "name", "enabled"} <= named
