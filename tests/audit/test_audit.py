"""An audit finds what was done to a ledger behind the daemon's back, and nothing else; and nothing in what a
daemon wrote itself.
"""

import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.audit import runner
from scheduler.audit.findings import FindingKind
from scheduler.core.errors import Unreachable
from scheduler.core.policy import CatchUp, Concurrency, Policies
from tests.audit.support import audit, found, recorded, spoil, told
from tests.daemon.world import NOON, World
from tests.defaults import make_policies
from tests.fakes import LOST_ANSWER, LOST_REQUEST, answered, carried_out_after


async def _eventful(world: World) -> None:
    """Edits, a pause, an outage of the daemon, failures, a deletion, a rename; and automations that fire at
    the same time.
    """
    first, second, third = (
        world.api.create("*/5 * * * *"),
        world.api.create("* * * * *"),
        world.api.create("*/2 * * * *"),
    )
    world.api.create("*/5 * * * *")
    world.start()
    await world.until("12:20:30")
    world.api.script(second, LOST_REQUEST, answered(500), LOST_ANSWER)
    world.api.edit(first, cron_expression="*/10 * * * *")
    await world.until("12:30:20")
    world.ledger.pause(third)
    await world.until("12:40:30")
    world.ledger.resume(third)
    world.kill()
    world.api.edit(second, cron_expression="30 * * * *", name="renamed")
    await world.until("14:10:30")
    world.start()
    await world.until("14:20:10")
    world.api.delete(third)
    fourth = world.api.create("1-59/3 * * * *")
    await world.until("14:40:10")
    world.api.edit(fourth, enabled=False)
    await world.until("15:06:30")
    await world.stop()


LENIENT = make_policies(start_within=timedelta(minutes=10))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("audit") / "ledger.db", _eventful, policies=LENIENT)


