"""An automation is found by its name, its id or the beginning of its id, by every command; what is not there
gets a suggestion.
"""

import re
from pathlib import Path
from typing import Any

import click
import pytest

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import AUTOMATION_FORMS
from scheduler.cli.lookup import LEAST_PREFIX, find_near
from scheduler.cli.target_api import find_document
from scheduler.core.cron.zones import find_similar_names as find_near_zone
from scheduler.core.model import Automation, ClaimPlan, Definition, SnapshotUpdate
from tests.cli.conftest import Scheduler
from tests.cli.test_commands import LEAVES
from tests.ledger.support import HOURLY, MAIN, NIGHTLY, URL, at, automation, claim, stand, version
from tests.virtual import run_virtual

OTHER = "5f0e7c3a-0000-7000-8000-00000000000e"
TWIN = "5f0e7c3b-0000-7000-8000-00000000000f"
DEADBEEF = "7f0e7c3b-0000-7000-8000-00000000000f"


@pytest.fixture
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record six automations: two with one name, two whose ids begin alike, and one that is called like the
    beginning of an id.
    """
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    monkeypatch.setenv("SCHEDULER_TARGET__NAME", MAIN)
    monkeypatch.setenv("SCHEDULER_TARGET__URL", URL)
    monkeypatch.setenv("SCHEDULER_TARGET__PROJECT_ID", "1")
    at_three = Definition("0 3 * * *", "UTC", enabled=True)
    with stand(path) as on:
        known = [
            automation(),
            automation(HOURLY, "hourly", "0 * * * *"),
            *(Automation(each, "twin", at_three) for each in (OTHER, TWIN)),
            Automation(DEADBEEF, "5f0e7c3a", at_three),
        ]
        on.do(
            on.ledger.record_snapshot(
                MAIN, SnapshotUpdate(at(0), [version(each) for each in known], known, [])
            )
        )
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(4, OTHER, name="twin")], [], at(8))))


COMMANDS = [
    ("next", "{}", "--json"),
    ("explain", "{}", "--json"),
    ("pause", "{}"),
    ("why", "{}", "2026-11-23T12:04:00Z", "--json"),
    ("history", "--automation", "{}", "--json"),
    (
        "audit",
        "--automation",
        "{}",
        "--since",
        "2026-11-23T12:00:00Z",
        "--until",
        "2026-11-23T12:05:00Z",
        "--offline",
        "--json",
    ),
]


def give(command: tuple[str, ...], text: str) -> tuple[str, ...]:
    return tuple(part.format(text) for part in command)


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_beginning_of_an_id_is_enough(scheduler: Scheduler, command: tuple[str, ...]) -> None:
    by_id = scheduler(*give(command, TWIN))
    if command[0] == "pause":
        assert by_id.out == "paused: twin\n"
        assert scheduler("resume", "5F0E7C3B").out == "resumed: twin\n"
    assert scheduler(*give(command, "5f0e7c3b")) == by_id
    assert scheduler(*give(command, TWIN[:20].upper())).status == by_id.status


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_beginning_that_is_too_short_is_told_how_long_it_has_to_be(
    scheduler: Scheduler, command: tuple[str, ...]
) -> None:
    for_people = tuple(part for part in command if part != "--json")
    assert "; the beginning of an id has 4 characters or more" in scheduler(*give(for_people, "5F0")).err
    assert "the beginning of an id" not in scheduler(*give(for_people, "5f01")).err


def test_the_help_says_how_many_characters_of_an_id_are_enough() -> None:
    assert f"the first {LEAST_PREFIX} or more characters of an id" in AUTOMATION_FORMS
    for path, command in LEAVES.items():
        options = {parameter.name for parameter in command.params}
        if options & {"automation", "run_id", "run_ids"}:
            shown = " ".join(command.get_help(click.Context(command)).split())
            assert re.search(rf"first {LEAST_PREFIX} or more characters", shown), path


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_beginning_that_several_share_lists_them_with_their_ids(
    scheduler: Scheduler, command: tuple[str, ...]
) -> None:
    done = scheduler(*give(command, "5f0e"))
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines() == [
        "error: there are 2 automations whose ids begin with '5f0e'; give the id of one",
        f"  {OTHER}  twin  target main",
        f"  {TWIN}  twin  target main",
    ]


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command[0])
def test_a_name_that_two_have_lists_them_with_their_ids(
    scheduler: Scheduler, command: tuple[str, ...]
) -> None:
    done = scheduler(*give(command, "twin"))
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[0] == "error: there are 2 automations called 'twin'; give the id of one"
    assert {line.split()[0] for line in done.err.splitlines()[1:]} == {OTHER, TWIN}


@pytest.mark.usefixtures("_ledger")
def test_a_name_precedes_the_beginning_of_an_id(scheduler: Scheduler) -> None:
    assert scheduler("pause", "5f0e7c3a").out == "paused: 5f0e7c3a\n"
    assert scheduler("history", "--automation", "5f0e7c3a").err == "no occurrence matches\n"
    assert (
        '"automation_id": "5f0e7c3a-0000' in scheduler("history", "--automation", "5f0e7c3a-", "--json").out
    )


@pytest.mark.usefixtures("_ledger")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("text", "advice"), [("hourli", "did you mean 'hourly'?"), ("Report", "did you mean 'nightly report'?")]
)
def test_a_name_that_is_misspelt_gets_a_suggestion(
    scheduler: Scheduler, command: tuple[str, ...], text: str, advice: str
) -> None:
    done = scheduler(*(part for part in give(command, text) if part != "--json"))
    assert (done.out, advice in done.err) == ("", True)


@pytest.mark.usefixtures("_ledger")
def test_too_few_characters_are_no_beginning_of_an_id(scheduler: Scheduler) -> None:
    done = scheduler("pause", "5f0")
    assert (done.status, "there is no automation '5f0'" in done.err) == (1, True)


class Api:
    """The part of the client that a search needs."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = documents

    async def read_document(self, automation_id: str) -> dict[str, Any] | None:
        return next((each for each in self._documents if each["id"] == automation_id), None)

    async def list_documents(self) -> list[dict[str, Any]]:
        return list(self._documents)


