"""`why` as a command: how a time is understood, what is printed, and the exit statuses."""

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from scheduler.app.settings_mapping import make_policy_texts
from scheduler.cli.times import parse_time
from scheduler.core.model import AttemptResult, ClaimPlan, RunOrigin, RunStatus, RunUpdate, SnapshotUpdate
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.settings.load import load
from tests.cli.conftest import Scheduler
from tests.ledger.support import (
    MAIN,
    NIGHTLY,
    Stand,
    accepted,
    at,
    attempt,
    automation,
    claim,
    end,
    occurrence,
    run,
    skip,
    stand,
    version,
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The nightly report is due each minute in Berlin; 1 is accepted, 2 to 4 are missed; nothing has been
    decided after that.
    """
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    with stand(path) as on:
        _fill(on, tmp_path / "then.toml")
    return path


def _fill(on: Stand, file: Path) -> None:
    each_minute = automation(cron="* * * * *")
    file.write_text(
        '[schedule]\njitter = "3s"\n[[override]]\nautomation = "nightly*"\ncatch_up = '
        '"all"\nstart_within = "7m"\n'
    )
    schedule, overrides = make_policy_texts(load(file, {}).settings)
    assert isinstance(on.ledger, SqliteLedger)
    on.do(on.ledger.record_policies(at(-60), schedule=schedule, overrides=overrides))
    on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each_minute)], [each_minute], [])))
    on.do(on.ledger.claim(MAIN, ClaimPlan([claim(1, first=attempt())], [skip(2, 3, 4)], at(4.5))))
    on.do(on.ledger.conclude(occurrence(1), accepted("run-1"), end(result=AttemptResult.ANSWERED)))


@pytest.mark.usefixtures("ledger")
def test_what_happened_is_told_with_the_definition_and_the_policies_of_then(scheduler: Scheduler) -> None:
    done = scheduler("why", "nightly report", "2026-11-23T12:01:00Z")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:5] == [
        f"nightly report ({NIGHTLY}, target main)",
        "  at Mon 2026-11-23 13:01 CET (2026-11-23T12:01:00Z)",
        "",
        "accepted: answered, run running when last seen at 2026-11-23T12:01:36Z (no daemon runs)",
        "  the API answered that it had started a run",
    ]
    assert "definition '* * * * *' in Europe/Berlin, enabled" in lines
    assert (
        "policies   start_within 7m, catch_up all, concurrency allow, jitter 3s, paused false (since "
        "2026-11-23T11:00:00.000000Z)"
    ) in lines
    assert "steps      in Europe/Berlin" in lines
    assert "  13:01:00.000  attempt 1 sent" in lines
    assert "  13:01:30.000  attempt 1 answered with a run" in lines
    assert lines[-1] == "after      Mon 2026-11-23 13:02 CET (2026-11-23T12:02:00Z)  skipped: missed"


@pytest.mark.usefixtures("ledger")
def test_what_was_due_at_no_time_exits_with_1(scheduler: Scheduler) -> None:
    done = scheduler("why", NIGHTLY, "2026-11-23T12:01:30Z")
    assert done.status == 1
    assert "nothing was due\n  '* * * * *' in Europe/Berlin does not match it\n" in done.out
    assert "before     Mon 2026-11-23 13:01 CET (2026-11-23T12:01:00Z)  accepted: answered" in done.out


@pytest.mark.usefixtures("ledger")
def test_before_the_first_definition_times_are_in_the_automations_zone_too(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    told = scheduler("why", "nightly report", "2026-11-20T13:03").out
    assert "definition none was in force" in told
    assert "at Fri 2026-11-20 13:03 CET (2026-11-20T12:03:00Z), read as " in told
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("ledger")
def test_it_says_how_a_local_time_was_understood(scheduler: Scheduler) -> None:
    done = scheduler("why", "nightly report", "2026-11-23T13:03")
    assert (
        "at Mon 2026-11-23 13:03 CET (2026-11-23T12:03:00Z), read as 2026-11-23 13:03 in Europe/Berlin"
        in done.out
    )
    assert "one of 3 with the same fate" in done.out


@pytest.mark.usefixtures("ledger")
def test_as_json_it_is_one_object(scheduler: Scheduler) -> None:
    (text,) = scheduler("why", "nightly report", "2026-11-23T12:01:00Z", "--json").out.splitlines()
    told = json.loads(text)
    assert (told["verdict"], told["outcome"], told["reason"]) == ("on_record", "accepted", "answered")
    assert told["definition"]["cron_expression"] == "* * * * *"
    assert told["policies"] == {
        "start_within": "7m",
        "catch_up": "all",
        "concurrency": "allow",
        "jitter": "3s",
        "paused": False,
    }
    assert told["attempts"][0]["result"] == "answered"
    assert told["runs"][0]["run_id"] == "run-1"
    assert told["after"] == {"scheduled_for": "2026-11-23T12:02:00Z", "fate": "skipped: missed"}
    assert told["span"] == {"first": "2026-11-23T12:01:00Z", "last": "2026-11-23T12:01:00Z", "count": 1}


def test_an_automation_that_is_gone_or_was_called_otherwise_is_found_too(
    scheduler: Scheduler, ledger: Path
) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE automation SET name = 'renamed'")
    for name in ("renamed", "nightly report", NIGHTLY, NIGHTLY.upper()):
        assert scheduler("why", name, "2026-11-23T12:01:00Z").status == 0, name
    done = scheduler("why", "nothing", "2026-11-23T12:01:00Z")
    assert (done.status, done.err) == (
        1,
        "error: there is no automation 'nothing' in the ledger; see `scheduler automations list`\n",
    )
    done = scheduler("why", "renamed", "2026-11-23T12:01:00Z", "--target", "other")
    assert done.err == (
        "error: there is no automation 'renamed' in the ledger, target other; see `scheduler "
        "automations list`\n"
    )


def test_of_two_with_one_name_the_id_is_asked_for(scheduler: Scheduler, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(
            "INSERT INTO automation (target, automation_id, name, effective_from) VALUES ('main', "
            "'x', 'nightly report', ?)",
            ("2026-11-23T12:00:00.000000Z",),
        )
    done = scheduler("why", "nightly report", "2026-11-23T12:01:00Z")
    assert done.status == 1
    assert done.err.startswith("error: there are 2 automations called 'nightly report'; give the id of one\n")
    assert f"\n  {NIGHTLY}  nightly report  target main\n" in done.err


def test_settings_that_this_version_does_not_know_are_told_as_not_on_record(
    scheduler: Scheduler, ledger: Path
) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("""UPDATE policy SET schedule = '{"of_another_version": 1}'""")
    assert "policies   not on record" in scheduler("why", "nightly report", "2026-11-23T12:01:00Z").out


@pytest.mark.usefixtures("ledger")
def test_wrong_use_exits_with_2(scheduler: Scheduler) -> None:
    assert scheduler("why", "nightly report").status == 2
    done = scheduler("why", "nightly report", "yesterday")
    assert done.status == 2
    assert "'yesterday' is no time; write it as 2026-11-23T09:00:00Z" in done.err


PRESENT = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant", "note"),
    [
        ("2026-11-23T09:00:00Z", "2026-11-23T09:00", None),
        ("2026-11-23T09:00:00+01:00", "2026-11-23T08:00", None),
        ("2026-11-23T09:00", "2026-11-23T08:00", "read as 2026-11-23 09:00 in Europe/Berlin"),
        ("2026-11-23 09:00", "2026-11-23T08:00", "read as 2026-11-23 09:00 in Europe/Berlin"),
        ("13:30", "2026-11-23T12:30", "read as 2026-11-23 13:30 in Europe/Berlin"),
        (
            "13:31",
            "2026-11-22T12:31",
            (
                "read as 2026-11-22 13:31 in Europe/Berlin, which was yesterday: today's is still to "
                "come, write 2026-11-23T13:31 for today"
            ),
        ),
        ("9:05", "2026-11-23T08:05", "read as 2026-11-23 09:05 in Europe/Berlin"),
        (
            "2026-03-29T02:30",
            "2026-03-29T01:00",
            "the clock skips that day: taken as the first minute after the gap",
        ),
        (
            "2026-10-25T02:30",
            "2026-10-25T00:30",
            "shows twice that day: taken as the first, not 2026-10-25T01:30:00Z",
        ),
    ],
)
def test_a_time_is_understood(text: str, instant: str, note: str | None) -> None:
    found = parse_time(text, "Europe/Berlin", PRESENT)
    assert f"{found.instant:%Y-%m-%dT%H:%M}" == instant
    assert found.note == note or (note is not None and found.note is not None and found.note.endswith(note))


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "25:00", "9", "2026-13-01T00:00", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_time(text, "Europe/Berlin", PRESENT)


@pytest.mark.usefixtures("coloured")
def test_a_run_that_failed_is_red_on_a_terminal(ledger: Path, scheduler: Scheduler) -> None:
    assert (
        "\naccepted: answered, run \x1b[36mrunning\x1b[0m when last seen at "
        in scheduler("why", "nightly report", "2026-11-23T12:01:00Z").out
    )
    with stand(ledger) as on:
        on.do(
            on.ledger.record_runs(
                MAIN, RunUpdate([(run("run-1", status=RunStatus.FAILED), RunOrigin.OCCURRENCE)], at(3))
            )
        )
    told = scheduler("why", "nightly report", "2026-11-23T12:01:00Z").out
    assert "\naccepted: answered, run \x1b[31mfailed\x1b[0m\n" in told
    assert "  \x1b[31mrun run-1 failed, as a poll showed then: it broke\x1b[0m\n" in told