@pytest.fixture
def ledger(original: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(original.read_bytes())
    return path


def test_what_a_daemon_wrote_is_clean(ledger: Path) -> None:
    looked = audit(ledger)
    assert list(looked.run()) == []
    assert looked.summary.kinds.total() == 0
    assert looked.summary.outcomes.total() > 150
    assert {reason for _, reason in looked.summary.outcomes} >= {
        "answered",
        "found",
        "paused",
        "missed",
        "coalesced",
    }


@pytest.mark.parametrize(
    "policies",
    [
        make_policies(catch_up=CatchUp.ALL),
        make_policies(concurrency=Concurrency.QUEUE),
        make_policies(jitter=timedelta(minutes=2)),
    ],
)
def test_so_it_is_under_other_policies(tmp_path: Path, policies: Policies) -> None:
    path = recorded(tmp_path / "ledger.db", _eventful, policies=policies)
    assert told(path, patience=lambda _id, _name: timedelta(hours=24)) == [], (
        "what is queued for may take a day"
    )


def test_every_occurrence_is_audited_once_however_time_is_cut(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(ledger)
    list(whole.run())
    for minutes in (7, 60, 611):
        monkeypatch.setattr(runner, "STRETCH", timedelta(minutes=minutes))
        pieces = audit(ledger)
        assert list(pieces.run()) == []
        assert pieces.summary.outcomes == whole.summary.outcomes


def test_processes_side_by_side_find_the_same(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:10:00Z'")
    monkeypatch.setattr(runner, "STRETCH", timedelta(minutes=20))
    side_by_side = audit(ledger)
    side_by_side._processes = 2
    assert sorted(side_by_side.run()) == sorted(audit(ledger).run())
    assert side_by_side.summary.kinds[FindingKind.MISSING] == 4


def test_a_process_that_is_killed_is_told(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STRETCH", timedelta(minutes=20))
    monkeypatch.setattr(runner._Auditor, "audit_stretch", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    looked = audit(ledger)
    looked._processes = 2
    with pytest.raises(Unreachable, match="a process of the audit was killed"):
        list(looked.run())


def test_a_row_that_is_gone_is_missing(ledger: Path) -> None:
    assert spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:07:00Z'") == 1
    (finding,) = found(ledger)
    assert (finding.kind, finding.scheduled_for, finding.name) == (
        FindingKind.MISSING,
        NOON + timedelta(minutes=7),
        "renamed",
    )
    assert finding.text == "implied by '* * * * *' in UTC, and not on record"
    assert finding.advice.startswith(f"run it: `scheduler fire {finding.automation_id} 2026-11-23T12:07:00Z`")


def test_a_row_that_nothing_implies_is_unexplained(ledger: Path) -> None:
    moved = (
        "UPDATE occurrence SET scheduled_for = '2026-11-23T12:07:00Z', last = '2026-11-23T12:07:00Z' "
        "WHERE id = (SELECT id FROM occurrence"
    )
    assert (
        spoil(ledger, f"{moved} WHERE name = 'automation 1' AND scheduled_for = '2026-11-23T12:10:00Z')") == 1
    )
    assert told(ledger) == ["unexplained 12:07", "missing 12:10"]


@pytest.mark.parametrize(("later", "kinds"), [(0, []), (-1000, [FindingKind.UNEXPLAINED])])
def test_a_row_that_a_clock_ahead_sent_before_an_edit_from_before_it_is_explained(
    tmp_path: Path, later: int, kinds: list[FindingKind]
) -> None:
    """The order of the row and the edit in the ledger tells that the edit was seen later. When the row is
    younger, nothing explains it.
    """

    async def story(world: World) -> None:
        automation = world.api.create("*/2 * * * *")
        world.start()
        await world.until("12:10:10")
        world.kill()
        world.clock.step(180.0)
        world.start()
        await world.after(15.0)
        world.kill()
        world.clock.step(-180.0)
        world.start()
        await world.until("12:11:10")
        world.api.edit(automation, enabled=False)
        await world.until("12:20:00")
        assert world.fates(automation)["12:12"] == "accepted: answered"
        await world.stop()

    path = recorded(tmp_path / "ledger.db", story, policies=LENIENT)
    spoil(path, "UPDATE definition SET newest_occurrence = max(newest_occurrence + ?, 0)", later)
    assert [finding.kind for finding in found(path)] == kinds


def test_a_row_that_is_anothers_by_now_is_both(ledger: Path) -> None:
    """So that as many rows as are expected are there at that instant."""
    other = "(SELECT automation_id FROM definition WHERE name = 'automation 3')"
    of = "name = 'automation 1' AND scheduled_for = '2026-11-23T12:05:00Z'"
    assert spoil(ledger, f"UPDATE occurrence SET automation_id = {other} WHERE {of}") == 1
    assert sorted(told(ledger)) == ["missing 12:05", "unexplained 12:05"]


def test_a_row_of_an_automation_that_nobody_has_seen_is_unexplained(ledger: Path) -> None:
    spoil(ledger, "DELETE FROM definition WHERE name = 'automation 4'")
    assert {each.kind for each in found(ledger)} == {FindingKind.UNEXPLAINED}
    assert len(found(ledger)) == audit(ledger, automation="automation 4").summary.automations + len(
        told(ledger)
    )


def test_one_run_at_two_occurrences_is_double(ledger: Path) -> None:
    same = (
        "(SELECT task_run_id FROM occurrence WHERE name = 'automation 2' AND scheduled_for = "
        "'2026-11-23T12:05:00Z')"
    )
    spoil(
        ledger,
        f"UPDATE occurrence SET task_run_id = {same} WHERE name = 'automation 2' AND scheduled_for "
        "= '2026-11-23T12:06:00Z'",
    )
    (finding,) = found(ledger)
    assert (finding.kind, f"{finding.scheduled_for:%H:%M}") == (FindingKind.DOUBLE, "12:06")
    assert "which is that of 2026-11-23T12:05:00Z: one run for two occurrences" in finding.text


def test_a_run_that_is_not_on_record_is_unexplained(ledger: Path) -> None:
    of = "SELECT id FROM occurrence WHERE name = 'automation 2' AND scheduled_for = '2026-11-23T12:06:00Z'"
    spoil(ledger, f"DELETE FROM run WHERE occurrence_id = ({of})")
    assert told(ledger) == ["unexplained 12:06"]


def test_a_run_for_what_was_skipped_is_double(ledger: Path) -> None:
    of = "SELECT id FROM occurrence WHERE reason = 'paused' AND scheduled_for = '2026-11-23T12:34:00Z'"
    spoil(
        ledger,
        "INSERT INTO run (target, run_id, automation_id, occurrence_id, origin, status) "
        f"SELECT 'main', 'r', 'a', id, 'occurrence', 'running' FROM ({of})",
    )
    assert told(ledger) == ["double 12:34"]


def test_two_attempts_that_were_answered_are_double(ledger: Path) -> None:
    of = "SELECT id FROM occurrence WHERE name = 'automation 2' AND scheduled_for = '2026-11-23T12:06:00Z'"
    spoil(
        ledger,
        "INSERT INTO attempt (occurrence_id, number, written_at, result) SELECT occurrence_id, 2, "
        "written_at, result FROM attempt "
        f"WHERE occurrence_id = ({of})",
    )
    spoil(ledger, f"UPDATE occurrence SET attempts = 2 WHERE id = ({of})")
    assert told(ledger) == ["double 12:06"]


def test_a_late_double_that_the_daemon_noticed_is_told(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.api.script(automation, carried_out_after(75.0))
        world.start()
        await world.until("12:25:00")
        await world.stop()
        world.api.runs.clear()  # what the API was made to do here is what no client can prevent
        world.forgive_doubles()

    (finding,) = found(recorded(tmp_path / "ledger.db", story))
    assert (finding.kind, f"{finding.scheduled_for:%H:%M}") == (FindingKind.DOUBLE, "12:10")
    assert finding.text.startswith("a second run, main-run-")


_LISTED = "definition_id = NULL, intervals = '[[300,16]]'"


@pytest.mark.parametrize(
    "as_written_by",
    ["intervals = intervals", f"{_LISTED}", "intervals = NULL, definition_id = NULL"],
    ids=["its definition", "its intervals", "nothing, as in the ledger's first version"],
)
def test_a_span_that_counts_wrong_is_found(ledger: Path, as_written_by: str) -> None:
    spoil(ledger, f"UPDATE occurrence SET {as_written_by} WHERE count > 2 AND name = 'automation 4'")
    assert told(ledger) == []
    for change, kind in (("- 1", FindingKind.MISSING), ("+ 2", FindingKind.UNEXPLAINED)):
        assert (
            spoil(
                ledger,
                f"UPDATE occurrence SET count = count {change} WHERE count > 2 AND name = 'automation 4'",
            )
            == 1
        )
        (finding,) = found(ledger)
        assert finding.kind is kind
        assert "stands for" in finding.text


def test_what_a_span_leaves_out_is_missing_and_what_it_should_not_have_is_unexplained(ledger: Path) -> None:
    spoil(ledger, f"UPDATE occurrence SET {_LISTED} WHERE count > 2 AND name = 'automation 4'")
    assert told(ledger) == []
    (intervals,) = _one(ledger, "SELECT intervals FROM occurrence WHERE count > 2 AND name = 'automation 4'")
    left_out = json.dumps([[300, 4], [600, 1], [300, 10]])
    moved = json.dumps([[300, 4], [240, 1], [360, 1], [300, 10]])
    spoil(ledger, "UPDATE occurrence SET intervals = ?, count = 16 WHERE intervals = ?", left_out, intervals)
    assert told(ledger) == ["missing 13:10"]
    spoil(ledger, "UPDATE occurrence SET intervals = ?, count = 17 WHERE intervals = ?", moved, left_out)
    assert told(ledger) == ["unexplained 13:09", "missing 13:10"]


def _one(path: Path, select: str) -> tuple[str, ...]:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(select).fetchall()
        return tuple(found)


def test_a_row_within_a_span_is_double(ledger: Path) -> None:
    columns = "target, automation_id, name, due, outcome, reason, finished_at, node"
    spoil(
        ledger,
        f"INSERT INTO occurrence (scheduled_for, last, {columns}) SELECT '2026-11-23T13:00:00Z', "
        f"'2026-11-23T13:00:00Z', {columns} "
        "FROM occurrence WHERE count > 1 AND name = 'automation 4'",
    )
    assert told(ledger) == ["double 13:00"]


def test_what_is_open_for_too_long_is_unexplained(ledger: Path) -> None:
    of = "name = 'automation 2' AND scheduled_for = '2026-11-23T12:06:00Z'"
    spoil(
        ledger,
        f"UPDATE run SET occurrence_id = NULL WHERE occurrence_id = (SELECT id FROM occurrence WHERE {of})",
    )
    spoil(
        ledger,
        "UPDATE occurrence SET outcome = NULL, reason = NULL, state = 'waiting', task_run_id = "
        f"NULL WHERE {of}",
    )
    assert told(ledger, now=NOON + timedelta(minutes=20)) == [], "its deadline was at 12:16"
    assert told(ledger, now=NOON + timedelta(minutes=22)) == ["unexplained 12:06"]
    assert (
        told(ledger, now=NOON + timedelta(minutes=22), patience=lambda _id, _name: timedelta(minutes=30))
        == []
    )
    spoil(ledger, f"UPDATE occurrence SET state = 'unknown' WHERE {of}")
    assert told(ledger, now=NOON + timedelta(hours=24)) == [], "it may be found out for a day"
    assert told(ledger, now=NOON + timedelta(hours=26)) == ["unexplained 12:06"]


def test_what_was_never_found_out_is_unexplained(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *")
        world.api.script(automation, LOST_ANSWER)
        world.start()
        await world.until("12:10:05")
        world.api.delete(automation)
        await world.until("12:15:00")
        await world.stop()

    (finding,) = found(recorded(tmp_path / "ledger.db", story))
    assert finding.kind is FindingKind.UNEXPLAINED
    assert finding.text.startswith("unresolved: gone: the automation was deleted before")


def test_nothing_above_the_watermark_is_missing(ledger: Path) -> None:
    spoil(ledger, "UPDATE target SET watermark = '2026-11-23T12:06:30.000000Z'")
    spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for > '2026-11-23T12:06:00Z'")
    looked = audit(ledger)
    assert list(looked.run()) == []
    (bounds,) = looked.summary.bounds
    assert NOON + timedelta(minutes=6, seconds=59) < bounds.end < NOON + timedelta(minutes=7)
    assert not bounds.is_complete


def test_nothing_beyond_the_newest_snapshot_is_told(ledger: Path) -> None:
    """An edit that the next one shows may count from before the present."""
    spoil(
        ledger,
        "UPDATE target SET watermark = '2026-11-23T12:06:30.000000Z', snapshot_at = "
        "'2026-11-23T12:08:00.000000Z'",
    )
    moved = "UPDATE occurrence SET scheduled_for = '2026-11-23T12:09:30Z', last = '2026-11-23T12:09:30Z'"
    assert spoil(ledger, f"{moved} WHERE scheduled_for = '2026-11-23T12:09:00Z'") == 1
    (bounds,) = audit(ledger).summary.bounds
    assert bounds.end <= NOON + timedelta(minutes=8)
    assert told(ledger) == []


def test_nothing_that_was_removed_for_its_age_is_missing(ledger: Path) -> None:
    spoil(ledger, "DELETE FROM occurrence WHERE last < '2026-11-23T12:10:00Z'")
    assert "missing 12:05" in told(ledger)
    spoil(ledger, "INSERT INTO pruned VALUES (1, '2026-11-23T12:10:00.000000Z')")
    assert told(ledger) == []


def test_only_what_is_asked_for_is_audited(ledger: Path) -> None:
    spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:10:00Z'")
    assert len(told(ledger)) == 4
    for automation in ("automation 1", "automation 2", "renamed"):
        assert told(ledger, automation=automation) == ["missing 12:10"], automation
    assert len(told(ledger, automation="automation *")) == 4
    assert told(ledger, since=NOON + timedelta(minutes=11)) == []
    assert told(ledger, hours=1 / 6) == [], "until is exclusive"
    assert len(told(ledger, since=NOON + timedelta(minutes=10), hours=1)) == 4, "since is inclusive"


# ---------------------------------------------------------------- evaluated differently


async def _in_berlin(world: World) -> None:
    world.api.create("30 13 * * *", timezone="Europe/Berlin", name="lunch")
    world.api.create("*/10 * * * *", name="often")
    world.start()
    await world.until("13:05:00")
    await world.stop()


def _moved_by_an_hour(path: Path) -> None:
    spoil(
        path,
        "UPDATE occurrence SET scheduled_for = '2026-11-23T11:30:00Z', last = "
        "'2026-11-23T11:30:00Z' WHERE name = 'lunch'",
    )
    spoil(path, "UPDATE definition SET effective_from = '2026-11-22T12:45:00.000000Z' WHERE name = 'lunch'")


def test_what_other_zone_data_have_moved_is_no_loss(tmp_path: Path) -> None:
    path = recorded(tmp_path / "ledger.db", _in_berlin)
    _moved_by_an_hour(path)
    since = NOON - timedelta(hours=2)
    assert told(path, since=since) == ["unexplained 11:30", "missing 12:30"]
    spoil(path, "UPDATE evaluation SET tzdata = '2019c'")
    (finding,) = found(path, since=since)
    assert (finding.kind, f"{finding.scheduled_for:%H:%M}", finding.name) == (
        FindingKind.DIFFERENTLY,
        "12:30",
        "lunch",
    )
    assert (
        "on record at 2026-11-23T11:30:00Z instead (accepted: answered): then evaluated by croniter"
        in finding.text
    )
    assert "with zone data 2019c" in finding.text


def test_what_is_gone_is_missing_whatever_evaluated_it(ledger: Path) -> None:
    spoil(ledger, "UPDATE evaluation SET tzdata = '2019c', croniter = '1.0'")
    assert told(ledger) == []
    spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:07:00Z'")
    (finding,) = found(ledger)
    assert finding.kind is FindingKind.MISSING
    assert "then evaluated by croniter 1.0 with zone data 2019c" in finding.text
