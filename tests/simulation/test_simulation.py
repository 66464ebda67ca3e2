"""Some dozens of seeds, the same every time; `make soak` plays as many as wanted. And the sabotages: what
breaks the daemon is noticed.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.simulation import commands, load
from tests.simulation.drawing import draw
from tests.simulation.load_sabotages import LOAD_SABOTAGES, TOLD_BY
from tests.simulation.player import Played, Player
from tests.simulation.sabotages import SABOTAGES
from tests.simulation.script import Action, Dies, Disk, Edit, Fault, Script
from tests.simulation.shrinking import shrunk
from tests.simulation.stories import SMALL

pytestmark = pytest.mark.timeout(600)  # a machine that is busy with other things
_ROOT = Path(__file__).parents[2]
_SEEDS = (
    *(4, 24, 27, 29, 30, 32, 33, 36, 38, 42, 43, 44, 45, 48, 50, 53, 59, 60, 72, 73, 82, 90, 95, 98),
    *(108, 109, 113, 117, 119, 122, 123),
    *(1, 7, 9, 12, 19, 67, 102),
)
"""Of the first 130 seeds, the cheapest ones that together have each fault and each outcome eight times, and
seeds with many occurrences.

The seeds need a third of the time of the first 60 seeds, and have as many actions.
"""
_UNDER_LOAD = (0, 4, 7, 9)
_OF_COMMANDS = (0, 2, 4, 9)

NOTICED_BY = {
    "claim not durable": 60,
    "attempt 2 not durable": 60,
    "sending before the commit": 60,
    "retry without looking": 113,
    "settle time ignored": 38,
    "settle time from the start of the attempt": 38,
    "overdue off by one": 82,
    "watermark ahead of its rows": 51,
    "a reading older than the attempt believed": 38,
    "pauses ignored": 18,
    "told before it is so": 48,
    "open claims adopted without the lock": 21,
    "foreign run adopted": 118,
    "trusting a short page": 7,
    "overdue and not told": 35,
    "waits lost when the process is killed": 7,
}
"""A seed that notices each sabotage, and is soon played.

`python -m tests.simulation sabotage` says after how many other seeds.
"""


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    with Player() as player:
        yield player


@pytest.mark.parametrize(
    "seed",
    [
        *_SEEDS,
        *(load.FIRST_SEED + number for number in _UNDER_LOAD),
        *(commands.FIRST_SEED + number for number in _OF_COMMANDS),
    ],
)
def test_whatever_happens_every_occurrence_has_its_one_true_outcome(player: Player, seed: int) -> None:
    played = player.play(str(seed), "--whole")
    assert played.status == 0, played.text
    assert played.text == f"seed {seed}: nothing is violated\n"


def test_the_seeds_have_each_fault_several_times() -> None:
    actions = [action for seed in _SEEDS for action in draw(seed).actions]
    faults = Counter(
        getattr(action, name)
        for action in actions
        for name in ("fault", "trouble", "dies")
        if hasattr(action, name)
    )
    assert faults.keys() == {*Fault, *Disk, *Dies}
    assert min(faults.values()) >= 8


@pytest.mark.parametrize("name", SMALL)
def test_the_promise_holds_under_load(player: Player, name: str) -> None:
    played = player.play("story", name)
    assert played.status == 0, played.text
    assert played.text.startswith(f"{name}: ")
    assert played.text.count("occurrences") == 1


def test_each_sabotage_of_a_rule_under_load_has_its_story() -> None:
    assert TOLD_BY.keys() == LOAD_SABOTAGES.keys()
    assert set(TOLD_BY.values()) <= SMALL.keys()
    assert NOTICED_BY.keys() | TOLD_BY.keys() == SABOTAGES.keys()


def test_the_page_of_guarantees_lists_every_sabotage() -> None:
    """Of those under load, beside the story that notices it."""
    page = (_ROOT / "docs" / "guarantees.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    listed = {name: row[-1] for row in rows for name in row[0].split("; ")}
    assert SABOTAGES.keys() <= listed.keys()
    assert {name: listed[name] for name in TOLD_BY} == TOLD_BY
    assert {name: int(listed[name]) for name in NOTICED_BY} == NOTICED_BY


@pytest.mark.parametrize("name", TOLD_BY)
def test_a_rule_under_load_that_is_broken_on_purpose_is_noticed(player: Player, name: str) -> None:
    assert_noticed(player.play("sabotage", "--only", name))


@pytest.mark.parametrize("name", NOTICED_BY)
def test_a_daemon_that_is_broken_on_purpose_is_noticed(player: Player, name: str) -> None:
    assert_noticed(player.play("sabotage", "--only", name, "--from", str(NOTICED_BY[name]), "--seeds", "1"))


def assert_noticed(played: Played) -> None:
    assert played.status == 0, played.text
    assert "NOT NOTICED" not in played.text
    assert len(played.text.splitlines()) == 1


def test_the_same_seed_plays_the_same_story(player: Player) -> None:
    """In two interpreters, which have nothing in common, not even where an object lies."""
    arguments = ("soak", "--from", "42", "--seeds", "2", "--jobs", "1")
    assert _without_times(told(*arguments).stdout) == _without_times(player.play(*arguments).text)


def told(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command says."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=580, check=True)


def _without_times(text: str) -> Sequence[str]:
    return [line for line in text.splitlines() if "/s" not in line]


def test_a_failing_script_is_made_as_short_as_it_fails() -> None:
    def fails(script: Script) -> bool:
        numbers = [each.automation for each in script.actions if isinstance(each, Edit)]
        return 3 in numbers and 7 in numbers

    actions: list[Action] = [Edit(at=float(number), target=0, automation=number) for number in range(10)]
    script = draw(1)
    short = shrunk(Script(1, script.setting, tuple(actions)), fails)
    assert [each.automation for each in short.actions if isinstance(each, Edit)] == [3, 7]
