"""`audit` as a command: what it prints, and its exit statuses."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from scheduler.core.model import AttemptResult, ClaimPlan, SnapshotUpdate
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
    skip,
    stand,
    version,
)

SINCE = ("--since", "2026-11-23T12:00:00Z", "--until", "2026-11-23T12:06:30Z")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An automation that is due each minute: 1 and 2 are accepted, 3 to 5 missed, and it was paused at 6."""
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{path}")
    with stand(path) as on:
        _fill(on)
    return path


def _fill(on: Stand) -> None:
    each_minute = automation(cron="* * * * *")
    on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(each_minute)], [each_minute], [])))
    claims = [claim(minute, first=attempt(), name="nightly report") for minute in (1, 2)]
    on.do(on.ledger.claim(MAIN, ClaimPlan(claims, [skip(3, 4, 5), skip(6)], at(6.5))))
    for minute in (1, 2):
        on.do(
            on.ledger.conclude(
                occurrence(minute),
                accepted(f"run-{minute}", minute=minute),
                end(result=AttemptResult.ANSWERED),
            )
        )


def _spoil(ledger: Path, sql: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        assert connection.execute(sql).rowcount == 1


@pytest.mark.usefixtures("ledger")
def test_a_clean_ledger_is_told_in_three_lines_and_exits_with_0(scheduler: Scheduler) -> None:
    done = scheduler("audit", *SINCE, "--offline")
    assert (done.status, done.err) == (0, "")
    bounds, occurrences, clean, note = done.out.splitlines()
    assert bounds.startswith("target main: audited from ")
    assert "(2026-11-23T12:06:29Z)" in bounds
    assert occurrences == "6 occurrences of 1 automation: skipped 4, accepted 2"
    assert clean == "clean: missing 0, double 0, unexplained 0, evaluated differently 0"
    assert note == "the API was not asked for the newest runs"


def test_what_is_missing_is_listed_and_exits_with_1(scheduler: Scheduler, ledger: Path) -> None:
    _spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:02:00Z'")
    done = scheduler("audit", *SINCE, "--offline")
    assert (done.status, done.err) == (1, "")
    assert f"nightly report ({NIGHTLY}, target main)" in done.out
    assert "implied by '* * * * *' in Europe/Berlin, and not on record" in done.out
    assert f"run it: `scheduler fire {NIGHTLY} 2026-11-23T12:02:00Z" in done.out
    assert "  Mon 2026-11-23 13:02 CET in Europe/Berlin (2026-11-23T12:02:00Z)  " in done.out
    assert "not clean: missing 1, double 0, unexplained 0" in done.out


def test_as_json_each_finding_is_a_line_and_the_summary_the_last(scheduler: Scheduler, ledger: Path) -> None:
    _spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:02:00Z'")
    finding, summary = map(json.loads, scheduler("audit", *SINCE, "--offline", "--json").out.splitlines())
    assert (finding["finding"], finding["scheduled_for"], finding["automation_id"]) == (
        "missing",
        "2026-11-23T12:02:00Z",
        NIGHTLY,
    )
    told = summary["summary"]
    assert (told["automations"], told["occurrences"]) == (1, 5)
    assert told["findings"] == {"missing": 1, "double": 0, "unexplained": 0, "differently": 0}
    assert {"outcome": "skipped", "reason": "missed", "count": 4} in told["outcomes"]
    assert told["targets"][0]["watermark"] == "2026-11-23T12:06:30.000000Z"


@pytest.mark.usefixtures("ledger")
def test_up_to_where_it_was_audited_is_told(scheduler: Scheduler) -> None:
    out = scheduler("audit", "--since", "2026-11-23T12:00:00Z", "--offline").out
    assert "(2026-11-23T12:06:30Z); later occurrences are not decided yet" in out
    out = scheduler("audit", "--since", "2026-11-23T12:30:00Z", "--offline").out
    assert "target main: nothing to audit: decided up to 2026-11-23T12:06:30.000000Z" in out


@pytest.mark.usefixtures("ledger")
def test_that_the_api_could_not_be_asked_is_told(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        "the API was not asked for the newest runs, because the target is not configured"
        in scheduler("audit", *SINCE).out
    )
    for name, text in {"NAME": MAIN, "URL": "http://127.0.0.1:9", "PROJECT_ID": "1"}.items():
        monkeypatch.setenv(f"SCHEDULER_TARGET__{name}", text)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_" + "k" * 43)
    done = scheduler("audit", *SINCE)
    assert done.status == 0
    assert "target main: the API could not be asked for the newest runs: " in done.out


@pytest.mark.parametrize(
    "options",
    [(), ("--since", "yesterday"), ("--since", "2026-11-23T12:00:00Z", "--until", "2026-11-23T12:00:00Z")],
)
@pytest.mark.usefixtures("ledger")
def test_wrong_use_exits_with_2(scheduler: Scheduler, options: tuple[str, ...]) -> None:
    assert scheduler("audit", *options).status == 2


def test_without_a_ledger_it_exits_with_3(scheduler: Scheduler, ledger: Path) -> None:
    ledger.unlink()
    assert scheduler("audit", *SINCE).status == 3


@pytest.mark.usefixtures("ledger")
def test_what_nobody_knows_is_told_and_is_not_clean(scheduler: Scheduler) -> None:
    done = scheduler("audit", *SINCE, "--target", "other", "--offline")
    assert (done.status, done.out, done.err) == (
        2,
        "",
        "error: the ledger has no target 'other'; it knows main\n",
    )
    done = scheduler("audit", *SINCE, "--automation", "other", "--offline")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(
        "error: there is no automation 'other' in the ledger; see `scheduler automations list"
    )