API = Api(
    {"id": NIGHTLY, "name": "nightly report"},
    {"id": OTHER, "name": "twin"},
    {"id": TWIN, "name": "twin"},
    {"id": DEADBEEF, "name": None},
)


@pytest.mark.parametrize(
    ("text", "automation_id"),
    [("nightly report", NIGHTLY), (TWIN.upper(), TWIN), ("5f0e7c3b", TWIN), ("7F0E", DEADBEEF)],
)
def test_the_api_finds_one_by_name_id_or_the_beginning_of_its_id(text: str, automation_id: str) -> None:
    assert run_virtual(find_document(API, text))["id"] == automation_id  # type: ignore[arg-type]  # it has what a search needs


@pytest.mark.parametrize(
    ("text", "message", "details"),
    [
        (
            "twin",
            "there are 2 automations called 'twin'; give the id of one",
            (f"  {OTHER}  twin", f"  {TWIN}  twin"),
        ),
        (
            "5f0e",
            "there are 2 automations whose ids begin with '5f0e'; give the id of one",
            (f"  {OTHER}  twin", f"  {TWIN}  twin"),
        ),
        ("nightli", "there is no automation 'nightli'; did you mean 'nightly report'?", ()),
        ("unlike", "there is no automation 'unlike'; see `scheduler automations list`", ()),
    ],
)
def test_the_api_does_not_guess(text: str, message: str, details: tuple[str, ...]) -> None:
    with pytest.raises(AnswerIsNo) as refused:
        run_virtual(find_document(API, text))  # type: ignore[arg-type]  # it has what a search needs
    assert str(refused.value).splitlines() == [message, *details]


def test_many_candidates_are_not_all_listed_and_hostile_names_stay_harmless(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(*({"id": f"{TWIN[:-2]}{number}", "name": "bad\x1b[31m\nname"} for number in range(10, 40)))
    monkeypatch.setattr("scheduler.cli.target_api.carry_out", lambda _, use: run_virtual(use(api)))
    for name, value in {"URL": URL, "PROJECT_ID": "1"}.items():
        monkeypatch.setenv(f"SCHEDULER_TARGET__{name}", value)
    first, *listed = scheduler("automations", "get", "5f0e").err.splitlines()
    assert first == "error: there are 30 automations whose ids begin with '5f0e'; give the id of one"
    assert (len(listed), listed[-1]) == (11, "  and 20 more")
    assert listed[0].endswith(r"bad\x1b[31m\nname")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("nightly", ["nightly report", "Nightly backup"]),
        ("BACKUP", ["Nightly backup"]),
        ("wekly", ["weekly"]),
        ("xy", []),
        ("", []),
    ],
)
def test_names_like_another(text: str, near: list[str]) -> None:
    assert find_near(text, ["nightly report", "weekly", "Nightly backup", "x"]) == near


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("US/Estern", "US/Eastern"),
        ("tokio", "Asia/Tokyo"),
        ("Kiev", "Europe/Kiev"),
        ("Mars/Olympus", None),
        ("x" * 1_000, None),
    ],
)
def test_zones_like_another(name: str, first: str | None) -> None:
    assert next(iter(find_near_zone(name)), None) == first
