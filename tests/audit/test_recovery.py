"""An audit while a daemon recovers from a downtime, and when it has: what lies in a gap is not decided yet,
and is not missing.
"""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scheduler.audit.comparison import find_miscounted_spans
from scheduler.audit.evaluation import Evaluation
from scheduler.audit.evidence import collect_evidence
from scheduler.audit.expectation import AuditExpectation
from scheduler.audit.explanation import ExplanationVerdict, OccurrenceExplanation
from scheduler.core.cron.schedule import Schedule, read_versions
from scheduler.daemon import planner
from scheduler.ledger.audit_queries import OccurrenceSpan
from scheduler.ledger.schema import open_for_reading
from scheduler.ledger.versions import EvaluationRules
from tests.audit.support import Story, audit, recorded, spoil, told
from tests.daemon.world import NOON, World

DAYS = 3
CRONS = ("* * * * *", "*/2 * * * *", "1-59/3 * * * *", "*/5 * * * *")


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One automation for each slice."""
    monkeypatch.setattr(planner, "FIRST_SLICE", 1)
    monkeypatch.setattr(planner, "LARGEST_SLICE", 1)


def story(*, killed_after: int | None) -> Story:
    """A downtime of some days, and a daemon that is killed after so many writes of the ledger."""

    async def told(world: World) -> None:
        for cron in CRONS:
            world.api.create(cron)
        world.start()
        await world.until("12:00:40")
        world.kill()
        await world.after(timedelta(days=DAYS))
        if killed_after is not None:
            world.kills = lambda process, name: (
                name == "after ledger.claim" and process.checkpoints.count(name) == killed_after
            )
        process = world.start()
        if killed_after is None:
            await world.after(45)
        else:
            assert await process.dies(within=30)

    return told


def ledger(folder: Path, killed_after: int | None) -> Path:
    return recorded(folder / f"after-{killed_after}.db", story(killed_after=killed_after))


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_what_is_not_recovered_yet_is_not_missing(tmp_path: Path, killed_after: int) -> None:
    path = ledger(tmp_path, killed_after)
    whole = audit(
        path, hours=24 * DAYS + 1, now=NOON + timedelta(days=DAYS, minutes=2)
    )  # what the dead one claimed may be open
    assert list(whole.run()) == []
    minutes = 24 * 60 * DAYS
    total = minutes + minutes // 2 + minutes // 3 + minutes // 5
    assert 0 < whole.summary.undecided < total
    assert whole.summary.undecided + whole.summary.outcomes.total() == pytest.approx(total, abs=8)


def test_a_gap_excuses_nothing_of_an_automation_that_is_decided(tmp_path: Path) -> None:
    """The past is decided in the order of the ids, and a gap names the first of which anything is
    undecided.
    """
    path = ledger(tmp_path, 3)
    with closing(open_for_reading(path)) as connection:
        ((first, undecided),) = connection.execute(
            "SELECT (SELECT min(automation_id) FROM automation), automation_id FROM gap"
        ).fetchall()
    assert first < undecided
    now = NOON + timedelta(days=DAYS, minutes=2)
    whole = audit(path, hours=24 * DAYS + 1, now=now)
    assert list(whole.run()) == []
    assert spoil(path, "DELETE FROM occurrence WHERE automation_id = ? AND count > 1", first) > 0
    spoilt = audit(path, hours=24 * DAYS + 1, now=now)
    findings = list(spoilt.run())
    assert len(findings) > 500
    assert {(each.kind, each.automation_id) for each in findings} == {("missing", first)}
    assert spoilt.summary.undecided == whole.summary.undecided


def test_a_recovery_that_came_to_its_end_is_clean(tmp_path: Path) -> None:
    path = ledger(tmp_path, None)
    whole = audit(path, hours=24 * DAYS + 1)
    assert list(whole.run()) == []
    assert whole.summary.undecided == 0
    assert whole.summary.outcomes["skipped", "coalesced"] > 24 * 60 * DAYS


def test_what_a_span_by_its_bounds_leaves_out_is_missing(tmp_path: Path) -> None:
    path = ledger(tmp_path, None)
    assert (
        spoil(path, "UPDATE occurrence SET last = '2026-11-24T12:00:00Z', count = 1440 WHERE count > 4000")
        == 1
    )
    found = told(path, hours=24 * DAYS + 1)
    assert len(found) > 2000
    assert {each.split()[0] for each in found} == {"missing"}


def test_why_tells_that_the_daemon_recovers(tmp_path: Path) -> None:
    path = ledger(tmp_path, 1)
    evaluated = read_versions()
    connection = open_for_reading(path)
    select = "SELECT automation_id FROM automation WHERE cron_expression = '* * * * *'"
    (every_minute,) = connection.execute(select).fetchone()
    account = collect_evidence(
        connection, "main", every_minute, NOON + timedelta(days=1), (evaluated.croniter, evaluated.tzdata)
    )
    connection.close()
    answer = OccurrenceExplanation(account, NOON + timedelta(days=DAYS))
    assert (account.row, answer.verdict) == (None, ExplanationVerdict.TO_COME)
    assert "the daemon recovers from a downtime" in answer.why


def test_spans_of_one_schedule_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each count costs as much as the span has days."""
    schedule, last, counts = Schedule.parse("7 * * * *", "UTC"), NOON + timedelta(days=100, minutes=7), 0
    count = Schedule.count

    def counting(self: Schedule, after: datetime, until: datetime) -> int:
        nonlocal counts
        counts += 1
        return count(self, after, until)

    monkeypatch.setattr(Schedule, "count", counting)
    first = NOON + timedelta(minutes=7)
    spans = [
        OccurrenceSpan(f"a{number}", first, last, 2401 + number, "skipped", "missed", None, schedule)
        for number in range(50)
    ]
    expectation = AuditExpectation(
        {}, {}, Evaluation([EvaluationRules(NOON, "6", "2026", "after", "once", 1)]), NOON, last, spans
    )
    assert [(span.automation_id, implied) for span, implied in find_miscounted_spans(expectation)] == [
        (f"a{number}", 2401) for number in range(1, 50)
    ]
    assert counts == 1
