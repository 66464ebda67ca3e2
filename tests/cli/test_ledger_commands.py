"""`history`, `next`, `pause`, `resume` and `target rename`, on a ledger in a file, without a daemon."""

import getpass
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.cli.next_steps import describe_first_fire
from scheduler.cli.times import format_machine_and_utc, format_timedelta
from scheduler.core.model import (
    AttemptResult,
    Automation,
    ClaimPlan,
    Definition,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
)
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.operator_requests import read_pauses
from scheduler.ledger.schema import open_for_reading
from scheduler.settings.load import load
from tests.cli.conftest import Done, Scheduler
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    URL,
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

OFF = "0190e1a0-0000-7000-8000-00000000000c"
BROKEN = "0190e1a0-0000-7000-8000-00000000000d"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record occurrences of four automations.

    Of the nightly report, minute 1 is accepted, 2 open and 3 to 6 missed. The run of minute 4 of the hourly
    one failed. Two more fire nothing.
    """
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    monkeypatch.setenv("SCHEDULER_TARGET__NAME", MAIN)
    monkeypatch.setenv("SCHEDULER_TARGET__URL", URL)
    monkeypatch.setenv("SCHEDULER_TARGET__PROJECT_ID", "1")
    with stand(path) as on:
        _fill(on)
    return path


def _fill(on: Stand) -> None:
    known = [
        automation(),
        automation(HOURLY, "hourly", "0 * * * *"),
        Automation(OFF, "off", Definition("0 3 * * *", "UTC", enabled=False)),
        Automation(BROKEN, "broken", Definition("61 * * * *", "UTC", enabled=True)),
    ]
    on.do(
        on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each) for each in known], known, []))
    )
    claims = [claim(1, first=attempt()), claim(2), claim(4, HOURLY, name="hourly", first=attempt())]
    on.do(on.ledger.claim(MAIN, ClaimPlan(claims, [skip(3, 4, 5, 6)], at(8))))
    for done, run_id in ((occurrence(1), "run-1"), (occurrence(4, HOURLY), "run-4")):
        of_it = accepted(run_id, automation_id=done.automation_id, minute=4)
        on.do(on.ledger.conclude(done, of_it, end(result=AttemptResult.ANSWERED)))
    on.do(
        on.ledger.record_runs(
            MAIN, RunUpdate([(run("run-4", HOURLY, RunStatus.FAILED), RunOrigin.OCCURRENCE)], at(5))
        )
    )


def minutes(scheduler: Scheduler, *options: str) -> list[str]:
    """What `history` prints of each occurrence: the minute, and what became of it."""
    done = scheduler("history", "--json", *options)
    assert (done.status, done.err) == (0, "")
    lines = [json.loads(line) for line in done.out.splitlines()]
    return [f"{line['scheduled_for'][15]} {line['reason'] or line['state']}" for line in lines]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["4 answered", "3 missed", "2 waiting", "1 answered"]),
        (("--limit", "2"), ["4 answered", "3 missed"]),
        (("--automation", "night*"), ["3 missed", "2 waiting", "1 answered"]),
        (("--automation", HOURLY), ["4 answered"]),
        (("--outcome", "accepted"), ["4 answered", "1 answered"]),
        (("--outcome", "skipped"), ["3 missed"]),
        (("--outcome", "open"), ["2 waiting"]),
        (("--outcome", "rejected"), []),
        (("--run-status", "failed"), ["4 answered"]),
        (("--run-status", "running", "--automation", "night*"), ["1 answered"]),
        (("--run-status", "lost"), []),
        (("--since", "2026-11-23T13:02:00+01:00", "--until", "2026-11-23T12:03:00Z"), ["2 waiting"]),
        (("--target", "main", "--outcome", "open"), ["2 waiting"]),
        (("--target", "other"), []),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("ledger")
def test_history_prints_what_is_asked_for_the_newest_first(
    scheduler: Scheduler, options: tuple[str, ...], expected: list[str]
) -> None:
    assert minutes(scheduler, *options) == expected


@pytest.mark.usefixtures("ledger")
def test_history_for_people_has_a_line_for_each_occurrence(scheduler: Scheduler) -> None:
    titles, *lines = scheduler("history").out.splitlines()
    assert (
        " ".join(titles.split())
        == "Europe/Berlin UTC count automation outcome late attempts run run id error"
    )
    assert lines[0].startswith("Mon 2026-11-23 13:04 CET  2026-11-23T12:04:00Z  1      hourly ")
    assert "accepted: answered  250 ms  1" in lines[0]
    assert lines[0].endswith("failed   run-4   it broke")
    assert lines[1].split()[4:7] == ["2026-11-23T12:03:00Z", "4", "nightly"], "a span counts its occurrences"
    assert "open: waiting" in lines[2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "nothing has come due yet"),
        (("--outcome", "open"), "no occurrence matches"),
        (("--run-status", "lost"), "no occurrence matches"),
    ],
)
def test_an_empty_history_says_so_beside_what_is_printed(
    scheduler: Scheduler, ledger: Path, options: tuple[str, ...], told: str
) -> None:
    ledger.unlink()
    with stand(ledger):
        pass
    done = scheduler("history", *options)
    assert (done.status, done.out, done.err) == (0, "", f"{told}\n")
    done = scheduler("history", "--json", *options)
    assert (done.status, done.out, done.err) == (0, "", "")


@pytest.mark.usefixtures("ledger", "coloured")
def test_history_on_a_terminal_shows_a_failed_run_in_red_and_nothing_of_it_in_green(
    scheduler: Scheduler,
) -> None:
    line = scheduler("history", "--run-status", "failed").out.splitlines()[1]
    assert "\x1b[31mfailed\x1b[0m" in line
    assert "\x1b[32m" not in line


@pytest.mark.usefixtures("ledger")
def test_a_run_status_that_does_not_exist_is_refused_with_the_names_of_all(scheduler: Scheduler) -> None:
    done = scheduler("history", "--run-status", "broken")
    assert done.status == 2
    assert "'running', 'success', 'failed', 'superseded', 'lost'" in done.err


@pytest.mark.usefixtures("ledger")
def test_all_automations_fire_in_one_list_without_those_that_fire_nothing(scheduler: Scheduler) -> None:
    done = scheduler("next", "--from", "2026-11-24T00:30:00Z", "--count", "3", "--json")
    assert done.status == 0
    fires = [json.loads(line) for line in done.out.splitlines()]
    assert [(fire["name"], fire["scheduled_for"]) for fire in fires] == [
        ("hourly", "2026-11-24T01:00:00Z"),
        ("hourly", "2026-11-24T02:00:00Z"),  # 3:00 in Berlin
        ("nightly report", "2026-11-24T02:00:00Z"),
    ]
    assert f"broken ({BROKEN}) fires nothing: the minute '61' is not valid" in done.err


@pytest.mark.usefixtures("ledger")
def test_next_of_one_automation_is_by_its_id_or_its_name(scheduler: Scheduler) -> None:
    by_name, by_id = (
        scheduler("next", which, "--from", "2026-11-24T00:30:00Z", "--json")
        for which in ("nightly report", NIGHTLY)
    )
    assert by_name == by_id
    assert json.loads(by_name.out.splitlines()[0])["local"] == "2026-11-24T03:00:00+01:00"
    assert scheduler("next", "off").err == "error: off is disabled and fires nothing\n"
    assert scheduler("next", "nothing").status == 1


@pytest.mark.usefixtures("ledger")
def test_explain_of_automations_is_by_id_or_name_of_disabled_ones_too_and_says_why_one_has_no_schedule(
    scheduler: Scheduler,
) -> None:
    by_name, by_id = (
        scheduler("explain", which, "--from", "2026-11-24T00:30:00Z", "--json")
        for which in ("nightly report", NIGHTLY)
    )
    assert by_name == by_id
    assert (by_name.status, by_name.err) == (0, "")
    explained = json.loads(by_name.out)
    assert {key: explained[key] for key in ("automation_id", "name", "enabled", "invalid", "words")} == {
        "automation_id": NIGHTLY,
        "name": "nightly report",
        "enabled": True,
        "invalid": None,
        "words": "At 03:00, every day",
    }
    assert (
        "the automation is disabled: none of these times fires"
        in scheduler("explain", "off").out.splitlines()
    )
    broken = scheduler("explain", "broken")
    assert (broken.status, broken.err) == (1, "")
    assert broken.out.splitlines() == [
        f"broken ({BROKEN})",
        "the automation has no valid schedule, and never fires",
        "  61 * * * * in UTC",
        "  the minute '61' is not valid; it takes 0-59, and lists, ranges and steps of these",
    ]
    assert scheduler("explain", "nothing").err.startswith(
        "error: there is no automation 'nothing' in the newest snapshot"
    )


@pytest.mark.usefixtures("ledger")
def test_explain_without_a_name_is_of_all_automations(scheduler: Scheduler) -> None:
    done = scheduler("explain", "--json")
    assert (done.status, done.err) == (0, "")
    explained = [json.loads(line) for line in done.out.splitlines()]
    assert [each["name"] for each in explained] == ["broken", "hourly", "nightly report", "off"]
    assert len({tuple(each) for each in explained}) == 1  # the same keys for each
    assert [each["words"] for each in explained] == [
        None,
        "Every hour",
        "At 03:00, every day",
        "At 03:00, every day",
    ]


@pytest.mark.usefixtures("ledger")
def test_a_pause_is_kept_with_whoever_made_it_and_told_by_next(scheduler: Scheduler, ledger: Path) -> None:
    assert scheduler("pause", "hourly").out == "paused: hourly\n"
    assert scheduler("pause", HOURLY).out == "was paused already: hourly\n"
    with closing(open_for_reading(ledger)) as connection:
        assert [(each.target, each.automation_id, each.by) for each in read_pauses(connection)] == [
            (MAIN, HOURLY, getpass.getuser())
        ]
    assert (
        scheduler("next", "hourly").err
        == "paused: hourly; due occurrences are recorded and not fired until `scheduler resume AUTOMATION`\n"
    )
    assert scheduler("next", "nightly report").err == ""
    assert scheduler("resume", "hourly").out == "resumed: hourly\n"
    assert scheduler("next", "hourly").err == ""


@pytest.mark.usefixtures("ledger")
def test_resume_says_what_goes_on_pausing(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scheduler("resume", "hourly") == Done(0, "no pause to end: hourly\n", "")
    for paused in (("hourly",), ("--all",)):
        assert scheduler("pause", *paused).status == 0
    end = "`scheduler resume --all --keep-single` (pauses of single automations stay)"
    still = f"all automations of main are paused, hourly too; {end} ends the pause\n"
    assert scheduler("resume", "hourly") == Done(0, "resumed: hourly\n", still)
    assert scheduler("resume", "hourly") == Done(0, "no pause to end: hourly\n", still)
    meaning = "due occurrences are recorded and not fired"
    everything = f"paused: all automations of main; {meaning} until {end}\n"
    assert scheduler("next", "hourly").err == everything, "the command that ends the pause"
    assert scheduler("pause", "hourly").status == 0
    single = f"paused: hourly; {meaning} until `scheduler resume AUTOMATION`\n"
    assert everything + single in scheduler("next").err
    assert scheduler("resume", "--all") == Done(0, "resumed: all automations of main\n", "")
    monkeypatch.setenv("SCHEDULER_SCHEDULE__PAUSED", "true")
    configured = (
        f"paused by the configuration: hourly; {meaning}; see `paused` in [schedule] and [[override]]\n"
    )
    assert scheduler("next", "hourly").err == configured
    assert (
        scheduler("resume", "hourly").err
        == "the configuration pauses hourly; see `paused` in [schedule] and [[override]]\n"
    )


@pytest.mark.usefixtures("ledger")
def test_resume_all_ends_the_pauses_of_single_ones_too(scheduler: Scheduler) -> None:
    assert scheduler("pause", "hourly").status == 0
    assert scheduler("resume", "--all").status == 0
    assert scheduler("resume", "hourly").out == "no pause to end: hourly\n"
    assert scheduler("resume", "--all") == Done(0, "no pause to end: all automations of main\n", "")


def test_resume_all_can_leave_those_paused_that_were_paused_by_themselves(
    scheduler: Scheduler, ledger: Path
) -> None:
    scheduler("pause", "hourly")
    scheduler("pause", "--all")
    assert scheduler("resume", "--all", "--keep-single").status == 0
    with closing(open_for_reading(ledger)) as connection:
        assert [each.automation_id for each in read_pauses(connection)] == [HOURLY]
    assert scheduler("resume", "--all", "--keep-single") == Done(
        0, "no pause to end: all automations of main\n", ""
    )
    assert scheduler("resume", "hourly", "--keep-single").status == 2


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.usefixtures("ledger")
def test_what_is_to_be_paused_has_to_be_one_that_is_known(scheduler: Scheduler, command: str) -> None:
    unknown = scheduler(command, "nothing")
    assert (unknown.status, unknown.out) == (1, "")
    assert "there is no automation 'nothing' in the newest snapshot, target main" in unknown.err
    for wrong in ((), ("hourly", "--all")):
        assert scheduler(command, *wrong).status == 2


def test_a_target_is_renamed_with_its_history_when_no_daemon_runs(scheduler: Scheduler, ledger: Path) -> None:
    lock = LedgerLock.try_acquire(ledger, node="another", since=datetime(2026, 11, 23, tzinfo=UTC))
    assert lock is not None
    held = scheduler("target", "rename", "main", "us")
    assert held.status == 2
    assert "is in use by node another, process" in held.err
    lock.release()
    assert scheduler("target", "rename", "other", "us").status == 2
    assert scheduler("target", "rename", "main", "us").status == 0
    assert scheduler("target", "rename", "us", "us") == Done(
        0, "nothing to rename: the target is called us already\n", ""
    )
    assert len(minutes(scheduler, "--target", "us")) == 4
    assert minutes(scheduler, "--target", "main") == []


@pytest.mark.usefixtures("ledger")
def test_a_target_is_moved_to_the_address_that_the_configuration_has(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NAME": "main", "URL": "https://eu.example.org", "PROJECT_ID": "1"}.items():
        monkeypatch.setenv(f"SCHEDULER_TARGET__{name}", value)
    done = scheduler("target", "move", "main")
    assert done == Done(0, f"moved: target main is at https://eu.example.org now, before at {URL}\n", "")
    assert (
        scheduler("target", "move", "main").out
        == "nothing to move: target main is at https://eu.example.org already\n"
    )
    assert len(minutes(scheduler, "--target", "main")) == 4
    monkeypatch.setenv("SCHEDULER_TARGET__PROJECT_ID", "2")
    assert (
        "as project 1, not as project 2; another project needs another name"
        in scheduler("target", "move", "main").err
    )
    monkeypatch.setenv("SCHEDULER_TARGET__NAME", "other")
    assert "the ledger has no target 'other'" in scheduler("target", "move", "other").err


def test_the_wait_of_a_target_is_forgotten_on_request(scheduler: Scheduler, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(
            "UPDATE target SET throttled_at = '2026-11-23T12:00:00.000000Z', throttled_until = "
            "'2026-11-24T12:00:00.000000Z'"
        )
    done = scheduler("target", "unthrottle", "main")
    assert (done.status, done.err) == (0, "")
    assert "2026-11-24T12:00:00Z" in done.out
    assert scheduler("target", "unthrottle", "main") == Done(
        0, "nothing to forget: target main does not wait\n", ""
    )
    assert "it knows main" in scheduler("target", "unthrottle", "other").err


def test_what_may_have_changed_since_is_told_as_last_seen_when_no_daemon_runs(
    scheduler: Scheduler, ledger: Path
) -> None:
    seen = format_machine_and_utc(at(4) - timedelta(seconds=1.2))
    note = f"no daemon runs: waits and runs of target main are as last seen at {seen}\n"
    assert scheduler("history").err == note
    assert scheduler("history", "--json").err == scheduler("history", "--run-status", "failed").err == ""
    told = scheduler("why", "nightly report", "2026-11-23T12:02:00Z").out
    assert "\n  no daemon runs: the state is as of 2026-11-23T12:01:58Z\n" in told
    lock = LedgerLock.try_acquire(ledger, node="another", since=at(0))
    assert lock is not None
    assert scheduler("history").err == ""
    assert "no daemon runs" not in scheduler("why", "nightly report", "2026-11-23T12:02:00Z").out
    assert ", run running\n" in scheduler("why", "nightly report", "2026-11-23T12:01:00Z").out
    lock.release()


@pytest.fixture
def _throttled(ledger: Path) -> None:
    """Have the API asked for a wait that lasts."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(
            "UPDATE target SET throttled_at = '2026-11-23T12:00:00.000000Z', throttled_until = "
            "'2099-01-01T00:00:00.000000Z'"
        )


