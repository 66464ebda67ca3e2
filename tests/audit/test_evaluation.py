"""An upgrade changes how expressions are read: what fired before it was right by the rules of then."""

from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from scheduler.audit.evidence import collect_evidence
from scheduler.audit.explanation import ExplanationVerdict, OccurrenceExplanation
from scheduler.core.cron.ranges import CRONITERS_RULES, RULES_VERSION
from scheduler.core.cron.schedule import Schedule, read_versions
from scheduler.ledger.schema import open_for_reading
from tests.audit.support import found, recorded, spoil, told
from tests.daemon.world import World

MINUTE = "50-10/15 * * * *"  # by the rules of before :50 and :06, by those of now :50 and :05


async def _upgrade(world: World) -> None:
    """The old version runs until 13:30, and the new one starts at 14:02:30; in between 13:50 passes, for both
    rules.
    """
    world.api.create(MINUTE, name="wraps")
    world.api.create("*/10 * * * *", name="plain")
    world.parse = partial(Schedule.parse, rules_version=CRONITERS_RULES)
    world.start()
    await world.until("13:30:30")
    await world.stop()
    await world.until("14:02:30")
    world.parse = Schedule.parse
    world.start()
    await world.until("15:10:30")
    await world.stop()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_upgrade(
        recorded(tmp_path_factory.mktemp("upgrade") / "ledger.db", _upgrade), "2026-11-23T14:02:30.000000Z"
    )


def with_upgrade(path: Path, since: str) -> Path:
    """The ledger, with the record that the new rules read expressions since then."""
    spoil(path, "UPDATE evaluation SET rules_version = ?", CRONITERS_RULES)
    spoil(
        path,
        "INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat, rules_version) "
        "SELECT ?, croniter, tzdata, dst_gap, dst_repeat, ? FROM evaluation LIMIT 1",
        since,
        RULES_VERSION,
    )
    return path


@pytest.fixture
def ledger(original: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(original.read_bytes())
    return path


def fires(path: Path) -> list[str]:
    with closing(open_for_reading(path)) as connection:
        rows = connection.execute(
            "SELECT scheduled_for FROM occurrence WHERE name = 'wraps' ORDER BY scheduled_for"
        )
        return [row["scheduled_for"][11:16] for row in rows]


def why(path: Path, clock: str) -> OccurrenceExplanation:
    evaluated, instant = read_versions(), datetime.fromisoformat(f"2026-11-23T{clock}:00Z")
    with closing(open_for_reading(path)) as connection:
        (automation_id,) = connection.execute(
            "SELECT automation_id FROM definition WHERE name = 'wraps'"
        ).fetchone()
        return OccurrenceExplanation(
            collect_evidence(
                connection, "main", automation_id, instant, (evaluated.croniter, evaluated.tzdata)
            ),
            instant,
        )


def test_what_fired_before_and_after_an_upgrade_is_clean(ledger: Path) -> None:
    assert fires(ledger) == ["12:06", "12:50", "13:06", "13:50", "14:05", "14:50", "15:05"]
    assert told(ledger) == []


def test_without_the_record_of_the_rules_it_would_not_be(ledger: Path) -> None:
    spoil(ledger, "UPDATE evaluation SET rules_version = ?", RULES_VERSION)
    assert told(ledger) == ["missing 12:05", "unexplained 12:06", "missing 13:05", "unexplained 13:06"]


@pytest.mark.parametrize("clock", ["13:06", "14:05"])
def test_what_is_gone_is_missing_before_the_upgrade_and_after_it(ledger: Path, clock: str) -> None:
    spoil(
        ledger, "DELETE FROM occurrence WHERE name = 'wraps' AND scheduled_for = ?", f"2026-11-23T{clock}:00Z"
    )
    assert told(ledger) == [f"missing {clock}"]


async def _late_upgrade(world: World) -> None:
    """The new version starts at 14:10:30, and decides what came due since 13:30 by its own rules."""
    world.api.create(MINUTE, name="wraps")
    world.api.create("*/10 * * * *", name="plain")
    world.parse = partial(Schedule.parse, rules_version=CRONITERS_RULES)
    world.start()
    await world.until("13:30:30")
    await world.stop()
    await world.until("14:10:30")
    world.parse = Schedule.parse
    world.start()
    await world.until("14:40:30")
    await world.stop()


def test_what_the_new_rules_decide_of_the_time_before_their_start_is_no_loss(tmp_path: Path) -> None:
    path = with_upgrade(recorded(tmp_path / "ledger.db", _late_upgrade), "2026-11-23T14:10:30.000000Z")
    assert fires(path) == ["12:06", "12:50", "13:06", "13:50", "14:05"]
    assert told(path) == ["differently 14:05", "differently 14:06"], (
        "on record by the new rules; implied by those of then"
    )
    assert all(
        each.text.endswith("by the rules of then; a start with other rules decided it")
        for each in found(path)
    )
    spoil(path, "DELETE FROM occurrence WHERE name = 'wraps' AND scheduled_for = '2026-11-23T13:06:00Z'")
    assert told(path)[0] == "missing 13:06", "the old version decided that"


async def _days_off(world: World) -> None:
    """The old version is down for two days, and makes one row of what it missed, which names its evaluation
    instead of its instants.
    """
    world.ledger.change(
        "INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat, rules_version) "
        "VALUES ('2026-11-20T00:00:00.000000Z', 'any', 'any', 'after', 'once', 1)"
    )
    world.api.create(MINUTE, name="wraps")
    world.parse = partial(Schedule.parse, rules_version=CRONITERS_RULES)
    world.start()
    await world.until("12:30:30")
    world.kill()
    await world.after(timedelta(days=2))
    world.start()
    await world.after(timedelta(minutes=5))
    await world.stop()


def test_a_row_that_names_its_evaluation_stands_for_the_instants_of_then(tmp_path: Path) -> None:
    path = with_upgrade(recorded(tmp_path / "ledger.db", _days_off), "2026-11-25T14:00:00.000000Z")
    with closing(open_for_reading(path)) as connection:
        select = "SELECT * FROM occurrence JOIN evaluation ON evaluation.id = evaluation_id WHERE count > 1"
        (row,) = connection.execute(select).fetchall()
    assert (row["rules_version"], row["intervals"], row["count"]) == (CRONITERS_RULES, None, 2 * 48)
    assert told(path, hours=50) == []
    assert why(path, "13:06").verdict is ExplanationVerdict.ON_RECORD
    spoil(path, "UPDATE evaluation SET rules_version = ? WHERE id = ?", RULES_VERSION, row["evaluation_id"])
    assert told(path, hours=50) != [], "the instants of another reading"


def test_why_nothing_fired_is_told_by_the_rules_of_then(ledger: Path) -> None:
    before, after = why(ledger, "13:05"), why(ledger, "14:06")
    assert (before.verdict, after.verdict) == (ExplanationVerdict.NOTHING, ExplanationVerdict.NOTHING)
    assert (
        before.why
        == f"'{MINUTE}' in UTC matches it by the rules that read expressions now; by those of then it did not"
    )
    assert after.why == f"'{MINUTE}' in UTC does not match it"
    assert why(ledger, "13:06").verdict is ExplanationVerdict.ON_RECORD
