"""`scheduler check`: what it prints, and what it exits with. What it finds is tested in tests/doctor."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from scheduler.cli import doctor_inputs, output
from scheduler.cli.commands import check
from scheduler.doctor.findings import CheckFinding, Status
from tests.cli.conftest import Scheduler
from tests.doctor.support import HEALTHY
from tests.ports import free_port

KEYS = ["check", "subject", "status", "finding", "advice"]
LONG = "so much is wrong here that no line of a terminal is wide enough for it, " * 3
FOUND = [
    CheckFinding("configuration", "a.toml", Status.OK, "can be read"),
    CheckFinding("ledger", "/l.db", Status.OK, "whole"),
    CheckFinding("ledger", "/l.db", Status.WARNING, "tight", "make room"),
    CheckFinding(
        "schedules",
        "automation \x1b[31mred\n (1)",
        Status.FAULT,
        LONG.strip(),
        "edit it, " * 20 + "and so on",
    ),
]


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> list[CheckFinding]:
    """What the doctor finds, whatever there is."""
    found = list(FOUND)

    async def facts(*_: object) -> object:
        return HEALTHY

    monkeypatch.setattr(doctor_inputs, "examine_installation", facts)
    monkeypatch.setattr("scheduler.doctor.checks.run_checks", lambda _: iter(found))
    return found


def test_findings_are_shown_by_checks_with_what_to_do_and_a_summary(
    finds: list[CheckFinding], scheduler: Scheduler
) -> None:
    finds.pop()
    done = scheduler("check")
    assert done.out == (
        "configuration\n  ok       a.toml: can be read\n\n"
        "ledger\n  ok       /l.db: whole\n  warning  /l.db: tight\n           → make room\n\n"
        "1 warning\n"
    )
    assert (done.status, done.err) == (0, "")


def test_all_is_well(finds: list[CheckFinding], scheduler: Scheduler) -> None:
    del finds[2:]
    done = scheduler("check")
    assert (done.status, done.out.splitlines()[-1]) == (0, "all is well")


def test_a_fault_makes_the_exit_status_1(finds: list[CheckFinding], scheduler: Scheduler) -> None:
    assert finds
    done = scheduler("check")
    assert (done.status, done.out.splitlines()[-1]) == (1, "1 fault, 1 warning")


def test_for_programs_there_is_a_line_for_each_finding(
    finds: list[CheckFinding], scheduler: Scheduler
) -> None:
    done = scheduler("check", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [list(line) for line in lines] == [KEYS] * len(finds)
    assert lines[2] == {
        "check": "ledger",
        "subject": "/l.db",
        "status": "warning",
        "finding": "tight",
        "advice": "make room",
    }
    assert done.status == 1


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_every_line_fits(
    finds: list[CheckFinding], scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    assert finds
    monkeypatch.setattr(output, "_find_width", lambda _: width)
    lines = scheduler("check").out.splitlines()
    assert max(map(len, lines)) <= width
    assert any(len(line) > width - 15 for line in lines)
    assert "".join(" ".join(lines).split()).count("".join(LONG.split())) == 1  # nothing is cut


def test_names_cannot_take_hold_of_a_terminal(finds: list[CheckFinding], scheduler: Scheduler) -> None:
    assert finds
    out = scheduler("check").out
    assert "\x1b" not in out
    assert r"automation \x1b[31mred\n (1): so much" in out


def test_of_many_findings_of_one_kind_a_person_reads_the_first(
    finds: list[CheckFinding], scheduler: Scheduler
) -> None:
    finds[:] = [
        CheckFinding("schedules", f"a{number}", Status.NOTICE, "odd", "edit it") for number in range(25)
    ]
    out = scheduler("check").out
    assert out.count("odd") == 20
    assert "and 5 more of notice; --json prints all of them" in out
    assert len(scheduler("check", "--json").out.splitlines()) == 25


def configured(path: Path, text: str) -> Sequence[str]:
    (path / "scheduler.toml").write_text(text)
    return "check", "--config", str(path / "scheduler.toml"), "--json"


def test_mistakes_in_the_configuration_are_faults(scheduler: Scheduler, tmp_path: Path) -> None:
    done = scheduler(*configured(tmp_path, "[ledger]\nretension = '9d'\n[log]\nlevel = 'loud'\n"))
    found = [json.loads(line) for line in done.out.splitlines()]
    assert {each["finding"] for each in found if each["status"] == "fault"} >= {"is no known setting"}
    assert len([each for each in found if each["check"] == "configuration"]) == 2
    assert (done.status, done.err) == (1, "")


def test_a_configuration_that_cannot_be_read_is_wrong_use(scheduler: Scheduler, tmp_path: Path) -> None:
    done = scheduler("check", "--config", str(tmp_path / "missing.toml"))
    assert (done.status, done.out) == (2, "")
    assert "cannot be read" in done.err


def test_an_api_that_cannot_be_reached_is_a_fault_and_the_rest_is_examined(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    target = f'[[target]]\nurl = "http://127.0.0.1:{free_port()}"\nproject_id = "1"\n'
    ledger = (
        f'[ledger]\nurl = "sqlite:///{tmp_path}/scheduler.db"\n[server]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    done = scheduler(*configured(tmp_path, target + ledger))
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [each["check"] for each in found if each["status"] == "fault"] == ["key", "reachability"]
    assert {"ledger", "zone data", "daemon"} <= {each["check"] for each in found}
    assert done.status == 1


def test_the_help_says_what_the_exit_status_means(scheduler: Scheduler) -> None:
    text = " ".join(scheduler("check", "--help").out.split())
    assert re.search(r"Exit status 0: .* 1: .* 2: ", text)
    assert all(key in text for key in KEYS)
    assert isinstance(check.command, click.Command)


def test_the_key_of_the_running_unit_is_looked_for_where_there_is_no_other(tmp_path: Path) -> None:
    environment = doctor_inputs._add_credentials
    assert environment({}, tmp_path) == {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert environment({"CREDENTIALS_DIRECTORY": "/mine"}, tmp_path) == {"CREDENTIALS_DIRECTORY": "/mine"}
    assert environment({}, tmp_path / "missing") == {}