@pytest.mark.usefixtures("_throttled")
def test_why_says_that_an_open_occurrence_expires_before_the_throttle_ends(scheduler: Scheduler) -> None:
    told = scheduler("why", "nightly report", "2026-11-23T12:02:00Z").out
    assert "; it expires at 2026-11-23T12:07:00Z, before the throttle ends at 2099-01-01T00:00:00Z" in told
    assert "throttle" not in scheduler("why", "nightly report", "2026-11-23T12:01:00Z").out, (
        "which has an outcome"
    )


@pytest.mark.usefixtures("_throttled")
def test_a_fire_to_come_is_told_with_the_throttle_or_the_pause_that_keeps_it_from_firing(
    scheduler: Scheduler,
) -> None:
    coming = json.loads(scheduler("next", "hourly", "--json", "--count", "1").out)["scheduled_for"]
    assert (
        scheduler("why", "hourly", coming).out.count(
            "; nothing is sent before the throttle ends at 2099-01-01T00:00:00Z"
        )
        == 1
    )
    told = scheduler("next", "hourly").err
    assert told.startswith("throttled: target main; nothing fires before ")
    assert told.endswith("(2099-01-01T00:00:00Z)\n")
    assert scheduler("pause", "hourly").status == 0
    assert (
        "; it will be recorded and not fired, because it is paused" in scheduler("why", "hourly", coming).out
    )


