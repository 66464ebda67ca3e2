"""Every text that an API can send comes out of the ledger as it went in, or was refused as a whole: none is
cut into another.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.model import (
    AttemptResult,
    Automation,
    ClaimPlan,
    InvalidAutomation,
    Outcome,
    Reason,
    Run,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
    State,
    parse_automation,
)
from scheduler.core.occurrence_log import Cause, Step
from scheduler.ledger.sql_batch import pack_rows
from tests.ledger.support import (
    MAIN,
    NIGHTLY,
    URL,
    Stand,
    at,
    attempt,
    claim,
    concluded,
    end,
    occurrence,
    run,
    stand,
    version,
)

SPECIAL = st.sampled_from(
    ["\0", "\ud800", "\udfff", r"\u0000", "\\", '"', "\ufffd", "\x1f", "\x7f", "\U0001f600", "\u2028", "'"]
)
TEXT = st.lists(SPECIAL | st.characters(), max_size=12).map("".join)
UNSTORABLE = {"\0", *map(chr, range(0xD800, 0xE000))}
on_one_ledger = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Stand]:
    with tempfile.TemporaryDirectory() as folder, stand(Path(folder) / "scheduler.db") as ready:
        yield ready


def shown(**fields: object) -> Automation:
    document = {
        "id": NIGHTLY,
        "name": "nightly",
        "cron_expression": "0 3 * * *",
        "timezone": "UTC",
        "enabled": True,
    }
    return parse_automation(document | fields)


def is_storable(*texts: str) -> bool:
    return UNSTORABLE.isdisjoint("".join(texts))


DECIDING = st.fixed_dictionaries(
    dict.fromkeys(("cron_expression", "timezone", "last_task_run_id", "last_run_status"), TEXT)
)


@on_one_ledger
@given(texts=DECIDING, name=TEXT, error=TEXT)
def test_an_automation_is_read_back_as_it_was_shown_or_was_refused(
    shared: Stand, texts: dict[str, str], name: str, error: str
) -> None:
    """SQLite's JSON functions cut a text at NUL: what was no schedule before a restart was one after it, and
    fired.
    """
    if not is_storable(*texts.values()):
        with pytest.raises(InvalidAutomation):
            shown(**texts)
        return
    automation = shown(**texts, name=name, last_error=error)
    seen = version(automation, invalid=automation.name)  # a reason may quote any text of the automation
    shared.do(shared.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [seen], [automation], [])))
    recorded = shared.do(shared.ledger.bind(MAIN, URL, "1")).automations[NIGHTLY]
    assert (recorded.automation, recorded.invalid) == (automation, seen.invalid)


@on_one_ledger
@given(minute=st.integers(1, 10**6), run_id=TEXT.filter(is_storable), text=TEXT.filter(is_storable))
def test_claims_attempts_steps_outcomes_and_runs_keep_their_texts(
    shared: Stand, minute: int, run_id: str, text: str
) -> None:
    ledger, of = shared.ledger, occurrence(minute)
    if not shared.do(
        ledger.claim(
            MAIN,
            ClaimPlan([claim(minute, first=replace(attempt(), baseline=run_id), name=text)], [], at(minute)),
        )
    ):
        return  # drawn before
    steps = [Step(at(minute), Cause.HELD, at(minute + 1), detail=text)]
    shared.do(ledger.end_attempt(of, end(result=AttemptResult.HELD, error=text), State.WAITING, steps))
    (opened,) = shared.do(ledger.read_open_occurrences(MAIN))
    assert opened.attempt is not None
    assert opened.end is not None
    assert (opened.name, opened.attempt.baseline, opened.end.error) == (text, run_id, text)
    assert shared.rows(
        "SELECT detail FROM step JOIN occurrence ON id = occurrence_id WHERE scheduled_for = "
        f"'{at(minute):%FT%TZ}'"
    ) == [(text,)]
    shared.do(ledger.conclude(of, concluded(Outcome.EXPIRED, Reason.NOT_STARTED, text)))
    assert [
        line["error"] for line in shared.lines(since=at(minute), until=at(minute + 1)) if line["count"] == 1
    ][:1] == [text]
    failed = replace(run(run_id, status=RunStatus.FAILED), error=text)
    shared.do(ledger.record_runs(MAIN, RunUpdate([(failed, RunOrigin.FOREIGN)], at(minute))))
    assert (
        shared.do(ledger.find_run_origin(MAIN, Run(run_id, NIGHTLY, None, RunStatus.RUNNING)))
        is RunOrigin.FOREIGN
    )


@given(text=TEXT)
def test_no_text_is_cut_on_its_way_into_a_statement(text: str) -> None:
    assert r"\u0000" not in pack_rows([(text,)]).replace(r"\\u0000", "")
    assert "\0" not in pack_rows([(text,)])


def test_a_text_with_nul_that_comes_as_far_as_the_ledger_keeps_its_length(shared: Stand) -> None:
    automation = replace(shown(run_id=None), name="before\0after", run_error=r"a\u0000b")
    shared.do(
        shared.ledger.record_snapshot(MAIN, SnapshotUpdate(at(0), [version(automation)], [automation], []))
    )
    recorded = shared.do(shared.ledger.bind(MAIN, URL, "1")).automations[NIGHTLY].automation
    assert (recorded.name, recorded.run_error) == ("before\ufffdafter", r"a\u0000b")
