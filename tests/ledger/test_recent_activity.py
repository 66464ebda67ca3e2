"""What the ledger holds of late, for the status page."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from scheduler.core.model import (
    AttemptResult,
    ClaimPlan,
    Outcome,
    Reason,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
)
from scheduler.core.pauses import EVERYTHING
from scheduler.core.status import ForeignRunTally, OperatorPause, OutcomeTally, RecentActivity
from scheduler.ledger import history
from scheduler.ledger.operator_requests import Pause, pause
from tests.ledger.support import (
    HOURLY,
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


def recent(on: Stand, since: datetime) -> RecentActivity:
    return on.do(on.database.browse(lambda connection: history.read_recent(connection, since)))


def test_outcomes_are_counted_by_target_and_reason_and_spans_by_their_occurrences(tmp_path: Path) -> None:
    with stand(tmp_path / "ledger.db") as on:
        verbs = on.ledger
        on.do(
            verbs.claim(
                MAIN,
                ClaimPlan(
                    [claim(1, first=attempt()), claim(2, first=attempt()), claim(3)], [skip(4, 5, 6)], at(8)
                ),
            )
        )
        for minute in (1, 2):
            on.do(
                verbs.conclude(
                    occurrence(minute),
                    accepted(f"run-{minute}", minute=minute),
                    end(result=AttemptResult.ANSWERED),
                )
            )
        found = recent(on, at(0))
        assert found.tallies == [
            OutcomeTally(MAIN, Outcome.ACCEPTED, Reason.ANSWERED, 2, at(2)),
            OutcomeTally(MAIN, Outcome.SKIPPED, Reason.MISSED, 3, at(6)),
        ]
        assert found.complete
        assert [each.count for each in recent(on, at(2)).tallies] == [1, 3]
        assert [each.count for each in recent(on, at(5)).tallies] == [
            3
        ]  # a span that reaches into it counts as a whole
        assert recent(on, at(7)).tallies == []


def test_no_more_than_so_many_rows_are_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST", 2)
    with stand(tmp_path / "ledger.db") as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([claim(5), claim(6)], [skip(1), skip(2)], at(8))))
        found = recent(on, at(0))
        assert not found.complete
        assert found.tallies == []  # the newest two are open


def test_runs_of_others_are_counted_for_each_automation_while_they_go_on_and_as_long_as_they_ended_lately(
    tmp_path: Path,
) -> None:
    with stand(tmp_path / "ledger.db") as on:
        verbs, hourly = on.ledger, automation(HOURLY, "hourly")
        on.do(verbs.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(hourly)], [hourly], [])))
        on.do(
            verbs.record_runs(
                MAIN, RunUpdate([(run("a", HOURLY, RunStatus.SUCCESS, minute=1), RunOrigin.FOREIGN)], at(2))
            )
        )
        on.do(
            verbs.record_runs(
                MAIN,
                RunUpdate(
                    [
                        (run("b", HOURLY, minute=3), RunOrigin.FOREIGN),
                        (run("c", NIGHTLY, minute=4), RunOrigin.BEFORE),
                    ],
                    at(5),
                ),
            )
        )
        assert recent(on, at(0)).foreign == [ForeignRunTally(MAIN, HOURLY, "hourly", 2, 0, at(3))]
        assert recent(on, at(9)).foreign == [ForeignRunTally(MAIN, HOURLY, "hourly", 1, 0, at(3))]


def test_failed_runs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand(tmp_path / "ledger.db") as on:
        runs = [
            (run(str(minute), status=RunStatus.FAILED, minute=minute), RunOrigin.FOREIGN) for minute in (1, 2)
        ]
        on.do(on.ledger.record_runs(MAIN, RunUpdate(runs, at(5))))
        assert recent(on, at(0)).failed_runs == {RunStatus.FAILED: 2}
        assert recent(on, at(0)).complete
        monkeypatch.setattr(history, "_MOST", 2)
        assert not recent(on, at(0)).complete


def test_pauses_are_told_with_their_names_and_whose_they_are(tmp_path: Path) -> None:
    with stand(tmp_path / "ledger.db") as on:
        nightly = automation()
        on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(nightly)], [nightly], [])))
        on.write(lambda connection: pause(connection, Pause(MAIN, NIGHTLY, at(1), "ada")))
        on.write(lambda connection: pause(connection, Pause(MAIN, EVERYTHING, at(2), "ben")))
        assert recent(on, at(9)).pauses == [
            OperatorPause(MAIN, NIGHTLY, "nightly report", at(1), "ada", "Europe/Berlin"),
            OperatorPause(MAIN, None, "*", at(2), "ben"),
        ]


@pytest.mark.parametrize("statement", [history._TALLY, history._FOREIGN])
def test_what_is_old_is_not_gone_through(tmp_path: Path, statement: str) -> None:
    with stand(tmp_path / "ledger.db") as on:
        values: object = {"since": "", "most": 1} if ":since" in statement else ("", 1)
        plan = on.do(
            on.database.browse(
                lambda each: [row[3] for row in each.execute(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type]  # either form
            )
        )
    assert not [
        each for each in plan if re.match(r"SCAN (occurrence|run)\b(?! USING INDEX run_running)", each)
    ], plan
    assert {each for each in plan if " span " in each} <= {
        "SEARCH span USING INDEX occurrence_span_ends (last>?)"
    }


def test_an_id_alone_is_looked_for_in_the_index(tmp_path: Path) -> None:
    with stand(tmp_path / "ledger.db") as on:
        on.do(on.ledger.claim(MAIN, ClaimPlan([replace(claim(1), name=HOURLY), claim(2, HOURLY)], [], at(8))))
        assert [line["automation_id"] for line in on.lines(automation=HOURLY)] == [
            HOURLY
        ]  # and not one that is called by it
