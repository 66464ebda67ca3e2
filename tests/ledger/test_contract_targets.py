"""The rest of what every ledger owes the daemon: targets, what their snapshots show, pauses, and runs by
hand.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.errors import ConfigurationError, TargetMismatch
from scheduler.core.model import (
    Automation,
    ClaimPlan,
    Definition,
    DefinitionVersion,
    Run,
    RunOrigin,
    RunStatus,
    RunUpdate,
    SnapshotUpdate,
    parse_automation,
)
from scheduler.core.pauses import EVERYTHING
from scheduler.core.recorded_state import RecordedAutomation, RecordedTargetState, Removal, ThrottleSpan
from scheduler.ledger.operator_requests import (
    Pause,
    announce_run,
    pause,
    read_pauses,
    record_failed_run,
    record_started_run,
    resume,
)
from scheduler.ledger.sql_batch import Contradiction
from scheduler.ledger.sqlite import SqliteLedger
from scheduler.ledger.targets import note_restoration, rename_target
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    URL,
    Stand,
    at,
    automation,
    claim,
    removal,
    run,
    skip,
    version,
)

NOTHING = Definition("", "", enabled=False)


def _recorded(on: Stand) -> RecordedTargetState:
    return on.do(on.ledger.bind(MAIN, URL, "1"))


def _observe(
    on: Stand,
    minute: float,
    versions: Sequence[DefinitionVersion] = (),
    changed: Sequence[Automation] = (),
    removed: Sequence[str] = (),
) -> None:
    on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(minute), versions, changed, removed)))


def _added(on: Stand, *automations: Automation, minute: float = 0) -> None:
    _observe(on, minute, [version(each, minute) for each in automations], automations)


# ---------------------------------------------------------------- names


def test_a_new_target_has_nothing_recorded(ledger: Stand) -> None:
    assert _recorded(ledger) == RecordedTargetState(None, None, {})


@pytest.mark.parametrize(
    "url",
    [
        "https://US.PostHog.com",
        "https://us.posthog.com/",
        "HTTPS://us.posthog.com:443",
        " https://us.posthog.com// ",
    ],
)
def test_the_same_url_written_otherwise_is_the_same_target(ledger: Stand, url: str) -> None:
    ledger.do(ledger.ledger.bind(MAIN, url, "1"))


@pytest.mark.parametrize(
    ("url", "project_id"),
    [
        (URL, "2"),
        ("https://eu.posthog.com", "1"),
        ("http://us.posthog.com", "1"),
        (URL + ":8443", "1"),
        (URL + "/Sub", "1"),
    ],
)
def test_another_url_or_project_under_the_same_name_is_refused(
    ledger: Stand, url: str, project_id: str
) -> None:
    with pytest.raises(TargetMismatch, match="give the new target another name") as refused:
        ledger.do(ledger.ledger.bind(MAIN, url, project_id))
    assert "project 1 at https://us.posthog.com" in str(refused.value)
    assert _recorded(ledger) == RecordedTargetState(None, None, {})


def test_a_changed_name_is_refused_with_the_command_that_renames(ledger: Stand) -> None:
    with pytest.raises(TargetMismatch, match="`scheduler target rename main prod`"):
        ledger.do(ledger.ledger.bind("prod", URL, "1"))


def test_two_targets_that_changed_their_names_among_them_are_told_both(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    with pytest.raises(TargetMismatch, match="`scheduler target rename other main`"):
        ledger.do(ledger.ledger.bind(MAIN, "https://eu.posthog.com", "1"))


def test_a_renamed_target_keeps_its_history(ledger: Stand) -> None:
    _added(ledger, automation())
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(1)], [skip(2)], at(2))))
    ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-1"), RunOrigin.FOREIGN)], at(2))))
    ledger.write(lambda connection: pause(connection, Pause(MAIN, NIGHTLY, at(0), "ada")))
    ledger.write(lambda connection: rename_target(connection, MAIN, "prod"))
    assert {line["target"] for line in ledger.lines()} == {"prod"}
    assert ledger.do(ledger.ledger.bind("prod", URL, "1")).automations.keys() == {NIGHTLY}
    assert ledger.do(ledger.ledger.read_pauses("prod")) == {NIGHTLY}
    assert (
        ledger.do(ledger.ledger.find_run_origin("prod", Run("run-1", NIGHTLY, None, RunStatus.RUNNING)))
        is RunOrigin.FOREIGN
    )
    with pytest.raises(TargetMismatch):
        ledger.do(ledger.ledger.bind(MAIN, URL, "1"))


def test_the_wait_that_the_api_asked_for_outlives_a_restart_and_a_new_name(ledger: Stand) -> None:
    span = ThrottleSpan(at(1), at(61))
    ledger.do(ledger.ledger.record_throttle(MAIN, span))
    assert _recorded(ledger).throttled == span
    ledger.write(lambda connection: rename_target(connection, MAIN, "prod"))
    assert ledger.do(ledger.ledger.bind("prod", URL, "1")).throttled == span
    ledger.do(ledger.ledger.bind(MAIN, "https://eu.posthog.com", "1"))
    assert ledger.do(ledger.ledger.bind(MAIN, "https://eu.posthog.com", "1")).throttled is None
    ledger.do(ledger.ledger.record_throttle("prod", None))
    assert ledger.do(ledger.ledger.bind("prod", URL, "1")).throttled is None
    with pytest.raises(Contradiction):
        ledger.do(ledger.ledger.record_throttle("nobody", span))


def test_a_restoration_is_known_to_all_targets_also_by_a_new_name(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    assert _recorded(ledger).restored_at is None
    ledger.write(lambda connection: note_restoration(connection, at(7)))
    ledger.write(lambda connection: rename_target(connection, "other", "prod"))
    assert (
        _recorded(ledger).restored_at
        == ledger.do(ledger.ledger.bind("prod", "https://eu.posthog.com", "1")).restored_at
        == at(7)
    )


@pytest.mark.parametrize(
    ("old", "new", "why"), [("nobody", "prod", "knows main, other"), (MAIN, "other", "already")]
)
def test_a_name_that_is_not_there_or_is_taken_cannot_be_renamed(
    ledger: Stand, old: str, new: str, why: str
) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    with pytest.raises(ConfigurationError, match=why):
        ledger.write(lambda connection: rename_target(connection, old, new))


# ---------------------------------------------------------------- snapshots


def test_what_a_snapshot_showed_is_there_after_a_restart(ledger: Stand) -> None:
    shown = automation(run_id="run-9")
    _added(ledger, shown, automation(HOURLY, "hourly"), minute=3)
    recorded = _recorded(ledger)
    assert recorded.snapshot_at == at(3)
    assert recorded.automations[NIGHTLY] == RecordedAutomation(shown, at(3), None)
    assert recorded.automations.keys() == {NIGHTLY, HOURLY}


def test_a_version_that_ended_after_the_watermark_is_recalled_with_its_end(ledger: Stand) -> None:
    first = automation()
    _added(ledger, first)
    edited = replace(first, definition=replace(first.definition, cron_expression="*/7 * * * *"))
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(5), [version(edited, 4)], [edited], [])))
    assert [(each.version.definition, each.until) for each in _recorded(ledger).ended] == [
        (first.definition, at(4))
    ]
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(5))))
    assert _recorded(ledger).ended == ()


def test_a_version_that_could_not_be_evaluated_is_not_recalled(ledger: Stand) -> None:
    """Now perhaps it can, under newer zone data, but then it fired nothing."""
    first = automation()
    _observe(ledger, 0, [version(first, 0, invalid="unknown time zone")], [first])
    _observe(ledger, 5, [version(first, 4)])
    assert _recorded(ledger).ended == ()
    assert _recorded(ledger).automations[NIGHTLY] == RecordedAutomation(first, at(4), None)


def test_an_unchanged_snapshot_writes_the_targets_row_alone(ledger: Stand) -> None:
    _added(ledger, automation())
    everything = "SELECT * FROM automation UNION ALL SELECT *, 0, 0, 0, 0, 0, 0 FROM definition"
    before = ledger.rows(everything)
    changes = ledger.write(lambda connection: connection.total_changes)
    _observe(ledger, 1)
    assert ledger.write(lambda connection: connection.total_changes) - changes == 1
    assert ledger.rows(everything) == before
    assert _recorded(ledger).snapshot_at == at(1)


def test_an_edit_is_a_new_version_and_the_old_one_stays_on_record(ledger: Stand) -> None:
    _added(ledger, automation())
    edited = automation(cron="30 4 * * *")
    _observe(ledger, 9, [version(edited, 7)], [edited])
    assert _recorded(ledger).automations[NIGHTLY] == RecordedAutomation(edited, at(7), None)
    assert ledger.rows(
        "SELECT cron_expression, effective_from, observed_at, croniter, tzdata FROM definition ORDER BY id"
    ) == [
        ("0 3 * * *", "2026-11-23T12:00:00.000000Z", "2026-11-23T12:00:30.000000Z", "6.2.4", "2026.2"),
        ("30 4 * * *", "2026-11-23T12:07:00.000000Z", "2026-11-23T12:07:30.000000Z", "6.2.4", "2026.2"),
    ]


def test_since_when_an_automation_is_not_shown_is_there_after_a_restart_until_it_is_shown_or_removed(
    ledger: Stand,
) -> None:
    _added(ledger, automation(), automation(HOURLY, "hourly"))
    ledger.do(
        ledger.ledger.record_snapshot(
            MAIN, SnapshotUpdate(at(5), [], [], [], unseen={NIGHTLY: at(4), HOURLY: at(4)})
        )
    )
    _observe(ledger, 6, [version(automation(), 3, invalid="unknown time zone")])
    assert {each: seen.unseen_since for each, seen in _recorded(ledger).automations.items()} == {
        NIGHTLY: at(4),
        HOURLY: at(4),
    }
    ledger.do(
        ledger.ledger.record_snapshot(
            MAIN,
            SnapshotUpdate(
                at(7), [removal(automation(HOURLY, "hourly"), 7)], [], [HOURLY], unseen={NIGHTLY: None}
            ),
        )
    )
    _added(ledger, automation(HOURLY, "hourly"), minute=8)
    assert {each: seen.unseen_since for each, seen in _recorded(ledger).automations.items()} == {
        NIGHTLY: None,
        HOURLY: None,
    }


def test_a_new_name_or_run_is_no_new_version(ledger: Stand) -> None:
    _added(ledger, automation())
    renamed = automation(name="weekly report", run_id="run-7")
    _observe(ledger, 5, [], [renamed])
    assert _recorded(ledger).automations[NIGHTLY] == RecordedAutomation(renamed, at(0), None)
    assert ledger.rows("SELECT count(*) FROM definition") == [(1,)]


def test_a_broken_automation_keeps_its_reason_and_its_newest_run(ledger: Stand) -> None:
    _added(ledger, automation(run_id="run-9"))
    _observe(
        ledger,
        4,
        [DefinitionVersion(NIGHTLY, "nightly report", None, at(3), at(4), "its timezone is missing or null")],
    )
    recorded = _recorded(ledger).automations[NIGHTLY]
    assert recorded.broken == "its timezone is missing or null"
    assert (recorded.automation.definition, recorded.automation.run_id, recorded.effective_from) == (
        NOTHING,
        "run-9",
        at(3),
    )
    _added(ledger, automation(), minute=6)
    assert _recorded(ledger).automations[NIGHTLY].broken is None


def test_an_invalid_schedule_is_recorded_as_it_stands(ledger: Stand) -> None:
    wrong = automation(cron="0 0 31 2 *")
    _observe(ledger, 4, [version(wrong, 4, invalid="it never fires")], [wrong])
    assert _recorded(ledger).automations[NIGHTLY] == RecordedAutomation(wrong, at(4), None, "it never fires")
    assert (
        ledger.rows("SELECT invalid FROM automation UNION ALL SELECT invalid FROM definition")
        == [("it never fires",)] * 2
    )


def test_what_was_removed_is_gone_and_may_come_back(ledger: Stand) -> None:
    _added(ledger, automation())
    _observe(ledger, 5, [removal(automation(), 5)], [], [NIGHTLY])
    assert _recorded(ledger).automations == {}
    assert ledger.rows("SELECT cron_expression, removed_at FROM automation") == [
        ("0 3 * * *", "2026-11-23T12:05:00.000000Z")
    ]
    assert ledger.rows("SELECT removed, cron_expression FROM definition ORDER BY id") == [
        (0, "0 3 * * *"),
        (1, None),
    ]
    followed = ledger.do(
        ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-1"), RunOrigin.BEFORE)], at(6)))
    )
    assert followed.names == {NIGHTLY: automation().name}, "the last name"
    _added(ledger, automation(), minute=8)
    assert _recorded(ledger).automations[NIGHTLY].effective_from == at(8)
    assert _recorded(ledger).removals == ()


def test_removals_of_the_last_day_are_recalled_with_the_first_sight_of_the_automation(ledger: Stand) -> None:
    _added(ledger, automation(), automation(HOURLY), minute=0)
    _observe(ledger, 2, [version(automation(cron="0 4 * * *"), 2)])
    _observe(ledger, 5, [removal(automation(), 5)], [], [NIGHTLY])
    _observe(ledger, 6, [removal(automation(HOURLY), 6)], [], [HOURLY])
    first = version(automation(), 0).observed_at
    assert _recorded(ledger).removals == (Removal(first, at(5)), Removal(first, at(6)))
    _observe(ledger, 24 * 60 + 5.5)
    assert _recorded(ledger).removals == (Removal(first, at(6)),)


def test_names_that_no_database_takes_are_contained(ledger: Stand) -> None:
    _added(ledger, automation(name="half \ud800 pair and 🌙 'quoted'"), automation(HOURLY, "not cut \0 off"))
    recorded = _recorded(ledger).automations
    assert recorded[NIGHTLY].automation.name == "half ? pair and 🌙 'quoted'"
    assert recorded[HOURLY].automation.name == "not cut \ufffd off"


@pytest.mark.parametrize(
    ("effective_from", "expected"),
    [([], 5), ([7], 5), ([3], 3), ([7, 2, 3], 2)],
)
def test_an_edit_takes_the_watermark_back_and_never_forward(
    ledger: Stand, effective_from: Sequence[int], expected: int
) -> None:
    _added(ledger, automation())
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(5))))
    _observe(ledger, 9, [version(automation(), each) for each in effective_from])
    assert _recorded(ledger).watermark == at(expected)


def test_the_first_snapshot_sets_the_watermark(ledger: Stand) -> None:
    _observe(ledger, 3)
    assert _recorded(ledger).watermark == at(3)
    _observe(ledger, 4)
    assert _recorded(ledger).watermark == at(3)


def test_a_target_that_was_never_bound_is_not_observed(ledger: Stand) -> None:
    with pytest.raises(Contradiction, match="has no row in the ledger"):
        ledger.do(ledger.ledger.record_snapshot("nobody", SnapshotUpdate(at(1), [], [], [])))


# ---------------------------------------------------------------- pauses


def test_a_pause_is_kept_until_it_is_ended(ledger: Stand) -> None:
    wanted = Pause(MAIN, NIGHTLY, at(1), "ada")
    assert ledger.write(lambda connection: pause(connection, wanted))
    assert not ledger.write(lambda connection: pause(connection, replace(wanted, since=at(2), by="bob")))
    assert ledger.write(read_pauses) == [wanted], "the older one stays"
    assert ledger.do(ledger.ledger.read_pauses(MAIN)) == {NIGHTLY}
    assert ledger.do(ledger.ledger.read_pauses("nobody")) == frozenset()
    assert ledger.write(lambda connection: resume(connection, MAIN, NIGHTLY, at=at(9), by="bob"))
    assert not ledger.write(lambda connection: resume(connection, MAIN, NIGHTLY, at=at(9), by="bob"))
    assert ledger.do(ledger.ledger.read_pauses(MAIN)) == frozenset()


def test_everything_can_be_paused_and_resumed(ledger: Stand) -> None:
    for each in (NIGHTLY, EVERYTHING):
        ledger.write(partial(pause, wanted=Pause(MAIN, each, at(1), "ada")))
    assert ledger.do(ledger.ledger.read_pauses(MAIN)) == {NIGHTLY, "*"}
    assert ledger.write(lambda connection: resume(connection, MAIN, EVERYTHING, at=at(9), by="bob"))
    assert ledger.do(ledger.ledger.read_pauses(MAIN)) == frozenset()


def test_what_was_paused_and_by_whom_survives_its_end(ledger: Stand) -> None:
    for automation_id in (NIGHTLY, EVERYTHING):
        ledger.write(partial(pause, wanted=Pause(MAIN, automation_id, at(1), "ada")))
    ledger.write(partial(resume, target=MAIN, automation_id=EVERYTHING, at=at(9), by="bob"))
    assert ledger.rows(
        'SELECT automation_id, since, "by", until, ended_by FROM past_pause ORDER BY automation_id'
    ) == [
        (each, "2026-11-23T12:01:00.000000Z", "ada", "2026-11-23T12:09:00.000000Z", "bob")
        for each in (EVERYTHING, NIGHTLY)
    ]
    assert not ledger.write(partial(resume, target=MAIN, automation_id=EVERYTHING, at=at(10), by="bob"))
    assert len(ledger.rows("SELECT 1 FROM past_pause")) == 2


def test_policies_are_recorded_when_they_change(ledger: Stand) -> None:
    assert isinstance(ledger.ledger, SqliteLedger)
    for minute, text in enumerate(("{}", "{}", '{"jitter": "5s"}', "{}")):
        ledger.do(ledger.ledger.record_policies(at(minute), schedule=text, overrides="[]"))
    assert [str(since)[14:16] for (since,) in ledger.rows("SELECT since FROM policy ORDER BY id")] == [
        "00",
        "02",
        "03",
    ]


def test_resuming_one_does_not_resume_everything(ledger: Stand) -> None:
    ledger.write(lambda connection: pause(connection, Pause(MAIN, EVERYTHING, at(1), "ada")))
    assert not ledger.write(lambda connection: resume(connection, MAIN, NIGHTLY, at=at(9), by="bob"))
    assert ledger.do(ledger.ledger.read_pauses(MAIN)) == {"*"}


def test_a_target_that_nobody_knows_cannot_be_paused(ledger: Stand) -> None:
    with pytest.raises(ConfigurationError, match="no target 'nobody'; it knows main"):
        ledger.write(lambda connection: pause(connection, Pause("nobody", EVERYTHING, at(1), "ada")))


# ---------------------------------------------------------------- runs by hand


def _intend(on: Stand, minute: float = 1) -> int:
    return on.write(lambda connection: announce_run(connection, MAIN, NIGHTLY, at(minute)))


def _origin(on: Stand, run_id: str, minute: float | None, automation_id: str = NIGHTLY) -> RunOrigin | None:
    started_at: datetime | None = None if minute is None else at(minute)
    return on.do(on.ledger.find_run_origin(MAIN, Run(run_id, automation_id, started_at, RunStatus.RUNNING)))


def test_a_run_that_shows_up_before_its_request_was_answered_is_known(ledger: Stand) -> None:
    intent = _intend(ledger)
    assert _origin(ledger, "run-1", 1.5) is RunOrigin.MANUAL
    ledger.do(
        ledger.ledger.record_runs(MAIN, RunUpdate([(run("run-1", minute=1.5), RunOrigin.MANUAL)], at(2)))
    )
    assert _origin(ledger, "run-2", 1.6) is None, "one request excuses one run"
    ledger.write(lambda connection: record_started_run(connection, intent, run("run-1", minute=1.5), at(2.5)))
    assert _origin(ledger, "run-1", 1.5) is RunOrigin.MANUAL


def test_a_run_that_was_answered_is_known_by_its_id(ledger: Stand) -> None:
    intent = _intend(ledger)
    ledger.write(lambda connection: record_started_run(connection, intent, run("run-1", minute=1.5), at(2)))
    assert _origin(ledger, "run-1", None) is RunOrigin.MANUAL
    assert _origin(ledger, "run-2", 1.5) is None
    assert run("run-1", minute=1.5) in ledger.do(ledger.ledger.read_newest_runs(MAIN))


def test_a_run_that_was_taken_for_foreign_too_early_is_put_right(ledger: Stand) -> None:
    """The daemon saw it, with a clock of the API far from ours, before the answer came."""
    intent = _intend(ledger)
    ledger.do(
        ledger.ledger.record_runs(
            MAIN, RunUpdate([(run("run-1", minute=30, status=RunStatus.SUCCESS), RunOrigin.FOREIGN)], at(2))
        )
    )
    ledger.write(lambda connection: record_started_run(connection, intent, run("run-1", minute=30), at(2)))
    assert _origin(ledger, "run-1", 30) is RunOrigin.MANUAL
    assert ledger.rows("SELECT status FROM run") == [("success",)]


@pytest.mark.parametrize(
    ("minute", "automation_id", "known"),
    [
        (-0.9, NIGHTLY, True),
        (2.9, NIGHTLY, True),
        (-1.1, NIGHTLY, False),
        (3.1, NIGHTLY, False),
        (1, HOURLY, False),
        (None, NIGHTLY, False),
    ],
)
def test_an_unanswered_request_explains_runs_around_it(
    ledger: Stand, minute: float | None, automation_id: str, known: bool
) -> None:
    _intend(ledger)
    assert (_origin(ledger, "run-1", minute, automation_id) is RunOrigin.MANUAL) is known


@pytest.mark.parametrize(("refused_at", "known"), [(None, True), (at(1.2), False)])
def test_a_request_that_was_refused_explains_nothing(
    ledger: Stand, refused_at: datetime | None, known: bool
) -> None:
    intent = _intend(ledger)
    ledger.write(lambda connection: record_failed_run(connection, intent, "HTTP 403", refused_at=refused_at))
    assert (_origin(ledger, "run-1", 1.5) is RunOrigin.MANUAL) is known


def test_a_run_by_hand_of_a_target_that_nobody_knows_is_refused(ledger: Stand) -> None:
    with pytest.raises(ConfigurationError, match="no target"):
        ledger.write(lambda connection: announce_run(connection, "nobody", NIGHTLY, at(1)))


@pytest.mark.parametrize(
    "began", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_whenever_the_api_says_that_a_run_began_it_is_recorded(ledger: Stand, began: str) -> None:
    definition = {"cron_expression": "* * * * *", "timezone": "UTC", "enabled": True}
    seen = parse_automation({"id": NIGHTLY, "last_run_at": began, "last_task_run_id": "run-1", **definition})
    stranger = replace(run("run-1"), started_at=seen.run_at)
    assert (
        ledger.do(ledger.ledger.find_run_origin(MAIN, Run("run-1", NIGHTLY, seen.run_at, RunStatus.RUNNING)))
        is None
    )
    ledger.do(ledger.ledger.record_runs(MAIN, RunUpdate([(stranger, RunOrigin.FOREIGN)], at(2))))
    assert ledger.do(ledger.ledger.read_newest_runs(MAIN)) == [stranger]


# ---------------------------------------------------------------- what evaluates


def test_what_schedules_are_evaluated_with_is_noted_when_it_changes(ledger: Stand) -> None:

    newer = SqliteLedger(ledger.database, node="node-1", croniter="7.0.0", tzdata="2026.2")
    older = replace(newer, croniter="6.2.4")
    newest = replace(newer, rules_version=newer.rules_version + 1)
    for minute, which, gap in (
        (1, older, "after"),
        (2, older, "after"),
        (3, older, "skip"),
        (4, newer, "skip"),
        (5, newer, "skip"),
        (6, newest, "skip"),
    ):
        ledger.do(which.record_evaluation(at(minute), dst_gap=gap, dst_repeat="once"))
    assert ledger.rows("SELECT since, croniter, dst_gap, rules_version FROM evaluation ORDER BY id") == [
        ("2026-11-23T12:01:00.000000Z", "6.2.4", "after", RULES_VERSION),
        ("2026-11-23T12:03:00.000000Z", "6.2.4", "skip", RULES_VERSION),
        ("2026-11-23T12:04:00.000000Z", "7.0.0", "skip", RULES_VERSION),
        ("2026-11-23T12:06:00.000000Z", "7.0.0", "skip", RULES_VERSION + 1),
    ]
