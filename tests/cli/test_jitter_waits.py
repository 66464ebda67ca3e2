"""What waits for its due time is the same to a command that reads the record as to the daemon that has it in
its timetable.
"""

import json
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.app.settings_mapping import make_policy_texts
from scheduler.cli.jitter_waits import derive_lines
from scheduler.cli.recorded_policies import read_settings
from scheduler.cli.times import format_timedelta
from scheduler.core.instants import from_text
from scheduler.ledger.history import Line
from scheduler.ledger.not_due_lines import make_line
from scheduler.ledger.schema import open_for_reading
from scheduler.settings.load import load
from tests.audit.support import recorded, spoil
from tests.cli.conftest import Scheduler
from tests.daemon.world import NOON, World
from tests.defaults import make_policies

JITTER = timedelta(minutes=20)
AT = NOON + timedelta(hours=1, minutes=2)
Stood = tuple[Path, list[Line]]


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> Stood:
    """A ledger two minutes after the hour, when some of 24 automations are due, and the lines of the others
    by their daemon.
    """
    lines: list[Line] = []

    async def story(world: World) -> None:
        automations = [
            world.api.create(
                "0 * * * *" if number % 2 else "*/30 * * * *", name=f"a{number:02}", enabled=number != 7
            )
            for number in range(24)
        ]
        world.start()
        await world.until("12:58:00")
        world.api.delete(automations[9])
        await world.until("13:00:20")
        for number in range(12, 24):  # an edit takes back nothing that was scheduled before it
            world.api.edit(automations[number], cron_expression="0,45 * * * *")
        await world.until("13:02:00")
        assert world.process is not None
        lines.extend(make_line("main", wait) for wait in await world.process.target.waits.list_not_due())
        world.kill()

    path = recorded(
        tmp_path_factory.mktemp("until_due") / "ledger.db", story, policies=make_policies(jitter=JITTER)
    )
    (path.parent / "then.toml").write_text('[schedule]\njitter = "20m"\n')
    schedule, overrides = make_policy_texts(load(path.parent / "then.toml", {}).settings)
    spoil(
        path,
        "INSERT INTO policy (since, schedule, overrides) VALUES ('2026-11-23T11:00:00.000000Z', ?, ?)",
        schedule,
        overrides,
    )
    return path, sorted(lines, key=str)


def test_a_reader_derives_what_the_daemon_has_in_its_timetable(stood: Stood) -> None:
    path, lines = stood
    assert 5 < len(lines) < 22, "some are due, some are not"
    with closing(open_for_reading(path)) as connection:
        settings = read_settings(connection, load(None, {}).settings)
        derived = derive_lines(connection, settings, None, AT)
        assert sorted(derived, key=str) == lines
        assert derive_lines(connection, settings, str(derived[0]["name"]), AT) == [derived[0]]
        assert derive_lines(connection, settings, None, AT + JITTER) == []


def test_a_history_without_jitter_does_not_load_what_evaluates_schedules(
    stood: Stood, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(stood[0].read_bytes())
    spoil(
        path,
        """UPDATE policy SET schedule = '{"jitter": "0s"}',
            overrides = '[{"automation": "a*", "paused": true}]'""",
    )
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    monkeypatch.setitem(sys.modules, "scheduler.cli.jitter_waits", None)
    assert scheduler("history", "--limit", "1").status == 0


def test_history_and_why_show_it_as_waiting(
    stood: Stood, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lines = stood
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    for module in ("history", "why"):
        monkeypatch.setattr(f"scheduler.cli.commands.{module}.now", lambda: AT)
    shown = [
        json.loads(line) for line in scheduler("history", "--outcome", "open", "--json").out.splitlines()
    ]
    assert sorted(shown, key=str) == lines
    hourly = {f"a{number:02}" for number in range(1, 12, 2)}
    name, due = next((each["name"], str(each["due"])) for each in shown if each["name"] in hourly)
    row = next(line for line in scheduler("history").out.splitlines() if f" {name} " in line)
    assert f"open: due {due[11:19]} " in row
    told = json.loads(scheduler("why", name, "2026-11-23T13:00:00Z", "--json").out)
    assert (told["verdict"], told["due"]) == ("to_come", due)
    assert told["waits"] == {"for": "due", "since": "2026-11-23T13:00:00.000000Z", "detail": None}
    people = scheduler("why", name, "2026-11-23T13:00:00Z").out
    assert f"\nopen: waiting\n  it waits for its due time, {due}: jitter delays it by" in people
    assert "when no daemon runs" not in people
    assert " s of jitter" in people.partition("steps")[2]
    (find_deadline,) = (
        step["at"] for step in told["steps"] if step["text"] == "the deadline: it may not start after this"
    )
    for clock, which in (("12:00", "after"), ("14:00", "before")):
        *_, find_before, after = scheduler("why", name, f"2026-11-23T{clock}:00Z").out.splitlines()
        line = after if which == "after" else find_before
        assert line.endswith("(2026-11-23T13:00:00Z)  open: waiting"), line
        neighbour = json.loads(scheduler("why", name, f"2026-11-23T{clock}:00Z", "--json").out)[which]
        assert neighbour == {"scheduled_for": "2026-11-23T13:00:00Z", "fate": "open: waiting"}
    assert from_text(find_deadline) - from_text(due) == timedelta(minutes=30), (
        "half the hour between two fires"
    )


def test_next_and_explain_show_the_due_time_beside_the_instant(
    stood: Stood, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = stood
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    assert scheduler("next", "a01", "--from", "2026-11-23T13:30:00Z").out.splitlines()[0].split()[:3] == [
        "automation",
        "local",
        "UTC",
    ]
    monkeypatch.setenv("SCHEDULER_SCHEDULE__JITTER", "20m")
    options = ("a01", "--from", "2026-11-23T13:30:00Z", "--count", "1")
    fire = json.loads(scheduler("next", *options, "--json").out)
    assert "2026-11-23T14:00:00.000000Z" < fire["due"] < "2026-11-23T14:20:00.000000Z"
    titles, row = scheduler("next", *options).out.splitlines()
    assert titles.split()[:4] == ["automation", "local", "due", "UTC"]
    assert fire["due"][11:19] in row
    until = format_timedelta(from_text(fire["due"]) - from_text(options[2]))
    assert f" {until}" in row
    assert f" {until}" in scheduler("explain", *options).out
    assert fire["due"][11:19] in scheduler("explain", *options).out
    assert json.loads(scheduler("explain", *options, "--json").out)["fires"][0]["due"] == fire["due"]