@pytest.mark.usefixtures("_throttled")
def test_the_first_fire_of_an_automation_is_told_with_the_throttle_or_the_pause(
    scheduler: Scheduler, ledger: Path
) -> None:
    settings = load(None, os.environ).settings
    (target,) = settings.targets
    document = {
        "id": HOURLY,
        "name": "hourly",
        "enabled": True,
        "cron_expression": "0 * * * *",
        "timezone": "UTC",
    }
    spread = load(None, {**os.environ, "SCHEDULER_SCHEDULE__JITTER": "20m"}).settings
    due, _, left = (
        describe_first_fire(document, spread, target, at(5)).partition(" due ")[2].partition(", in ")
    )
    assert left.startswith(format_timedelta(datetime.fromisoformat(f"2026-11-23T{due}Z") - at(5)) + ";"), (
        "until the due time"
    )
    hindered = (
        "2026-11-23T13:00:00Z), in 55 min; not before the throttle of the target ends at 2099-01-01T00:00:00Z"
    )
    assert describe_first_fire(document, settings, target, at(5)).endswith(hindered)
    assert scheduler("pause", "--all").status == 0
    assert describe_first_fire(document, settings, target, at(5)).endswith(
        "; recorded and not fired, because it is paused"
    )
    ledger.unlink()
    assert describe_first_fire(document, settings, target, at(5)).endswith(", in 55 min")


