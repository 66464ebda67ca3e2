"""What may be made up for, and what may not, with the reason."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.audit.backfill import BackfillRefused, make_backfill_request
from scheduler.audit.evidence import collect_evidence
from scheduler.core.backfill import FireRequest
from scheduler.core.cron.schedule import read_versions
from scheduler.ledger.schema import open_for_reading
from tests.audit.support import recorded, spoil
from tests.daemon.world import NOON, World
from tests.defaults import make_policies
from tests.fakes import LOST_ANSWER, answered, carried_out_after

NOW = NOON + timedelta(hours=3)


async def _story(world: World) -> None:
    """Every ten minutes: accepted, rejected, unresolved by a deletion of another; an hour without a daemon;
    paused at last.
    """
    often, gone = (
        world.api.create("*/10 * * * *", name="often"),
        world.api.create("*/10 * * * *", name="gone"),
    )
    world.start()
    await world.until("12:15:00")
    world.api.script(often, answered(400, error="no"))
    world.api.script(gone, LOST_ANSWER)
    await world.until("12:20:05")
    world.api.delete(gone)
    await world.until("12:25:00")
    world.kill()
    await world.until("13:36:00")
    world.start()
    await world.until("13:37:00")
    world.ledger.pause()
    await world.until("14:05:00")
    await world.stop()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(
        tmp_path_factory.mktemp("fire") / "ledger.db",
        _story,
        policies=make_policies(start_within=timedelta(minutes=5)),
    )


@pytest.fixture
def ledger(original: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(original.read_bytes())
    return path


def asked(path: Path, minutes: int, name: str = "often") -> FireRequest:
    evaluated = read_versions()
    with closing(open_for_reading(path)) as connection:
        (automation_id,) = connection.execute(
            "SELECT DISTINCT automation_id FROM definition WHERE name = ?", (name,)
        ).fetchone()
        instant = NOON + timedelta(minutes=minutes)
        return make_backfill_request(
            collect_evidence(
                connection, "main", automation_id, instant, (evaluated.croniter, evaluated.tzdata)
            ),
            NOW,
            "ada",
        )


@pytest.mark.parametrize("minutes", [20, 100, 110], ids=["rejected", "paused", "paused too"])
def test_what_has_a_row_of_its_own_and_did_not_run_may_be(ledger: Path, minutes: int) -> None:
    found = asked(ledger, minutes)
    assert (found.occurrence.scheduled_for, found.at, found.by, found.instants) == (
        NOON + timedelta(minutes=minutes),
        NOW,
        "ada",
        (),
    )


@pytest.mark.parametrize("minutes", [30, 60, 90])
def test_what_lies_in_a_span_may_be(ledger: Path, minutes: int) -> None:
    assert asked(ledger, minutes).instants == ()


@pytest.mark.parametrize("minutes", [30, 60, 90])
def test_the_instants_of_a_span_that_does_not_know_them_are_derived(ledger: Path, minutes: int) -> None:
    assert spoil(ledger, "UPDATE occurrence SET intervals = NULL, definition_id = NULL WHERE count > 1") == 1
    assert asked(ledger, minutes).instants == tuple(
        NOON + timedelta(minutes=each) for each in range(30, 91, 10)
    )


def test_of_a_span_that_cannot_be_derived_any_more_none_may_be(ledger: Path) -> None:
    spoil(
        ledger,
        "UPDATE occurrence SET intervals = NULL, definition_id = NULL, count = count - 1 WHERE count > 1",
    )
    with pytest.raises(BackfillRefused, match="a row for 6 occurrences of which 7 can be derived now"):
        asked(ledger, 60)


def test_what_is_missing_may_be(ledger: Path) -> None:
    assert spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T13:40:00Z'") == 1
    assert asked(ledger, 100).instants == ()


@pytest.mark.parametrize(
    ("minutes", "name", "why"),
    [
        (10, "often", "it was accepted already (answered), as run main-run-"),
        (15, "often", "nothing was scheduled for it then; see `scheduler why "),
        (150, "often", "the daemon has not decided about it yet; see `scheduler why "),
        (200, "often", "it is still to come"),
        (10, "gone", "the automation is gone"),
    ],
)
def test_other_things_may_not_be(ledger: Path, minutes: int, name: str, why: str) -> None:
    with pytest.raises(BackfillRefused) as raised:
        asked(ledger, minutes, name)
    assert str(raised.value).startswith(why)


def test_what_may_have_run_may_not_be(ledger: Path) -> None:
    spoil(ledger, "UPDATE occurrence SET outcome = 'unresolved', reason = 'covered' WHERE reason = 'refused'")
    with pytest.raises(BackfillRefused, match="it is unresolved: covered: a run may have been started"):
        asked(ledger, 20)
    spoil(
        ledger,
        "UPDATE occurrence SET outcome = NULL, reason = NULL, state = 'unknown' WHERE reason = "
        "'covered' AND name = 'often'",
    )
    with pytest.raises(BackfillRefused, match=r"it is open \(unknown\)"):
        asked(ledger, 20)


def test_what_may_be_gone_because_of_its_age_may_not_be(ledger: Path) -> None:
    spoil(ledger, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:20:00Z'")
    spoil(ledger, "INSERT INTO pruned VALUES (1, '2026-11-23T12:25:00.000000Z')")
    with pytest.raises(BackfillRefused, match="nobody knows whether it ran"):
        asked(ledger, 20)


def test_what_a_late_attempt_was_started_for_may_not_be(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        automation = world.api.create("*/10 * * * *", name="often")
        world.api.script(automation, carried_out_after(200.0), *[answered(503)] * 50)
        world.start()
        await world.until("12:25:00")
        await world.stop()
        world.api.runs.clear()  # what the API was made to do here is what no client can prevent
        world.forgive_doubles()

    path = recorded(tmp_path / "ledger.db", story, policies=make_policies(start_within=timedelta(minutes=2)))
    with pytest.raises(BackfillRefused, match="run main-run-1 is most likely a late attempt for it"):
        asked(path, 10)
