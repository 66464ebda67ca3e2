"""`why` tells what happened as it happened, and of what did not happen why not."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.audit.evidence import collect_evidence
from scheduler.audit.explanation import ExplanationVerdict, OccurrenceExplanation
from scheduler.audit.messages import CAUSES, REASONS, RESULTS, RUNS, STATES
from scheduler.core.cron.schedule import read_versions
from scheduler.core.instants import to_text
from scheduler.core.model import AttemptResult, Reason, RunStatus, State
from scheduler.core.occurrence_log import Cause
from scheduler.core.policy import Concurrency
from scheduler.ledger.schema import open_for_reading
from tests.audit.support import recorded, spoil
from tests.daemon.world import NOON, World
from tests.defaults import make_policies
from tests.fakes import LOST_ANSWER, LOST_REQUEST, REFUSED, RESET_BEFORE, Deed, answered

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)


async def _story(world: World) -> None:
    """*report*: on time, in trouble, paused, edited, missed for an hour, deleted. *off*: disabled at
    first.
    """
    report = world.api.create("*/10 * * * *", name="report")
    off = world.api.create("0 * * * *", name="off", enabled=False)
    world.api.run_lasts = 30.0
    world.start()
    await world.until("12:15:00")
    world.api.script(report, RESET_BEFORE, answered(429, retry_after=20.0), LOST_ANSWER)
    await world.until("12:28:00")
    world.ledger.pause(report)
    await world.until("12:35:00")
    world.ledger.resume(report)
    await world.until("12:45:30")
    world.api.edit(report, cron_expression="*/15 * * * *", name="the report")
    world.api.edit(off, enabled=True)
    await world.until("12:50:00")
    world.kill()
    await world.until("14:20:00")
    world.start()
    await world.until("14:40:00")
    world.api.delete(report)
    world.api.create("17 * * * *", name="later")
    await world.until("14:50:00")
    await world.stop()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = recorded(
        tmp_path_factory.mktemp("why") / "ledger.db",
        _story,
        policies=make_policies(start_within=timedelta(minutes=9)),
    )
    spoil(
        path,
        "INSERT INTO policy (since, schedule, overrides) VALUES (?, '{}', '[]')",
        to_text(NOON - timedelta(days=1)),
    )
    spoil(
        path,
        "UPDATE past_pause SET since = '2026-11-23T12:28:00.000000Z', until = "
        "'2026-11-23T12:35:00.000000Z', ended_by = 'bob'",
    )
    return path


def why(path: Path, name: str, clock: str, *, now: datetime = NOW) -> OccurrenceExplanation:
    instant = datetime.fromisoformat(f"2026-11-23T{clock}:00Z" if len(clock) == 5 else f"2026-11-23T{clock}Z")
    evaluated = read_versions()
    with closing(open_for_reading(path)) as connection:
        (automation_id,) = connection.execute(
            "SELECT DISTINCT automation_id FROM definition WHERE name = ?", (name,)
        ).fetchone()
        return OccurrenceExplanation(
            collect_evidence(
                connection, "main", automation_id, instant, (evaluated.croniter, evaluated.tzdata)
            ),
            now,
        )


def texts(story: OccurrenceExplanation) -> list[str]:
    return [each.text for each in story.entries]


def test_what_was_on_time_is_told_in_a_few_steps(ledger: Path) -> None:
    story = why(ledger, "report", "12:10")
    assert (story.verdict, story.why) == (
        ExplanationVerdict.ON_RECORD,
        "the API answered that it had started a run",
    )
    assert texts(story) == [
        "claimed by node-1",
        "scheduled",
        "attempt 1 sent",
        "run main-run-1 began, by the API's clock",
        "attempt 1 answered with a run (HTTP 200)",
        "accepted: answered: the API answered that it had started a run",
        "run main-run-1 ended well, as a poll showed then",
    ]
    assert (story.before, story.after) == (None, NOON + timedelta(minutes=20))
    assert story.period is not None
    assert story.period.version.name == "report"


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (-190.0, "attempt 1 sent, by a clock that was 3 min 10 s ahead of the API's"),
        (190.0, "attempt 1 sent, by a clock that was 3 min 10 s behind the API's"),
        (59.0, "attempt 1 sent"),
        (None, "attempt 1 sent"),
    ],
)
def test_a_large_difference_of_the_clocks_is_told_with_the_attempt(
    ledger: Path, tmp_path: Path, offset: float | None, text: str
) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(ledger.read_bytes())
    spoil(path, "UPDATE attempt SET clock_offset = ?", offset)
    assert [entry for entry in texts(why(path, "report", "12:10")) if entry.startswith("attempt 1 sent")] == [
        text
    ]


def test_every_attempt_and_what_it_got_is_told_and_what_was_waited_for(ledger: Path) -> None:
    told = texts(why(ledger, "report", "12:20"))
    for text in (
        "attempt 1 outcome unknown: it may have started a run: connection reset",
        "reconciled: nothing had been started",
        "attempt 2 refused for now (429), so nothing was started (HTTP 429)",
        "waited for its throttled target: until 2026-11-23T12:20:50Z",
        "attempt 3 outcome unknown: it may have started a run: no answer within 30 s",
        "accepted: found: the answer was lost; reading the automation showed the run that had been started",
    ):
        assert any(each.startswith(text) for each in told), told
    at = [each.at for each in why(ledger, "report", "12:20").entries]
    assert at == sorted(at)


def test_who_paused_it_from_when_to_when_is_told(ledger: Path) -> None:
    story = why(ledger, "report", "12:30")
    assert story.why == "it was paused; nothing was sent"
    assert "it was paused by ada, ended by bob" in texts(story)


def test_one_of_a_span_is_told_with_the_others(ledger: Path) -> None:
    story = why(ledger, "report", "13:30")
    assert story.verdict is ExplanationVerdict.ON_RECORD
    assert "; one of 5 with the same fate, from 2026-11-23T13:00:00Z to 2026-11-23T14:00:00Z" in story.why
    assert story.evidence.row is not None
    assert story.evidence.row.fate == "skipped: coalesced"


@pytest.mark.parametrize(
    "spoilt",
    ["", "UPDATE occurrence SET intervals = NULL, definition_id = 1, evaluation_id = 1 WHERE count = 5"],
)
def test_what_a_span_does_not_stand_for_is_not_on_record(ledger: Path, tmp_path: Path, spoilt: str) -> None:
    """A span of few instants lists them, one of many names the definition; 13:20 is in the bounds of both and
    due in neither.
    """
    path = tmp_path / "ledger.db"
    path.write_bytes(ledger.read_bytes())
    if spoilt:
        assert spoil(path, "UPDATE definition SET cron_expression = '*/15 * * * *' WHERE id = 1") == 1
        assert spoil(path, spoilt) == 1
    assert why(path, "report", "13:30").verdict is ExplanationVerdict.ON_RECORD
    story = why(path, "report", "13:20")
    assert (story.verdict, story.evidence.row) == (ExplanationVerdict.NOTHING, None)


@pytest.mark.parametrize(
    ("name", "clock", "verdict", "reason", "near"),
    [
        (
            "report",
            "12:15",
            ExplanationVerdict.NOTHING,
            "'*/10 * * * *' in UTC does not match it",
            ["12:10", "12:20"],
        ),
        (
            "report",
            "12:10:30",
            ExplanationVerdict.NOTHING,
            "'*/10 * * * *' in UTC does not match it",
            ["12:10", "12:20"],
        ),
        (
            "report",
            "12:50",
            ExplanationVerdict.NOTHING,
            "'*/15 * * * *' in UTC does not match it",
            ["12:40", "13:00"],
        ),
        (
            "report",
            "14:45",
            ExplanationVerdict.NOTHING,
            "it was deleted then, from 2026-11-23T14:",
            ["14:30", None],
        ),
        (
            "off",
            "12:30",
            ExplanationVerdict.NOTHING,
            "it was disabled then, from 2026-11-23T12:00",
            [None, "13:00"],
        ),
        (
            "later",
            "12:17",
            ExplanationVerdict.NOTHING,
            "it was first seen later: it counts from 2026-11-23T14:",
            [None, "15:17"],
        ),
        (
            "off",
            "15:00",
            ExplanationVerdict.TO_COME,
            "it is due, and not decided yet: the record is complete up to",
            ["14:00", "16:00"],
        ),
        ("off", "17:00", ExplanationVerdict.TO_COME, "it is still to come", ["16:00", "18:00"]),
    ],
)
def test_what_did_not_happen_is_told_with_the_nearest_that_did(  # noqa: PLR0917 -- a table's columns
    ledger: Path, name: str, clock: str, verdict: ExplanationVerdict, reason: str, near: list[str | None]
) -> None:
    story = why(ledger, name, clock)
    assert story.verdict is verdict
    assert story.why.startswith(reason), story.why
    assert [None if each is None else f"{each:%H:%M}" for each in (story.before, story.after)] == near


def test_what_is_gone_from_the_record_is_told_as_missing(ledger: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "ledger.db"
    spoiled.write_bytes(ledger.read_bytes())
    spoil(spoiled, "DELETE FROM occurrence WHERE scheduled_for = '2026-11-23T12:10:00Z'")
    assert why(spoiled, "report", "12:10").verdict is ExplanationVerdict.MISSING
    spoil(spoiled, "INSERT INTO pruned VALUES (1, '2026-11-23T12:15:00.000000Z')")
    story = why(spoiled, "report", "12:10")
    assert (story.verdict, story.why[:40]) == (
        ExplanationVerdict.NOTHING,
        "it was due, but what was scheduled befor",
    )


async def _at_a_clock_change(world: World) -> None:
    world.api.create("30 2 * * *", timezone="Europe/Berlin", name="fixed")
    world.start()
    await world.after(60.0)
    await world.stop()


@pytest.mark.parametrize(
    ("day", "clock", "gap", "reason"),
    [
        (
            25,
            "01:30",
            "after",
            "names a time that the clock shows twice that day, and fires the first time (dst_repeat is once)",
        ),
        (
            29,
            "01:00",
            "skip",
            "names a time that the clock skips that day, and does not fire for it (dst_gap is skip)",
        ),
    ],
)
def test_what_a_clock_change_has_to_do_with_it_is_told(
    tmp_path: Path, day: int, clock: str, gap: str, reason: str
) -> None:
    month = {25: 10, 29: 3}[day]
    instant = datetime.fromisoformat(f"2026-{month:02}-{day}T{clock}:00Z")
    path = recorded(tmp_path / "ledger.db", _at_a_clock_change, begin=datetime(2026, 3, 1, tzinfo=UTC))
    spoil(path, "UPDATE evaluation SET since = '2026-02-01T00:00:00.000000Z', dst_gap = ?", gap)
    evaluated = read_versions()
    with closing(open_for_reading(path)) as connection:
        (automation_id,) = connection.execute("SELECT automation_id FROM definition").fetchone()
        story = OccurrenceExplanation(
            collect_evidence(
                connection, "main", automation_id, instant, (evaluated.croniter, evaluated.tzdata)
            ),
            NOW,
        )
    assert reason in story.why


async def _waiting(world: World) -> None:
    """*held* waits for its target, *lost* for readings, *asked* for an answer; the process is killed once in
    between.
    """
    held = world.api.create("0 13 * * *", name="held")
    world.api.script(held, *[answered(401, error="bad key")] * 50)
    for clock in ("13:00:10", "13:02:00"):
        world.start()
        await world.until(clock)
        while (
            world.row(held, "13:00").steps[-1].until is not None
            or world.row(held, "13:00").steps[-1].cause is not Cause.HELD
        ):
            await world.after(1.0)
        world.kill()


async def _attempted(world: World) -> None:
    world.api.script(world.api.create("0 13 * * *", name="lost"), LOST_REQUEST)
    world.api.script(world.api.create("0 13 * * *", name="asked"), Deed(took=29.0))
    world.start()
    await world.until("13:00:20")
    world.kill()


def test_what_an_open_occurrence_waits_for_is_told_with_its_beginning(tmp_path: Path) -> None:
    begin, lenient = (
        NOON + timedelta(minutes=59, seconds=20),
        make_policies(start_within=timedelta(minutes=30)),
    )
    now = NOON + timedelta(hours=1, minutes=4)
    path = recorded(tmp_path / "ledger.db", _waiting, policies=lenient, begin=begin)
    story = why(path, "held", "13:00", now=now)
    assert story.wait is not None
    assert (story.wait.cause, story.wait.detail) == (Cause.HELD, "HTTP 401: bad key")
    assert story.why == (
        f"it waits for the release of its held target, since {to_text(story.wait.at)} (HTTP 401: bad key)"
    )
    told = [(each.at, each.text) for each in story.entries]
    assert (story.wait.at, "waits for the release of its held target: HTTP 401: bad key") in told
    assert [
        at for at, text in told if text.endswith("; the end is not on record, because the process was killed")
    ] < [story.wait.at]
    other = recorded(tmp_path / "other.db", _attempted, policies=lenient, begin=begin)
    for name, cause in (("lost", Cause.ANSWER), ("asked", Cause.ANSWER)):
        wait = why(other, name, "13:00", now=now).wait
        assert wait is not None
        assert (wait.cause, wait.at.replace(microsecond=0)) == (
            cause,
            NOON + timedelta(minutes=59, seconds=59),
        )
    spoil(other, "UPDATE occurrence SET state = 'unknown'")
    spoil(other, "UPDATE attempt SET result = 'unknown', ended_at = '2026-11-23T13:00:31.000000Z'")
    wait = why(other, "lost", "13:00", now=now).wait
    assert wait is not None
    assert (wait.cause, to_text(wait.at)) == (Cause.OUTCOME, "2026-11-23T13:00:31.000000Z")


async def _queued(world: World) -> None:
    """*behind* waits for the run before it, *refused* for its next attempt; the process is killed while both
    wait.
    """
    behind = world.api.create("0 13 * * *", name="behind")
    make_refusal = world.api.create("1 13 * * *", name="refused")
    world.api.script(make_refusal, *[REFUSED] * 50)
    world.start()
    await world.until("12:59:50")
    world.api.run_by_somebody(behind)
    await world.until("13:02:00")
    world.kill()


def test_an_occurrence_behind_a_run_has_no_deadline_and_others_have(tmp_path: Path) -> None:
    policies = make_policies(start_within=timedelta(minutes=9), concurrency=Concurrency.QUEUE)
    path = recorded(
        tmp_path / "ledger.db", _queued, policies=policies, begin=NOON + timedelta(minutes=59, seconds=20)
    )
    now, end = NOON + timedelta(hours=1, minutes=3), "2026-11-23T13:30:00.000000Z"
    spoil(path, "UPDATE target SET throttled_until = ?", end)
    behind, make_refusal = why(path, "behind", "13:00", now=now), why(path, "refused", "13:01", now=now)
    assert behind.wait is not None
    assert behind.wait.cause is Cause.QUEUED
    assert ["it expires" in story.why for story in (behind, make_refusal)] == [False, True]
    deadlines = [
        [entry.at for entry in story.entries if "deadline" in entry.text] for story in (behind, make_refusal)
    ]
    assert deadlines == [[], [NOON + timedelta(hours=1, minutes=10)]]
    spoil(path, "UPDATE occurrence SET asked_at = '2026-11-23T13:02:00.000000Z'")
    backfill = texts(why(path, "behind", "13:00", now=now))
    assert any("deadline" in text for text in backfill), "a backfill waits for no run"
    assert "an operator asked for a backfill" in backfill


def test_there_is_a_sentence_for_everything() -> None:
    for sentences, words in (
        (REASONS, Reason),
        (STATES, State),
        (CAUSES, Cause),
        (RESULTS, AttemptResult),
        (RUNS, RunStatus),
    ):
        assert set(sentences) == set(words)
