"""The checks of the automations: schedules, runs, the request budget, and other schedulers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.model import InvalidAutomation, RunStatus
from scheduler.core.status import FailingAutomations, FinishedRun, ForeignRunTally
from scheduler.doctor.checks import other_schedulers
from scheduler.doctor.facts import Facts, LedgerFacts, UnknownFact
from scheduler.doctor.findings import Status
from scheduler.ledger.automations import AutomationRow
from tests.doctor.support import (
    HEALTHY,
    ID,
    LEDGER_FACTS,
    NOW,
    RECORD,
    TARGET,
    WAY,
    api,
    automation,
    numbered,
    record,
    settings,
    snapshot,
    target,
)
from tests.doctor.variants import (
    FAULT,
    MAIN,
    NIGHTLY,
    NOTICE,
    WARNING,
    Case,
    at_the_cloud,
    expect_only,
    limited,
    many,
    ran_by_itself,
    scheduled,
    told,
    two_of_one_project,
    under,
    with_ids,
)

WEEK_AGO = NOW - timedelta(days=3)


FOREIGN = ForeignRunTally("main", ID, "nightly", 2, 0, WEEK_AGO)


CASES: Mapping[str, Sequence[Case]] = {
    "schedules": [
        ("invalid", scheduled("0 25 * * *"), FAULT, NIGHTLY, "it never fires: the hour '25' is not valid"),
        ("no day", scheduled("0 0 31 2 *"), FAULT, NIGHTLY, "no day that ever matches"),
        (
            "no zone",
            scheduled("0 3 * * *", timezone="Europe/Wien"),
            FAULT,
            NIGHTLY,
            "'Europe/Wien' is unknown",
        ),
        (
            "unidentified",
            api(
                snapshot=replace(
                    snapshot(), unidentified=2, anonymous=("object 3 of the list: its id is not a UUID",)
                )
            ),
            FAULT,
            "target main",
            "never fire and nothing can be removed: 2 (object 3 of the list: its id is not a UUID)",
        ),
        (
            "inconsistent",
            api(
                snapshot=replace(
                    snapshot(), complete=False, disagreement="its count is 3, but its pages hold 2"
                )
            ),
            WARNING,
            "target main",
            (
                "its list contradicts itself, in three successive readings: its count is 3, "
                "but its pages hold 2"
            ),
        ),
        (
            "broken",
            api(
                snapshot=snapshot(
                    broken={numbered(9): InvalidAutomation("its enabled is missing or null", name="odd")}
                )
            ),
            FAULT,
            f"automation odd ({numbered(9)})",
            "its enabled is missing",
        ),
        ("either day", scheduled("0 3 13 * fri"), WARNING, NIGHTLY, "a day need match only one of"),
        ("a star in a list", scheduled("0 3 1,* * fri"), WARNING, NIGHTLY, "every day matches"),
        ("elsewhere", scheduled("*/7 * * * *"), NOTICE, NIGHTLY, "the interval there is 4 instead of 7"),
        (
            "a step that wraps",
            scheduled("0 23-5/4 ? * *"),
            NOTICE,
            NIGHTLY,
            "3 comes after 23; in croniter 4 comes after 23; write 0 3,23",
        ),
        (
            "Sunday",
            scheduled("0 9 ? * 7-sun"),
            NOTICE,
            NIGHTLY,
            "the one value 7; in croniter it is the whole field",
        ),
        ("rare", scheduled("0 0 29 2 *", timezone="UTC"), WARNING, NIGHTLY, "next at 2028-02-29T00:00:00Z"),
        ("disabled", scheduled("0 3 * * *", enabled=False), NOTICE, MAIN, "1 disabled"),
        ("paused", record(paused=frozenset({("main", "*")})), NOTICE, MAIN, "1 paused"),
        (
            "much jitter",
            under(scheduled("*/10 * * * *"), settings(schedule={"jitter": "6m"})),
            WARNING,
            NIGHTLY,
            "jitter of 6m is too much for 10m between",
        ),
    ],
    "rate budget": [
        (
            "a busy minute",
            limited(many(500), max_in_flight=1000),
            WARNING,
            MAIN,
            "the minute of 2026-11-24T02:00:00Z needs 500 fires and",
        ),
        (
            "a busy hour",
            limited(many(300, "* * * * *"), requests_per_minute=1000, max_in_flight=1000),
            WARNING,
            MAIN,
            "300 lose occurrences",
        ),
        (
            "polls alone",
            under(HEALTHY, settings({**TARGET, "requests_per_hour": 150})),
            WARNING,
            MAIN,
            "half is for polls and readings",
        ),
        (
            "more than the cloud allows",
            at_the_cloud(requests_per_hour=6000),
            WARNING,
            MAIN,
            "the cloud allows a key 480 and 4,800",
        ),
        ("a crowd", many(65), NOTICE, MAIN, "65 automations are due in the minute of 2026-11-24T02:00:00Z"),
    ],
    "other schedulers": [
        (
            "a foreign run",
            record(foreign_runs=(FOREIGN,)),
            WARNING,
            NIGHTLY,
            "2 runs in the last 7 days that this scheduler did not start",
        ),
        (
            "a double schedule",
            record(foreign_runs=(replace(FOREIGN, doubled=1),)),
            FAULT,
            NIGHTLY,
            "fired twice: 1 run",
        ),
        (
            "fired before us",
            ran_by_itself("0 3 * * *", datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC)),
            WARNING,
            MAIN,
            "that the ledger does not know, of 1: nightly",
        ),
        (
            "one project twice",
            two_of_one_project(),
            FAULT,
            "targets main and other",
            "1 automations are in both",
        ),
    ],
}


@pytest.mark.parametrize(("check", "facts", "status", "subject", "words"), with_ids(CASES))
def test_what_is_wrong_is_found_and_nothing_else(
    check: str, facts: Facts, status: Status, subject: str, words: str
) -> None:
    expect_only(check, facts, status, subject, words)


@pytest.mark.parametrize(
    ("restored_at", "found"), [(None, 1), (datetime(2026, 11, 23, 2, 0, 11, tzinfo=UTC), 1), (NOW, 0)]
)
def test_runs_from_before_the_ledger_was_restored_are_no_sign_of_another_scheduler(
    restored_at: datetime | None, found: int
) -> None:
    ran = ran_by_itself("0 3 * * *", datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC))
    assert ran.record is not None
    targets = tuple(replace(target, restored_at=restored_at) for target in ran.record.targets)
    assert isinstance(ran.ledger, LedgerFacts)
    ran = replace(ran, ledger=replace(ran.ledger, record=replace(ran.record, targets=targets)))
    assert (
        len(
            [
                finding
                for finding in told(ran)
                if finding.check == "other schedulers" and finding.status is WARNING
            ]
        )
        == found
    )


@pytest.mark.parametrize(("dst_repeat", "found"), [("once", 0), ("twice", 1)])
def test_a_run_in_a_repeated_hour_is_judged_by_the_configured_rules(dst_repeat: str, found: int) -> None:
    ran = ran_by_itself("30 2 * * *", datetime(2026, 10, 25, 1, 30, 12, tzinfo=UTC))
    ran = replace(
        under(ran, settings(schedule={"dst_repeat": dst_repeat})),
        now=datetime(2026, 10, 26, 12, tzinfo=UTC),
    )
    findings = [finding for finding in other_schedulers.check(ran) if finding.status is WARNING]
    assert len(findings) == found


FAILED = FinishedRun(
    "main", ID, "nightly", "run-1", RunStatus.FAILED, NOW - timedelta(hours=1), 3, "exit status 3: no room"
)


def test_each_automation_whose_newest_finished_run_failed_is_a_warning_and_the_rest_is_counted() -> None:
    lost = replace(FAILED, name="weekly", status=RunStatus.LOST, failures=1, error=None)
    first, second, rest = told(
        record(
            failing=FailingAutomations({"main": 25, "gone": 9}, [FAILED, lost, replace(lost, target="gone")])
        )
    )
    assert {(each.check, each.status) for each in (first, second, rest)} == {("runs", Status.WARNING)}
    assert first.subject == f"automation nightly ({ID})"
    assert (
        first.finding
        == "its newest finished run failed, 3 failures in a row, 2026-11-23T18:20:30Z: exit status 3: no room"
    )
    assert "`scheduler runs show run-1`" in first.advice
    assert second.finding == "its newest finished run was lost, 2026-11-23T18:20:30Z"
    assert (rest.finding, rest.advice) == (
        "23 more with a failed newest finished run",
        "see `scheduler history --run-status failed`",
    )


def test_a_crowd_late_on_a_day_of_many_occurrences_is_forecast_and_the_rest_is_named() -> None:
    """The forecast ended after the first occurrences, long before the crowd, and said that all goes in
    time.
    """
    five = [
        automation(number, cron="*/5 * * * *", timezone="UTC", name=f"five{number}") for number in range(100)
    ]
    crowd = [
        automation(1000 + number, cron="0 15 * * *", timezone="UTC", name=f"crowd{number}")
        for number in range(2000)
    ]
    (found,) = (
        each
        for each in told(limited(api(snapshot=snapshot(*five, *crowd)), max_in_flight=3000))
        if each.check == "rate budget"
    )
    assert "the minute of 2026-11-24T15:00:00Z needs 2,100 fires" in found.finding
    assert "from 2026-11-24T15:00:00Z on 1,70" in found.finding
    assert "automations wait, up to 5 min" in found.finding
    assert (
        "(forecast from 2026-11-24T14:00:00Z to 2026-11-24T19:21:00Z, not of the rest of the day)"
        in found.finding
    )


def test_automations_that_the_api_does_not_show_are_those_of_the_ledger() -> None:
    known = AutomationRow("main", ID, "nightly", "0 25 * * *", "UTC", True, None, None, None)
    facts = target(
        connectivity=replace(WAY, broken="connection", error="refused"),
        api=UnknownFact("it cannot be reached"),
    )
    facts = replace(facts, ledger=replace(LEDGER_FACTS, record=replace(RECORD, automations=(known,))))
    found = [each for each in told(facts) if each.check == "schedules"]
    assert [each.status for each in found] == [NOTICE, FAULT]
    assert "the ledger's last snapshot, of 2026-11-23T19:20:10Z" in found[0].finding


def test_a_run_that_the_ledger_knows_is_no_sign_of_another_scheduler() -> None:
    began = datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC)
    ours = replace(LEDGER_FACTS, record=replace(RECORD, newest_runs={ID: began}))
    assert told(ran_by_itself("0 3 * * *", began, ledger=ours)) == []


@pytest.mark.parametrize(
    ("cron", "minutes"), [("0 3 * * *", 5), ("* * * * *", 0)], ids=["at another time", "whenever"]
)
def test_a_run_that_somebody_started_by_hand_is_no_sign_of_another_scheduler(cron: str, minutes: int) -> None:
    assert told(ran_by_itself(cron, datetime(2026, 11, 23, 2, minutes, 12, tzinfo=UTC))) == []


def test_a_jitter_of_half_the_time_between_two_fires_is_not_cut_and_no_finding() -> None:
    assert "schedules" not in {
        each.check for each in told(under(scheduled("*/10 * * * *"), settings(schedule={"jitter": "5m"})))
    }


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (
            record(paused=frozenset({("main", "*")})),
            "; `scheduler resume --all --keep-single` (pauses of single automations stay) ends",
        ),
        (record(paused=frozenset({("main", ID)})), "; `scheduler resume AUTOMATION` ends the pause of one"),
        (under(HEALTHY, settings(schedule={"paused": True})), "; `paused` in [schedule] and [[override]]"),
        (scheduled("0 3 * * *", enabled=False), ""),
    ],
)
def test_each_kind_of_pause_is_found_with_the_advice_that_ends_it(facts: Facts, advice: str) -> None:
    (found,) = (each for each in told(facts) if each.finding.startswith("automations that are not fired"))
    start_run = "nothing, if you want this; see `scheduler status`"
    assert found.advice is not None
    assert found.advice.startswith(start_run + advice)
    assert advice or found.advice == start_run


def test_the_numbers_of_working_days_are_not_worth_a_word() -> None:
    assert told(scheduled("0 9 * * 1-5")) == []


def test_a_schedule_of_a_disabled_automation_is_not_judged_but_for_being_invalid() -> None:
    assert [each.subject for each in told(scheduled("0 3 13 * fri", enabled=False))] == [MAIN]
    assert [each.status for each in told(scheduled("0 25 * * *", enabled=False))] == [NOTICE, NOTICE]