COMMANDS = [
    ("audit", "--since", "2026-11-23T12:00:00Z", "--offline"),
    ("why", "hourly", "12:00"),
    ("fire", "hourly", "2026-11-23T12:05:00Z"),
    ("history",),
    ("next",),
    ("next", "hourly"),
    ("explain",),
    ("explain", "hourly"),
    ("pause", "hourly"),
    ("resume", "hourly"),
    ("target", "rename", "main", "us"),
    ("target", "unthrottle", "main"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_ledger_a_command_says_where_it_looked(
    scheduler: Scheduler, ledger: Path, command: tuple[str, ...]
) -> None:
    ledger.unlink()
    done = scheduler(*command)
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"error: there is no ledger {ledger}; name the right one with --state-dir")
    assert not ledger.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_damaged_ledger_is_told_and_left_as_it_is(
    scheduler: Scheduler, ledger: Path, command: tuple[str, ...]
) -> None:
    with closing(open_for_reading(ledger)) as connection:
        tables = (
            "SELECT rootpage FROM sqlite_master WHERE name IN ('automation', 'occurrence', 'pause', 'target')"
        )
        roots = [page for (page,) in connection.execute(tables)]
    with ledger.open("r+b") as file:
        for page in roots:  # the schema stays: it opens, and fails when it is read
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
    before = ledger.read_bytes()
    done = scheduler(*command)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {ledger} is damaged or no SQLite database")
    assert "restore a backup" in done.err
    assert ledger.read_bytes() == before


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("words", "values"),
    [
        (
            "scheduler next ",
            ["broken", "hourly", "off"],
        ),  # a shell would take the nightly report for two words
        ("scheduler history --automation ho", ["hourly"]),
        ("scheduler runs list --automation ho", ["hourly"]),
        ("scheduler automations delete o", ["off"]),
        ("scheduler pause --target ", [MAIN]),
        ("scheduler explain --timezone Europe/Ber", ["Europe/Berlin"]),
        ("scheduler automations create --timezone local", []),
        ("scheduler next --config missing.toml h", []),  # nothing to propose, and no error
    ],
)
def test_the_shell_completes_automations_targets_and_zones(
    complete: Callable[[str], list[str]], words: str, values: list[str]
) -> None:
    assert complete(words) == values
