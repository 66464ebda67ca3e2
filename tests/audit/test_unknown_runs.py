"""Runs that the API shows are to be known, as far as the daemon can have seen them."""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scheduler.audit.consistency import find_unknown_runs
from scheduler.audit.findings import AuditFinding, FindingKind
from scheduler.core.model import Automation, Definition, RunOrigin, RunUpdate
from scheduler.ledger.audit_queries import find_known_runs
from scheduler.ledger.schema import open_for_reading
from tests.daemon.world import NOON
from tests.ledger.support import MAIN, at, run, stand


def unknown(
    run_at: datetime | None, *, is_known: bool = False, snapshot_at: datetime | None = NOON
) -> list[AuditFinding]:
    shown = Automation(
        "a", "nightly report", Definition("0 3 * * *", "UTC", True), run_id="run-1", run_at=run_at
    )
    return list(find_unknown_runs("main", [shown], {"run-1"} if is_known else (), snapshot_at))


def test_a_run_that_nobody_knows_is_unexplained() -> None:
    (finding,) = unknown(NOON - timedelta(hours=1))
    assert (finding.kind, finding.scheduled_for) == (FindingKind.UNEXPLAINED, None)
    assert (
        "the API shows run run-1, begun 2026-11-23T11:00:00.000000Z, which the ledger does not know"
        in finding.text
    )


@pytest.mark.parametrize("run_at", [NOON - timedelta(minutes=1), NOON + timedelta(hours=1)])
def test_one_that_no_snapshot_can_have_shown_yet_is_not(run_at: datetime) -> None:
    assert unknown(run_at) == []


def test_one_that_is_known_is_not() -> None:
    assert unknown(NOON - timedelta(hours=1), is_known=True) == []


def test_without_a_snapshot_nothing_is() -> None:
    assert unknown(NOON - timedelta(hours=1), snapshot_at=None) == []
    assert unknown(None, snapshot_at=None) == []
    assert len(unknown(None)) == 1


def test_a_run_is_known_as_soon_as_it_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with stand(path) as on:
        recorded = [(run("run-1"), RunOrigin.FOREIGN)]
        on.do(on.ledger.record_runs(MAIN, RunUpdate(recorded, at(2), unattributed=[run("run-2")])))
        with closing(open_for_reading(path)) as connection:
            assert find_known_runs(connection, MAIN, ["run-1", "run-2", "run-3"]) == {"run-1", "run-2"}
