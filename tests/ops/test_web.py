"""The pages, asked as a browser, a probe, Prometheus and an attacker would."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from scheduler.core.model import Outcome, Reason, RunStatus
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import (
    STALLED_AFTER,
    DaemonStatus,
    Disappearance,
    Inconsistency,
    OutcomeTally,
    RecentActivity,
)
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.page.findings import BAD, WARN, LedgerReading, list_findings
from scheduler.ops.views import describe_status
from tests.ops.page_client import asked
from tests.ops.support import (
    EMPTY_TARGET,
    FAILED_RUN,
    HOSTILE,
    ID,
    LINE,
    NOW,
    RUN,
    STATUS,
    TARGET,
    WAITS,
    FailingNow,
    Recorded,
    Remembered,
    entry,
    pages,
    pages_with,
)

FOR_PEOPLE = ["/", "/occurrences", "/automations", f"/automations/main/{ID}"]
FOR_PROGRAMS = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/v1/status",
    "/api/v1/upcoming",
    "/api/v1/occurrences",
]
PATHS = FOR_PEOPLE + FOR_PROGRAMS
OTHER_ID = "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e70"


# ------------------------------------------------------------ health and readiness


@pytest.mark.parametrize(
    ("idle", "code"), [(0.0, 200), (STALLED_AFTER - 0.1, 200), (STALLED_AFTER, 503), (3600.0, 503)]
)
def test_health_is_whether_the_loop_makes_progress(idle: float, code: int) -> None:
    answer = asked("/healthz", pages(idle=idle))
    assert answer.status_code == code
    assert answer.json()["alive"] is (code == 200)
    assert answer.json()["seconds_since_progress"] == idle


def test_what_is_overdue_is_in_the_body_of_health_and_not_in_its_status() -> None:
    many = replace(
        TARGET, overdue=[f"late {number}" for number in range(100)], overdue_count=5000, held="401"
    )
    answer = asked("/healthz", pages(status=replace(STATUS, targets=[many])))
    assert answer.status_code == 200
    assert answer.json()["overdue"]["main"]["count"] == 5000
    assert answer.json()["overdue"]["main"]["occurrences"] == [f"late {number}" for number in range(100)]


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        (STATUS, []),
        (replace(STATUS, targets=[]), ["no target is served yet"]),
        (replace(STATUS, lock_holder="vm2"), ["the ledger is held by vm2"]),
        (replace(STATUS, ledger_error="disk full"), ["the ledger cannot be written: disk full"]),
        (replace(STATUS, stopping=True), ["stopping"]),
        (
            replace(STATUS, targets=[replace(TARGET, held="401"), replace(EMPTY_TARGET, name="b")]),
            ["target main is held: 401", "target b has no snapshot yet"],
        ),
    ],
)
def test_readiness_says_all_that_is_missing(status: Any, missing: list[str]) -> None:
    answer = asked("/readyz", pages(status=status))
    assert answer.status_code == (503 if missing else 200)
    assert (answer.json()["ready"], answer.json()["missing"]) == (not missing, missing)


def test_the_warnings_of_readiness_are_the_findings_of_the_page_that_leave_the_daemon_ready() -> None:
    status = replace(
        STATUS,
        targets=[
            replace(TARGET, overdue_count=3, throttled_until=NOW),
            replace(TARGET, name="b", held="401"),
        ],
    )
    tally = OutcomeTally("main", Outcome.SKIPPED, Reason.MISSED, 7, NOW)
    recent = RecentActivity(NOW, complete=True, tallies=(tally,), foreign=(), pauses=())
    failing = FailingNow(FAILED_RUN)
    made = pages(status=status, recent=Remembered(recent), failing=failing)
    found = list_findings(status, (), LedgerReading(recent, asyncio.run(failing())))
    answer = asked("/readyz", made).json()
    shown = asked("/", made).text
    titles = [each.title for each in found if each.severity in {BAD, WARN}]
    assert len(titles) >= 4
    for title in titles:
        assert escape(title) in shown
        is_told = any(warning.startswith(title) for warning in answer["warnings"])
        assert is_told is not title.startswith("Target b is held")
    assert asked("/api/v1/status", made).json()["warnings"] == answer["warnings"]


def test_readiness_does_not_wait_for_a_ledger_that_hangs() -> None:
    async def hang(_: datetime) -> RecentActivity:
        await asyncio.Event().wait()
        raise AssertionError

    answer = asked(
        "/readyz", pages(status=replace(STATUS, targets=[replace(TARGET, throttled_until=NOW)]), recent=hang)
    )
    assert answer.status_code == 200
    assert "Target main waits until" in str(answer.json()["warnings"])


def test_a_wait_that_the_api_asked_for_is_a_warning_of_a_daemon_that_is_ready() -> None:
    answer = asked("/readyz", pages(status=replace(STATUS, targets=[replace(TARGET, throttled_until=NOW)])))
    assert answer.status_code == 200
    assert (
        "Target main waits until 2026-11-23T19:20:00Z: nothing is sent to it. The API answered 429, "
        "and asked for no request before this time."
    ) in answer.json()["warnings"]


def test_a_list_that_cannot_be_trusted_is_a_warning_of_a_daemon_that_is_ready() -> None:
    wrong = replace(TARGET, inconsistent=Inconsistency(NOW, "its count is wrong"))
    answer = asked("/readyz", pages(status=replace(STATUS, targets=[wrong])))
    assert answer.status_code == 200
    assert (
        "The list of target main cannot be trusted. Since 2026-11-23T19:20:00Z: its count is wrong."
        in answer.json()["warnings"]
    )
    target = asked("/api/v1/status", pages(status=replace(STATUS, targets=[wrong]))).json()["targets"][0]
    assert target["inconsistent"] == {"since": "2026-11-23T19:20:00Z", "reason": "its count is wrong"}
    assert asked("/api/v1/status").json()["targets"][0]["inconsistent"] is None


# ------------------------------------------------------------ the state


def test_the_status_is_the_daemons_with_its_instants_as_text() -> None:
    state = asked("/api/v1/status").json()
    assert (state["node"], state["at"], state["ready"]) == ("vm1", "2026-11-23T19:20:00.000000Z", True)
    target = state["targets"][0]
    assert target["snapshot_at"] == "2026-11-23T19:19:48.000000Z"
    assert target["next_fire"] == "2026-11-23T19:20:40Z"
    assert target["automations"] == {"enabled": 2, "disabled": 0, "paused": 0, "invalid": 1}
    assert target["open"] == {"claimed": 0, "in_flight": 4, "unknown": 0, "waiting": 0}
    assert target["overdue"]["count"] == 1
    assert target["waiting"] == {"count": 0, "unclaimed": 0, "causes": {}, "occurrences": []}


def test_the_status_tells_what_each_occurrence_waits_for_and_since_when() -> None:
    waiting = asked("/api/v1/status", pages(waits=WAITS)).json()["targets"][0]["waiting"]
    assert (waiting["count"], waiting["causes"]) == (2, {"due": 1, "held": 1})
    assert waiting["occurrences"][1] == {
        "automation_id": ID,
        "name": "nightly",
        "scheduled_for": "2026-11-23T19:20:00Z",
        "due": "2026-11-23T19:27:13.000000Z",
        "waits_for": "due",
        "since": "2026-11-23T19:20:00.000000Z",
        "detail": None,
        "deadline": None,
    }


def test_the_status_line_of_the_service_counts_what_is_open_before_its_due_time_too() -> None:
    line = describe_status(replace(STATUS, targets=[TARGET, replace(TARGET, name="b", before_due=2)]))
    assert line.startswith("2 targets, 10 occurrences open, ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "next fire 2026-11-23T19:20:40Z"),
        ({"throttled_until": NOW + timedelta(seconds=10)}, "next fire 2026-11-23T19:20:40Z"),
        (
            {"throttled_until": NOW + timedelta(hours=1)},
            "nothing fires before 2026-11-23T20:20:00Z (throttled)",
        ),
        ({"automations": {"paused": 2}}, "next fire never"),
    ],
)
def test_the_status_line_of_the_service_tells_when_something_fires(
    changes: dict[str, Any], words: str
) -> None:
    assert describe_status(replace(STATUS, targets=[replace(TARGET, **changes)])).endswith(f", {words}")


def test_the_status_says_what_is_wrong_with_the_list() -> None:
    wrong = replace(
        TARGET,
        throttled_until=NOW,
        unidentified=2,
        anonymous=["object 3"],
        absent=6,
        disappeared=Disappearance(NOW, 6, 10),
    )
    target = asked("/api/v1/status", pages(status=replace(STATUS, targets=[wrong]))).json()["targets"][0]
    assert target["unidentified"] == {"count": 2, "objects": ["object 3"]}
    assert target["throttled_until"] == "2026-11-23T19:20:00Z"
    assert target["absent"] == 6
    assert target["disappeared"] == {"at": "2026-11-23T19:20:00.000000Z", "count": 6, "automations": 10}
    well = asked("/api/v1/status").json()["targets"][0]
    assert (well["unidentified"], well["absent"], well["disappeared"]) == (
        {"count": 0, "objects": []},
        0,
        None,
    )


def test_a_status_without_a_snapshot_has_nulls() -> None:
    target = asked("/api/v1/status", pages(status=replace(STATUS, targets=[EMPTY_TARGET]))).json()["targets"][
        0
    ]
    assert (target["snapshot_at"], target["next_fire"], target["clock_offset_seconds"]) == (None, None, None)


# ------------------------------------------------------------ what comes next


def test_upcoming_names_each_fire_with_its_local_time() -> None:
    answer = asked("/api/v1/upcoming?limit=1", pages(entries=[entry("nightly")])).json()
    assert answer == {
        "results": [
            {
                "target": "main",
                "automation_id": ID,
                "name": "nightly",
                "scheduled_for": "2026-11-23T19:30:00Z",
                "due": "2026-11-23T19:30:00.000000Z",
                "local": "2026-11-23T20:30:00+01:00",
                "timezone": "Europe/Berlin",
                "note": None,
            }
        ],
        "limit": 1,
        "offset": 0,
        "more": True,
    }


def test_upcoming_goes_24_hours_ahead_unless_asked_otherwise() -> None:
    hourly = pages(entries=[entry("hourly", "0 * * * *")])
    assert len(asked("/api/v1/upcoming", hourly).json()["results"]) == 24
    assert len(asked("/api/v1/upcoming?span=3h", hourly).json()["results"]) == 3


def test_pages_of_upcoming_join_without_a_gap() -> None:
    hourly = pages(entries=[entry("hourly", "0 * * * *")])
    whole = asked("/api/v1/upcoming", hourly).json()["results"]
    parts = [asked(f"/api/v1/upcoming?limit=10&offset={offset}", hourly).json() for offset in (0, 10, 20)]
    assert [fire for part in parts for fire in part["results"]] == whole
    assert [part["more"] for part in parts] == [True, True, False]


def test_the_fires_of_all_targets_come_in_order_of_time() -> None:
    two = replace(STATUS, targets=[TARGET, replace(TARGET, name="other")])
    results = asked("/api/v1/upcoming?limit=4", pages(status=two, entries=[entry("a")])).json()["results"]
    assert [fire["target"] for fire in results] == ["main", "other"] * 2
    assert [fire["scheduled_for"] for fire in results] == sorted(fire["scheduled_for"] for fire in results)


@pytest.mark.parametrize(
    ("automation", "names"),
    [
        (ID, {"nightly-a"}),
        (ID.upper(), {"nightly-a"}),
        ("nightly-b", {"nightly-b"}),
        ("nightly-*", {"nightly-a", "nightly-b"}),
        ("Nightly-*", set()),
        ("[weird]", {"[weird]"}),
        ("nothing", set()),
    ],
)
def test_upcoming_of_an_automation_by_id_name_or_pattern(automation: str, names: set[str]) -> None:
    entries = [
        entry("nightly-a"),
        entry("nightly-b", automation_id=OTHER_ID),
        entry("[weird]", automation_id=OTHER_ID),
    ]
    answer = asked(
        str(httpx.URL("/api/v1/upcoming", params={"automation": automation})), pages(entries=entries)
    )
    assert {fire["name"] for fire in answer.json()["results"]} == names


def test_schedules_are_gone_through_on_another_thread() -> None:
    seen: list[int] = []

    def watched() -> Iterator[tuple[datetime, TimetableEntry]]:
        seen.append(threading.get_ident())
        yield NOW, entry("a")

    assert asked("/api/v1/upcoming", pages_with(iterate_upcoming=lambda *_: watched())).status_code == 200
    assert seen
    assert threading.get_ident() not in seen


# ------------------------------------------------------------ what happened


def test_occurrences_are_the_records_as_they_come() -> None:
    answer = asked("/api/v1/occurrences").json()
    assert answer == {"results": [dict(LINE)], "limit": 100, "offset": 0, "more": False}


def test_the_state_counts_the_failing_automations_of_each_target() -> None:
    other = replace(TARGET, name="other")
    status = replace(STATUS, targets=[TARGET, other])
    one, two = asked("/api/v1/status", pages(status=status, failing=FailingNow(FAILED_RUN, more=7))).json()[
        "targets"
    ]
    assert two["failing"] == {"count": 0, "automations": []}
    assert one["failing"] == {
        "count": 8,
        "automations": [
            {
                "automation_id": ID,
                "name": "nightly",
                "run_id": RUN,
                "run_status": "failed",
                "finished_at": "2026-11-23T19:18:00.000000Z",
                "failures": 3,
                "error": "exit status 3: no room",
            }
        ],
    }


def test_the_state_is_told_also_when_the_ledger_cannot_be_read() -> None:
    answer = asked("/api/v1/status", pages(failing=FailingNow(broken=True)))
    assert (answer.status_code, answer.json()["targets"][0]["failing"]) == (200, None)


def test_every_filter_of_occurrences_reaches_the_ledger() -> None:
    recorded = Recorded()
    parameters = {
        "target": "main",
        "automation": "nightly-*",
        "since": "2026-11-23T00:00:00+01:00",
        "until": "2026-11-24T00:00:00Z",
        "outcome": "skipped",
        "run_status": "lost",
        "limit": "7",
        "offset": "3",
    }
    asked(str(httpx.URL("/api/v1/occurrences", params=parameters)), pages(occurrences=recorded))
    assert recorded.asked == [
        OccurrenceQuery(
            target="main",
            automation="nightly-*",
            since=datetime(2026, 11, 22, 23, tzinfo=UTC),
            until=datetime(2026, 11, 24, tzinfo=UTC),
            outcome=Outcome.SKIPPED,
            run_status=RunStatus.LOST,
            limit=8,  # one more, to see whether there is more
            offset=3,
        )
    ]


def test_open_occurrences_can_be_asked_for() -> None:
    recorded = Recorded()
    asked("/api/v1/occurrences?outcome=open", pages(occurrences=recorded))
    assert [(query.outcome, query.only_open) for query in recorded.asked] == [(None, True)]


def test_there_is_more_when_a_page_is_full_and_not_the_last() -> None:
    three = Recorded(LINE, LINE, LINE)
    answers = [
        asked(f"/api/v1/occurrences?limit=2&offset={offset}", pages(occurrences=three)).json()
        for offset in (0, 1, 2)
    ]
    assert [(len(answer["results"]), answer["more"]) for answer in answers] == [
        (2, True),
        (2, False),
        (1, False),
    ]


def test_a_ledger_that_cannot_be_read_is_said_so() -> None:
    answer = asked("/api/v1/occurrences", pages(occurrences=Recorded(broken=True)))
    assert answer.status_code == 503
    assert answer.json() == {"error": "the ledger cannot be read: disk I/O error"}


# ------------------------------------------------------------ wrong questions


@pytest.mark.parametrize(
    ("query", "parameter", "says"),
    [
        ("limit=0", "limit", "from 1 to 1000, not '0'"),
        ("limit=1001", "limit", "from 1 to 1000"),
        ("limit=ten", "limit", "not 'ten'"),
        ("limit=%D9%A1", "limit", "whole number"),
        ("limit=5&limit=6", "limit", "given 2 times"),
        ("offset=-1", "offset", "from 0 to"),
        ("offset=1000001", "offset", "from 0 to 1000000"),
        ("since=yesterday", "since", "2026-11-23T19:20:00Z"),
        ("since=2026-11-23T19:20:00", "since", "2026-11-23T19:20:00Z"),
        ("until=2026-11-23T19:20:00+01:00", "until", "%2B"),
        ("since=0001-01-01T00:00:00%2B10:00", "since", "an instant such as"),
        ("outcome=done", "outcome", "accepted, rejected, skipped, expired, unresolved, open"),
        ("run_status=done", "run_status", "running, success, failed, superseded, lost"),
        ("automation=", "automation", "1 to 255"),
        ("automation=" + "x" * 256, "automation", "1 to 255"),
        ("target=", "target", "1 to 255"),
        (
            "automaton=x",
            "automaton",
            "known are automation, limit, offset, outcome, run_status, since, target, until",
        ),
        ("span=1h", "span", "not known"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_would_be_right(query: str, parameter: str, says: str) -> None:
    answer = asked(f"/api/v1/occurrences?{query}")
    assert answer.status_code == 400
    assert says in answer.json()["problems"][parameter]


@pytest.mark.parametrize("span", ["0h", "367d", "1w", "", "-1h", "1.5h", "99999999d", "24"])
def test_a_span_that_is_none_or_too_long_is_refused(span: str) -> None:
    answer = asked(f"/api/v1/upcoming?span={span}")
    assert answer.status_code == 400
    assert "such as 90m or 24h, at most 366d" in answer.json()["problems"]["span"]


def test_all_that_is_wrong_with_a_query_is_said_together() -> None:
    answer = asked("/api/v1/occurrences?limit=x&until=y&colour=z")
    assert set(answer.json()["problems"]) == {"limit", "until", "colour"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed_here(path: str, method: str) -> None:
    answer = asked(path, method=method)
    assert answer.status_code == 405
    assert answer.json() == {"error": "Method Not Allowed"}
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", PATHS)
def test_who_wants_only_the_headers_may_have_them(path: str) -> None:
    some = pages(entries=[entry("nightly")])
    assert asked(path, some, method="HEAD").status_code == asked(path, some).status_code == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/healthz/", "/api/v1/", "/api/v1/status/", "/%2F", "/metrics/../status"]
)
def test_what_is_not_there_is_not_found_and_nobody_is_sent_elsewhere(path: str) -> None:
    answer = asked(path)
    assert answer.status_code == 404
    assert answer.json() == {"error": "Not Found"}


# ------------------------------------------------------------ what every answer is like


@pytest.mark.parametrize("path", [*FOR_PROGRAMS, "/nothing", "/assets/nothing", "/api/v1/upcoming?limit=x"])
def test_a_browser_may_show_an_answer_and_do_nothing_else_with_it(path: str) -> None:
    headers = asked(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy


def test_a_name_that_is_not_ours_is_refused_before_anything_is_asked() -> None:
    def status() -> DaemonStatus:
        raise AssertionError("nobody may ask")

    answer = asked("/api/v1/status", replace(pages(), status=status), host="rebound.example.com")
    assert answer.status_code == 421
    assert answer.headers["x-content-type-options"] == "nosniff"


# ------------------------------------------------------------ metrics


def test_metrics_are_plain_text_for_prometheus_and_openmetrics_when_asked_for() -> None:
    text = asked("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=")
    assert {family.name for family in plain(text.text)} >= {
        "scheduler_occurrences",
        "scheduler_build_info",
        "process_cpu_seconds",
    }
    answer = asked("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    families = openmetrics(answer.text)  # type: ignore[no-untyped-call]  # the library left it so
    assert {family.name for family in families} >= {
        "scheduler_occurrences",
        "scheduler_fire_lateness_seconds",
    }


def test_hostile_names_are_whole_again_in_the_json() -> None:
    answer = asked("/api/v1/upcoming?limit=1", pages(entries=[entry(HOSTILE)]))
    assert answer.json()["results"][0]["name"] == HOSTILE
