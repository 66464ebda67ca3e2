"""The status page without a browser: what it says, how it answers wrong questions, and that no name can do
anything to it.
"""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scheduler.core.cron.schedule import GapPolicy, Schedule
from scheduler.core.cron.zones import load_zone
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.policy import CatchUp, Concurrency, compute_due
from scheduler.core.status import AutomationDetails, OperatorPause, RecentActivity, RunOutputTail
from scheduler.core.timetable import TimetableEntry
from scheduler.ops.page.overview import MAX_INSTANTS
from scheduler.ops.page.times import DisplayTime
from tests.browser.exhibit import exhibit, hostile
from tests.defaults import make_policies
from tests.ops.page_client import Parsed, all_asked, asked, parsed
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
    FinishedRuns,
    Recorded,
    Remembered,
    details,
    entry,
    pages,
    pages_with,
)

ONE = f"/automations/main/{ID}"
PAGES = [
    "/",
    "/occurrences",
    "/automations",
    ONE,
    "/automations/main/nothing",
    "/occurrences?outcome=x&since=x&colour=red",
]
OTHER_ID = "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e70"
POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "script-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


# ------------------------------------------------------------ is it well


@pytest.mark.parametrize(
    ("status", "word", "sentence"),
    [
        (STATUS, "Needs attention", "one thing needs attention"),
        (
            replace(
                STATUS, targets=[replace(TARGET, overdue=[], overdue_count=0, automations={"enabled": 2})]
            ),
            "Ready",
            "All is well",
        ),
        (replace(STATUS, targets=[]), "Starting", "No target is served yet."),
        (replace(STATUS, targets=[EMPTY_TARGET]), "Starting", "Target main has no snapshot yet."),
        (replace(STATUS, lock_holder="vm2"), "Not ready", "The ledger is held by vm2."),
        (
            replace(STATUS, ledger_error="disk full", targets=[]),
            "Not ready",
            "The ledger cannot be written: disk full.",
        ),
        (replace(STATUS, stopping=True), "Stopping", "The daemon claims no more occurrences."),
        (
            replace(STATUS, targets=[replace(TARGET, held="401"), replace(TARGET, name="b", stale=True)]),
            "Not ready",
            "and 1 more.",
        ),
    ],
)
def test_the_first_page_says_first_whether_it_is_well(status: Any, word: str, sentence: str) -> None:
    status = replace(status, targets=[replace(each, automations={"enabled": 2}) for each in status.targets])
    page = parsed("/", pages(status=status))
    assert word in page.words.partition("Problems and remedies")[0]
    assert sentence in page.words.partition("Problems and remedies")[0]
    assert page.text.lstrip().startswith(word)  # the title


def test_the_first_page_says_what_is_next_and_what_was_last() -> None:
    page = parsed("/", pages(entries=[entry("tidy up")]))
    for text in ("tidy up", "Mon 23 Nov 20:30", "CET, Europe/Berlin", "2026-11-23T19:30:00Z", "in 10 min"):
        assert text in page.words
    for text in ("nightly", "2026-11-23T19:10:00Z", "10 min ago", "accepted", "answered", "4 ms", "success"):
        assert text in page.words.partition("Newest occurrences")[2]


def test_what_waits_is_shown_with_its_cause_its_due_time_and_since_when() -> None:
    page = parsed("/", pages(entries=[entry("nightly")], waits=WAITS))
    words = page.words.partition("Open occurrences")[2].partition("Newest occurrences")[0]
    for text in (
        "the release of its held target: bad key",
        "20:16:00 4 min ago",
        "its due time, 20:27:13 (in 7 min)",
        "nightly main",
    ):
        assert text in words
    assert "open now 5" in page.words  # four requests under way, and one before its due time
    assert "Open4 in flight, 1 waiting; 1 overdue" in page.words
    one = parsed(ONE, pages(entries=[entry("nightly")], waits=WAITS)).words.partition("Open occurrences")[2]
    assert "its due time, 20:27:13 (in 7 min)" in one
    assert "Open occurrences Nothing." in parsed("/", pages(entries=[entry("nightly")])).words
    assert "Open occurrences" not in parsed(ONE, pages(entries=[entry("nightly")])).words


def test_the_due_time_is_shown_beside_the_instant_where_jitter_sets_them_apart() -> None:
    spread = replace(entry("nightly"), policies=make_policies(jitter=timedelta(minutes=4)))
    due = compute_due(spread.policies, "main", ID, spread.schedule, NOW + timedelta(minutes=10)).astimezone(
        load_zone("Europe/Berlin")
    )
    assert due > NOW + timedelta(minutes=11)
    for path in ("/", "/automations", ONE):
        words = parsed(path, pages(entries=[spread])).words
        assert (
            "Mon 23 Nov 20:30 CET, Europe/Berlin due "
            f"{due:%H:%M:%S}2026-11-23T19:30:00Z{DisplayTime(due, NOW).relative}"
        ) in words
    assert f"next fire {DisplayTime(due, NOW).relative}" in parsed("/", pages(entries=[spread])).words
    for path in ("/", "/automations", ONE):
        assert (
            " due "
            not in parsed(path, pages(entries=[entry("nightly")])).words.partition("Policies in force")[0]
        )
    line = {
        **LINE,
        "outcome": None,
        "reason": None,
        "claimed_at": None,
        "due": "2026-11-23T19:27:13.000000Z",
        "state": "waiting",
    }
    assert "open waiting, due in 7 min" in parsed("/occurrences", pages(occurrences=Recorded(line))).words


def test_the_first_page_shows_each_target() -> None:
    targets = [
        TARGET,
        replace(TARGET, name="b", held="401", clock_offset=-1.5),
        replace(EMPTY_TARGET, name="c", error="HTTP 500"),
    ]
    words = parsed("/", pages(status=replace(STATUS, targets=targets))).words.partition("Targets")[2]
    for text in (
        "main serving",
        "https://us.example.com, project 12345",
        "12 s ago",
        "2 enabled, 1 invalid",
        "4 in flight; 1 overdue",
    ):
        assert text in words
    for text in ("b held", "1.5 s behind this machine's", "c cannot be read", "none yet", "not seen yet"):
        assert text in words


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([], "Fires begin again at 2026-11-23T20:20:00Z, and one thing needs attention."),
        (
            ["b"],
            "Due occurrences fire on targets that are not throttled, but one thing needs attention.",
        ),
    ],
)
def test_the_first_page_does_not_say_that_a_throttled_target_fires_what_is_due(
    others: Any, sentence: str
) -> None:
    quiet = replace(TARGET, overdue=[], overdue_count=0, automations={"enabled": 2})
    throttled = replace(quiet, throttled_until=NOW + timedelta(hours=1), error="HTTP 429")
    targets = [throttled, *(replace(quiet, name=name) for name in others)]
    words = parsed("/", pages(status=replace(STATUS, targets=targets))).words
    assert sentence in words.partition("Problems and remedies")[0]
    cards = words.rpartition("Targets")[2]
    assert "main throttled until 2026-11-23T20:20:00Z" in cards
    assert cards.count("serving") == len(others)
    assert cards.count("; nothing fires before the throttle ends at 2026-11-23T20:20:00Z") == 1


@pytest.mark.parametrize(
    ("minutes", "shown"), [(60, "in 1 h"), (60 * 24 + 1, "not before 2026-11-24T19:21:00Z")]
)
def test_the_next_fire_of_a_throttled_target_comes_after_the_throttle(minutes: int, shown: str) -> None:
    throttled = replace(TARGET, throttled_until=NOW + timedelta(minutes=minutes))
    page = parsed("/", pages(status=replace(STATUS, targets=[throttled]), entries=[entry("nightly")]))
    assert f"next fire {shown}" in page.words
    assert (
        "On target main nothing fires before the throttle ends at "
        f"{throttled.throttled_until:%Y-%m-%dT%H:%M:%SZ}."
    ) in page.words
    assert "throttled: waits" in page.words.partition("Next fires")[2].partition("Open occurrences")[0]
    assert (
        "throttled"
        in parsed(
            "/automations", pages(status=replace(STATUS, targets=[throttled]), entries=[entry("nightly")])
        ).words
    )
    state = parsed(ONE, pages(status=replace(STATUS, targets=[throttled]), entries=[entry("nightly")])).words
    assert "The automation fires at its times." not in state
    assert "Throttled Nothing fires on target main before" in state


def test_the_next_fire_of_a_target_is_none_that_is_paused() -> None:
    paused = replace(TARGET, automations={"paused": 1})
    automation = replace(details(entry("nightly"), "main", now=NOW), state="paused")
    words = parsed("/", pages(status=replace(STATUS, targets=[paused]), automations=[automation])).words
    assert "next fire none within a day" in words
    assert "Next firenone within a day; nothing fires: all enabled automations are paused" in words


def test_a_waiting_occurrence_says_that_it_expires_before_the_throttle_ends() -> None:
    throttled = replace(TARGET, throttled_until=NOW + timedelta(hours=1))
    waits = replace(WAITS, first=[replace(wait, deadline=NOW + timedelta(minutes=5)) for wait in WAITS.first])
    for path in ("/", ONE):
        words = parsed(
            path, pages(status=replace(STATUS, targets=[throttled]), entries=[entry("nightly")], waits=waits)
        ).words
        assert (
            words.count("expires at 2026-11-23T19:25:00Z, before the throttle ends at 2026-11-23T20:20:00Z")
            == 2
        )


def test_a_throttled_target_without_a_snapshot_is_shown_as_throttled() -> None:
    target = replace(EMPTY_TARGET, throttled_until=NOW + timedelta(hours=1), stale=True)
    words = parsed("/", pages(status=replace(STATUS, targets=[target]))).words.rpartition("Targets")[2]
    assert "main throttled until 2026-11-23T20:20:00Z" in words


def test_the_first_page_is_not_well_while_the_newest_finished_run_failed() -> None:
    quiet = replace(
        STATUS, targets=[replace(TARGET, overdue=[], overdue_count=0, automations={"enabled": 2})]
    )
    page = parsed("/", pages(status=quiet, failing=FailingNow(FAILED_RUN)))
    assert "All is well" not in page.words
    assert "one thing needs attention" in page.words
    for text in (
        "The newest finished run of nightly failed",
        "3 failures in a row",
        f"run {RUN}: exit status 3: no room",
    ):
        assert text in page.words
    assert "All is well" in parsed("/", pages(status=quiet)).words


@pytest.mark.parametrize(
    ("failed_runs", "said", "tone"),
    [
        ({}, "failed in the last day 0", "plain"),
        ({RunStatus.FAILED: 1200}, "failed in the last day 1,200", "bad"),
        ({RunStatus.FAILED: 2, RunStatus.LOST: 1}, "failed in the last day 2 lost in the last day 1", "bad"),
    ],
)
def test_runs_that_failed_in_the_last_day_are_a_figure(
    failed_runs: dict[RunStatus, int], said: str, tone: str
) -> None:
    recent = RecentActivity(NOW, complete=True, tallies=(), foreign=(), pauses=(), failed_runs=failed_runs)
    answer = pages(recent=Remembered(recent))
    assert said in parsed("/", answer).words
    assert (
        f'<div class="figure {tone}"><dt>failed in the last day</dt> <dd><a '
        'href="/occurrences?run_status=failed">'
    ) in asked("/", answer).text


def test_a_ledger_that_cannot_be_read_leaves_the_rest_of_the_page() -> None:
    page = parsed(
        "/",
        pages(entries=[entry("tidy up")], occurrences=Recorded(broken=True), recent=Remembered(broken=True)),
    )
    for text in ("The ledger cannot be read now", "disk I/O error", "tidy up", "https://us.example.com"):
        assert text in page.words


def test_a_daemon_that_has_just_begun_is_told_kindly() -> None:
    assert (
        "There are no automations yet."
        in parsed("/", pages(status=replace(STATUS, targets=[replace(TARGET, automations={})]))).words
    )
    starting = parsed(
        "/",
        pages(
            status=replace(STATUS, targets=[]),
            occurrences=Recorded(broken=True),
            recent=Remembered(broken=True),
        ),
    )
    assert "The daemon has just started." in starting.words
    assert "The ledger is not open yet." in starting.words
    assert "cannot be read" not in starting.words
    assert "Nothing has come due yet." in parsed("/", pages(occurrences=Recorded())).words


def test_an_open_occurrence_and_a_span_are_shown_as_such() -> None:
    open_line = {**LINE, "outcome": None, "reason": None, "lateness_seconds": None, "state": "in_flight"}
    span = {**LINE, "outcome": "skipped", "reason": "missed", "count": 1200}
    words = parsed("/", pages(occurrences=Recorded(open_line, span))).words.partition("Newest occurrences")[2]
    assert "open in flight" in words
    assert "skipped missed, 1,200 times" in words


@pytest.mark.parametrize(
    ("run_status", "outcome_tone", "run_tone"),
    [
        ("success", "good", "good"),
        ("running", "soft", "open"),
        (None, "soft", None),
        ("failed", "soft", "bad"),
        ("lost", "soft", "bad"),
        ("superseded", "soft", "soft"),
    ],
)
def test_what_was_accepted_is_good_when_its_run_succeeded_and_not_before(
    run_status: str | None, outcome_tone: str, run_tone: str | None
) -> None:
    html = asked("/occurrences", pages(occurrences=Recorded({**LINE, "run_status": run_status}))).text
    badges = [
        (word, tone) for tone, word in re.findall(r'<span class="badge (\w+)">.*?</svg>(\w+)</span>', html)
    ]
    assert badges == [("accepted", outcome_tone), *([(run_status, run_tone)] if run_status else [])]


def test_the_id_of_a_run_stands_below_its_status() -> None:
    assert (
        f'<code title="{RUN}">{RUN[:8]}</code>'
        in asked("/occurrences", pages(occurrences=Recorded(LINE))).text
    )
    no_run = {**LINE, "outcome": "skipped", "reason": "missed", "run_status": None, "task_run_id": None}
    assert "<code title=" not in asked("/occurrences", pages(occurrences=Recorded(no_run))).text


def test_a_run_on_request_is_named_a_backfill() -> None:
    html = asked("/occurrences", pages(occurrences=Recorded({**LINE, "reason": "manual"}))).text
    assert '<span class="reason" title="an operator asked for a backfill">manual</span>' in html


def test_what_is_paused_is_not_said_to_fire() -> None:
    entries = [entry("a"), replace(entry("b", automation_id=OTHER_ID), policies=make_policies(paused=True))]
    page = parsed("/", pages(entries=entries))
    assert page.words.count("paused: not fired") == 5  # of ten
    assert "fires in the coming day 143 open now" in page.words
    only_paused = parsed("/", pages(entries=entries[1:])).words
    assert "next fire none within a day fires in the coming day 0" in only_paused


# ------------------------------------------------------------ occurrences


def test_every_filter_reaches_the_ledger() -> None:
    recorded = Recorded()
    query = "automation=nightly-*&target=main&outcome=skipped&run_status=lost"
    times = "since=2026-11-23T00:00&until=2026-11-24T00:00:00Z"
    parsed(f"/occurrences?{query}&{times}&limit=7&offset=3", pages(occurrences=recorded))
    (asked_for,) = recorded.asked
    assert asked_for == OccurrenceQuery(
        target="main",
        automation="nightly-*",
        since=NOW.replace(
            hour=0, minute=0
        ),  # a browser's field for a time knows no offset: it is UTC, as its label says
        until=NOW.replace(hour=0, minute=0) + timedelta(days=1),
        outcome=Outcome.SKIPPED,
        run_status=RunStatus.LOST,
        limit=8,  # one more, to see whether there is more
        offset=3,
    )


def test_fields_that_are_left_empty_ask_for_nothing() -> None:
    recorded = Recorded()
    parsed("/occurrences?automation=&target=&outcome=&run_status=&since=&until=", pages(occurrences=recorded))
    assert recorded.asked == [OccurrenceQuery(limit=51)]


def test_a_form_is_shown_as_it_was_filled_in() -> None:
    page = parsed("/occurrences?automation=nightly-*&outcome=open&since=2026-11-23T19:20:00Z&target=gone")
    fields = {each["id"]: each.get("value") for each in page.all("input")}
    assert fields == {"automation": "nightly-*", "since": "2026-11-23T19:20:00", "until": ""}
    assert "selected" in str([each for each in page.elements if each[0] == "option"])
    assert re.search(r"<option selected>open</option>.*", asked("/occurrences?outcome=open").text)
    assert re.search(r"<option selected>gone</option>", asked("/occurrences?target=gone").text)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        (
            "run_status=done",
            "run_status",
            "Run should be one of running, success, failed, superseded, lost, not 'done'",
        ),
        (
            "outcome=done",
            "outcome",
            "Outcome should be one of accepted, rejected, skipped, expired, unresolved, open, not 'done'",
        ),
        (
            "since=yesterday",
            "since",
            "Since (UTC) should be an instant such as 2026-11-23T19:20:00Z, not 'yesterday'",
        ),
        ("until=1", "until", "Until (UTC) should be an instant"),
        ("automation=" + "x" * 256, "automation", "Automation should be a name of 1 to 255 characters"),
    ],
)
def test_what_is_wrong_with_a_field_is_said_beside_it(query: str, field: str, says: str) -> None:
    recorded = Recorded()
    page = parsed(f"/occurrences?{query}", pages(occurrences=recorded), code=400)
    assert says in page.words
    (wrong,) = [each for each in page.all("input") + page.all("select") if each["id"] == field]
    assert wrong["aria-invalid"] == "true"
    assert wrong["aria-describedby"] in page.values("id")
    assert recorded.asked == []


@pytest.mark.parametrize("path", ["/occurrences", "/automations", ONE])
@pytest.mark.parametrize("query", ["colour=red", "limit=0", "offset=-1", "limit=5&limit=6"])
def test_a_parameter_that_has_no_field_is_answered_for_too(path: str, query: str) -> None:
    page = parsed(f"{path}?{query}", pages(entries=[entry("a")]), code=400)
    assert re.search("is not known here|should be a whole number|is given 2 times", page.words)


def test_pages_of_occurrences_lead_to_each_other_and_keep_the_filter() -> None:
    records = Recorded(*({**LINE, "scheduled_for": f"2026-11-23T{hour:02}:00:00Z"} for hour in range(24)))
    path, seen, page = "/occurrences?target=main&limit=10", [], Parsed("")
    while path:
        page = parsed(path, pages(occurrences=records))
        seen += re.findall(r"2026-11-23T\d\d:00:00Z", page.text)
        (path,) = [str(each["href"]) for each in page.all("a") if each.get("rel") == "next"] or [""]
        assert not path or parse_qs(urlsplit(path).query)["target"] == ["main"]
    assert seen == [each["scheduled_for"] for each in records.lines]
    (newer,) = [str(each["href"]) for each in page.all("a") if each.get("rel") == "prev"]
    assert parse_qs(urlsplit(newer).query) == {"target": ["main"], "limit": ["10"], "offset": ["10"]}


def test_empty_answers_say_what_they_mean() -> None:
    nothing = pages(occurrences=Recorded())
    assert "Nothing has come due yet." in parsed("/occurrences", nothing).words
    assert "No occurrence matches the filter." in parsed("/occurrences?outcome=expired", nothing).words
    assert "There are no older ones." in parsed("/occurrences?offset=50", nothing).words
    assert "disk I/O error" in parsed("/occurrences", pages(occurrences=Recorded(broken=True))).words


# ------------------------------------------------------------ automations


def test_automations_are_listed_by_name_with_state_and_next_fire() -> None:
    entries = [entry("b"), entry("A", automation_id=OTHER_ID, timezone="Asia/Tokyo")]
    words = parsed("/automations", pages(entries=entries)).words
    assert words.index(" A ") < words.index(" b ")
    for text in ("enabled", "*/10 * * * *", "Tue 24 Nov 04:30", "2026-11-23T19:30:00Z", "in 10 min"):
        assert text in words


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"a1", "a2", "b"}),
        ("automation=a*", {"a1", "a2"}),
        (f"automation={OTHER_ID}", {"b"}),
        ("state=invalid", {"b"}),
        ("state=enabled&limit=1&offset=1", {"a2"}),
        ("target=elsewhere", set()),
    ],
)
def test_automations_can_be_filtered(query: str, names: set[str]) -> None:
    broken = replace(entry("b", automation_id=OTHER_ID), schedule=None, invalid="no such zone")
    page = parsed(f"/automations?{query}", pages(entries=[entry("a1"), entry("a2"), broken]))
    assert {each for each in ("a1", "a2", "b") if f" {each} " in page.words} == names


def automation(
    of: TimetableEntry | AutomationDetails, recent: RecentActivity | None = None, **target: Any
) -> str:
    each = of if isinstance(of, AutomationDetails) else details(of)
    status = replace(STATUS, targets=[replace(TARGET, **target)])
    return parsed(ONE, pages(status=status, automations=[each], recent=Remembered(recent))).words


def test_an_automation_tells_its_schedule_in_words_and_its_next_fires() -> None:
    words = automation(entry("nightly", "30 2 * * *"))
    for text in (
        "At 02:30, every day",
        "30 2 * * *",
        "Europe/Berlin",
        "Tue 24 Nov 02:30",
        "2026-11-24T01:30:00Z",
        "in 6 h 10 min",
    ):
        assert text in words


def test_an_automation_tells_the_clock_changes_ahead_and_what_happens_then() -> None:
    words = automation(entry("nightly", "30 2 * * *"))
    assert "02:30 does not exist; it fires at 03:00 instead" in words
    assert "02:30 comes twice; it fires the first time only" in words
    assert words.count("touched") == 2  # in thirteen months
    assert "untouched" not in words
    assert automation(entry("daily", "0 9 * * *")).count("untouched") == 2
    assert "None: the clock of UTC stays as it is." in automation(
        entry("nightly", "30 2 * * *", timezone="UTC")
    )


def test_a_fire_that_makes_up_for_a_skipped_time_says_so() -> None:
    status = replace(STATUS, at=NOW.replace(year=2027, month=3, day=27))
    words = parsed(ONE, pages(status=status, entries=[entry("nightly", "30 2 * * *")])).words
    assert "in place of a time that the clock skips" in words


def test_a_fire_that_is_years_away_is_shown_alone() -> None:
    assert "2028-02-29T00:00:00Z" in automation(entry("leap", "0 0 29 2 *", timezone="UTC"))


@pytest.mark.parametrize(
    ("each", "recent", "target", "says"),
    [
        (details(entry("a")), None, {}, "Enabled The automation fires at its times."),
        (
            details(replace(entry("a"), schedule=None, invalid="no such zone")),
            None,
            {},
            "never fires: no such zone Remedy: correct the schedule of the automation.",
        ),
        (
            details(replace(entry("a"), policies=make_policies(paused=True))),
            None,
            {},
            "Paused By the configuration.",
        ),
        (details(entry("a")), None, {"held": "HTTP 401"}, "Held Nothing is sent to target main: HTTP 401"),
        (
            details(entry("a"), paused_by_hand=True),
            RecentActivity(
                NOW,
                complete=True,
                tallies=(),
                foreign=(),
                pauses=[OperatorPause("main", ID, "a", NOW - timedelta(hours=2), "ada")],
            ),
            {},
            "By hand, by ada, since 2026-11-23T17:20:00Z (2 h ago).",
        ),
        (
            details(entry("a"), paused_by_hand=True),
            RecentActivity(
                NOW,
                complete=True,
                tallies=(),
                foreign=(),
                pauses=[OperatorPause("main", None, "*", NOW, "ada")],
            ),
            {},
            "Remedy: scheduler resume --all --keep-single (pauses of single automations stay) ends it.",
        ),
        (details(entry("a"), paused_by_hand=True), None, {}, "or scheduler resume --all --keep-single"),
    ],
)
def test_an_automation_tells_its_state_and_what_to_do(
    each: AutomationDetails, recent: RecentActivity | None, target: Any, says: str
) -> None:
    assert says in automation(each, recent, **target)


def test_a_disabled_automation_still_tells_its_schedule() -> None:
    disabled = replace(
        entry("a", "0 9 * * 1-5").automation,
        definition=replace(entry("a", "0 9 * * 1-5").automation.definition, enabled=False),
    )
    words = automation(details(replace(entry("a"), automation=disabled, schedule=None)))
    assert "Disabled The automation is disabled at the API" in words
    assert "At 09:00, Monday through Friday" in words


@pytest.mark.parametrize(
    ("dst_gap", "effect"), [("after", "it fires at 03:00 instead"), ("skip", "it does not fire")]
)
def test_a_disabled_automation_tells_clock_changes_by_the_configured_rules(
    dst_gap: GapPolicy, effect: str
) -> None:
    enabled = entry("a", "30 2 * * *").automation
    disabled = replace(enabled, definition=replace(enabled.definition, enabled=False))
    known = details(replace(entry("a"), automation=disabled, schedule=None))
    words = automation(replace(known, parse=partial(Schedule.parse, dst_gap=dst_gap)))
    assert f"02:30 does not exist; {effect}" in words


def test_an_automation_tells_the_policies_in_force() -> None:
    each = replace(
        entry("a"),
        policies=make_policies(
            start_within=timedelta(minutes=2),
            catch_up=CatchUp.ALL,
            concurrency=Concurrency.FORBID,
            jitter=timedelta(minutes=1),
        ),
    )
    words = automation(each)
    for text in (
        "2 min",
        "all that are overdue are sent",
        "an occurrence is skipped during an unfinished run",
        "s after the scheduled instant, every time",
    ):
        assert text in words
    assert "at least 5 min, at most 1 h; now 5 min" in automation(entry("a"))


def test_an_automation_tells_its_newest_run() -> None:
    run = replace(
        entry("a").automation,
        run_id=OTHER_ID,
        run_at=NOW - timedelta(minutes=5),
        run_status="failed",
        run_error="exit status 1",
    )
    words = automation(details(replace(entry("a"), automation=run)))
    for text in ("failed", OTHER_ID, "5 min ago", "exit status 1"):
        assert text in words
    assert "The automation has never run." in automation(entry("a"))


def page_with(output: RunOutputTail | None, asked_for: list[tuple[str, str]] | None = None) -> Parsed:
    """The page of an automation whose newest run has printed this."""

    async def run_output(target: str, run_id: str) -> RunOutputTail | None:
        if asked_for is not None:
            asked_for.append((target, run_id))
        return output

    run = replace(entry("a").automation, run_id=OTHER_ID, run_at=NOW, run_status="failed")
    return parsed(
        ONE, pages(automations=[details(replace(entry("a"), automation=run))], run_output=run_output)
    )


def test_an_automation_shows_what_its_newest_run_printed() -> None:
    asked_for: list[tuple[str, str]] = []
    page = page_with(RunOutputTail(31, "cloning\n 10%\r100%\r\n\x1b[31mno such model\x1b[0m\n"), asked_for)
    assert asked_for == [("main", OTHER_ID)]
    assert "31 bytes, as the agent printed them." in page.words
    assert "cloning\n100%\nno such model\n" in page.text
    assert f"scheduler runs show {OTHER_ID}" in page.words
    (shown,) = page.all("pre")
    assert (shown["tabindex"], shown["role"]) == ("0", "region"), "who has no mouse scrolls it too"


@pytest.mark.parametrize(
    ("output", "says", "does_not_say"),
    [
        (None, "Newest run", "Output"),
        (RunOutputTail(None, None), "Newest run", "Output"),
        (RunOutputTail(0, ""), "The run has printed nothing.", "bytes"),
        (RunOutputTail(error="the API cannot be reached"), "the API cannot be reached", "bytes"),
        (RunOutputTail(1_234_567, "end"), "The end of 1,234,567 bytes, as", "[...]"),
        (RunOutputTail(4 * 300, "abc\n" * 300), "The end of 1,200 bytes, as", "[...]"),
    ],
)
def test_an_output_that_is_not_whole_or_not_there_says_so(
    output: RunOutputTail | None, says: str, does_not_say: str
) -> None:
    words = page_with(output).words
    assert says in words
    assert does_not_say not in words


def test_no_more_lines_of_an_output_are_shown_than_somebody_reads() -> None:
    text = page_with(RunOutputTail(99_999, "".join(f"line {number}\n" for number in range(1, 1001)))).text
    assert "line 801\n" in text
    assert "line 1000\n" in text
    assert "line 800\n" not in text


def test_an_automation_that_never_ran_asks_for_no_output() -> None:
    async def run_output(*_: object) -> RunOutputTail:
        raise AssertionError

    assert (
        "The automation has never run."
        in parsed(ONE, pages(automations=[details(entry("a"))], run_output=run_output)).words
    )


def test_an_automation_has_its_history_and_the_commands_that_tell_more() -> None:
    recorded = Recorded(LINE)
    page = parsed(ONE, pages(entries=[entry("nightly")], occurrences=recorded))
    assert recorded.asked == [OccurrenceQuery(target="main", automation=ID, limit=26)]
    for command in (f"scheduler why {ID} 2026-11-23T19:10:00Z", f"scheduler history --automation {ID}"):
        assert command in page.words


def test_the_last_result_and_its_time_stand_beside_each_automation() -> None:
    entries = [entry("alpha"), entry("beta", automation_id=OTHER_ID)]
    shown = pages(entries=entries, finished_runs=FinishedRuns(FAILED_RUN))
    assert "failed 2026-11-23T19:18:00Z 2 min ago, 3 failures in a row" in parsed("/automations", shown).words
    assert asked("/automations", shown).text.count('class="badge bad"') == 1
    unreadable = parsed("/automations", pages(entries=entries, finished_runs=FinishedRuns(broken=True))).words
    assert "Last results are missing: the ledger cannot be read" in unreadable
    assert "alpha" in unreadable


def test_failing_automations_can_be_listed_alone() -> None:
    entries = [entry("alpha"), entry("beta", automation_id=OTHER_ID)]
    shown = pages(entries=entries, finished_runs=FinishedRuns(FAILED_RUN))
    page = parsed("/automations?result=failing", shown)
    assert "alpha" in page.words
    assert "beta" not in page.words
    assert "beta" in parsed("/automations", shown).words
    unreadable = parsed(
        "/automations?result=failing", pages(entries=entries, finished_runs=FinishedRuns(broken=True))
    ).words
    assert "Last results are missing" in unreadable
    assert (
        "Last result should be failing, not 'good'"
        in parsed("/automations?result=good", shown, code=400).words
    )


def test_a_failing_automation_says_so_on_its_page_with_what_to_do() -> None:
    words = parsed(ONE, pages(entries=[entry("nightly")], finished_runs=FinishedRuns(FAILED_RUN))).words
    said = (
        "The newest finished run failed, 3 failures in a row, 2026-11-23T19:18:00Z (2 min ago): exit "
        "status 3: no room"
    )
    assert said in words
    assert f"scheduler runs show {RUN}" in words
    succeeded = replace(FAILED_RUN, status=RunStatus.SUCCESS, failures=0)
    assert (
        "newest finished run"
        not in parsed(ONE, pages(entries=[entry("nightly")], finished_runs=FinishedRuns(succeeded))).words
    )


@pytest.mark.parametrize(
    "path", ["/automations/main/nothing", f"/automations/main/{OTHER_ID}", f"/automations/elsewhere/{ID}"]
)
def test_an_automation_that_is_not_there_is_a_page_that_says_so(path: str) -> None:
    page = parsed(path, pages(entries=[entry("nightly")]), code=404)
    assert "No such automation" in page.words
    assert "/automations" in page.links


# ------------------------------------------------------------ form and headers


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_use_what_is_served_here_and_nothing_else(path: str) -> None:
    headers = asked(path, pages(entries=[entry("a")])).headers
    assert (
        dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")) == POLICY
    )
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_style_script_and_icon_may_be_kept_for_ever() -> None:
    page = parsed("/")
    sources = [str(each.get("href")) for each in page.all("link")] + [
        str(each["src"]) for each in page.all("script")
    ]
    assert len(sources) == 3
    for source in sources:
        answer = asked(source)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["content-type"].partition(";")[0] in {
            "text/css",
            "text/javascript",
            "image/svg+xml",
        }
    assert asked("/assets/page.000000000000.css").status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_well_formed(path: str) -> None:
    html = asked(
        path, exhibit(hostile_too=True) if "automations/" not in path else pages(entries=[entry(HOSTILE)])
    ).text
    page = Parsed(html)
    ids = page.values("id")
    assert page.wrong == []
    assert sorted(set(ids)) == sorted(ids)
    assert len(page.all("h1")) == 1
    assert {str(each["for"]) for each in page.all("label")} == {
        str(each["id"]) for each in page.all("input") + page.all("select")
    }
    for attribute in ("aria-labelledby", "aria-describedby"):
        assert {each for value in page.values(attribute) for each in value.split()} <= set(ids)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(each.get("scope") == "col" for each in page.all("th"))
    assert not page.values("style")
    assert len(page.all("main")) == 1


def test_every_drawing_has_a_name_a_description_and_a_table() -> None:
    page = parsed("/", exhibit())
    drawings = [each for each in page.all("svg") if each.get("role") == "img"]
    assert [each["aria-labelledby"] for each in drawings] == ["hour-title hour-desc", "day-title day-desc"]
    assert all(each.get("aria-hidden") == "true" for each in page.all("svg") if each not in drawings)
    assert {"hour-table", "day-table"} <= {each["id"] for each in page.all("details")}


def test_every_link_leads_somewhere_here() -> None:
    shown = exhibit()
    links = sorted(
        {link for path in ("/", "/occurrences", "/automations") for link in parsed(path, shown).links}
        - {"#main"}
    )
    assert len(links) > 50
    assert [link for link in links if not link.startswith("/")] == []
    refused = {
        link: answer.status_code
        for link, answer in zip(links, all_asked(links, shown), strict=True)
        if answer.status_code != 200
    }
    assert refused == {"/readyz": 503}  # one of its targets is held


# ------------------------------------------------------------ hostile names


def evil() -> Any:
    target = replace(
        TARGET,
        name=HOSTILE,
        url="javascript:alert(1)",
        project_id=HOSTILE,
        held=HOSTILE,
        error=HOSTILE,
        overdue=[HOSTILE],
    )
    line = {
        **LINE,
        "name": HOSTILE,
        "error": HOSTILE,
        "target": HOSTILE,
        "run_status": HOSTILE,
        "node": HOSTILE,
    }
    status = replace(
        STATUS, node=HOSTILE, lock_holder=HOSTILE, ledger_error=HOSTILE, targets=[target, TARGET]
    )
    run = replace(
        entry(HOSTILE).automation, run_id=HOSTILE, run_at=NOW, run_status=HOSTILE, run_error=HOSTILE
    )
    each = replace(entry(HOSTILE), automation=run, invalid=HOSTILE)
    recent = RecentActivity(
        NOW, complete=True, tallies=(), foreign=(), pauses=[OperatorPause("main", ID, HOSTILE, NOW, HOSTILE)]
    )

    async def run_output(*_: object) -> RunOutputTail:
        return RunOutputTail(
            9_999, f"{HOSTILE}</pre></bdi><script>alert(2)</script>\x1b]0;title\x07\x9b31m\u202e\x00"
        )

    return pages(
        status=status,
        entries=[each],
        occurrences=Recorded(line),
        recent=Remembered(recent),
        run_output=run_output,
    )


@pytest.mark.parametrize("path", ["/", "/occurrences", "/automations", ONE])
def test_no_name_can_add_an_element_an_attribute_or_a_character_that_does_not_print(path: str) -> None:
    html = asked(path, evil()).text
    page = Parsed(html)
    assert page.wrong == []
    assert [each.get("src") for each in page.all("script")] == [page.all("script")[0]["src"]]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(each.isprintable() for each in html.replace("\n", ""))
    assert not [link for link in page.links if not link.startswith(("/", "#"))]
    assert "\\u202e" in html
    assert "<script>alert" not in html


@pytest.mark.parametrize(
    "query",
    [
        "automation=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "outcome=%3Csvg%20onload=alert(1)%3E",
        "%3Cb%3E=1",
    ],
)
def test_no_question_can_add_an_element(query: str) -> None:
    page = Parsed(asked(f"/occurrences?{query}").text)
    assert len(page.all("script")) == 1
    assert not page.all("b")


def test_no_name_is_taken_for_a_template() -> None:
    names = parsed("/automations", pages(automations=list(hostile()))).words
    assert "{{ 7*7 }} ${7*7} %s" in names


# ------------------------------------------------------------ what it costs


def test_pages_are_made_on_another_thread() -> None:
    seen: list[int] = []

    def watched(*_: object) -> Iterator[Any]:
        seen.append(threading.get_ident())
        yield from ()

    assert asked("/", pages_with(iterate_by_schedule=lambda _: watched())).status_code == 200
    assert asked("/automations", pages_with(iterate_details=watched)).status_code == 200
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_pages_are_made_one_at_a_time() -> None:
    making, most = 0, 0

    def watched(*_: object) -> Iterator[Any]:
        nonlocal making, most
        making += 1
        most = max(most, making)
        time.sleep(0.01)
        making -= 1
        yield from ()

    assert [
        answer.status_code
        for answer in all_asked(["/"] * 5, pages_with(iterate_by_schedule=lambda _: watched()))
    ] == [200] * 5
    assert most == 1


def test_what_is_too_much_to_draw_is_drawn_as_far_as_it_goes() -> None:
    one, evaluated = [details(entry("a"))], itertools.count()
    endless = (((NOW + timedelta(seconds=number)), one) for number in evaluated)
    page = parsed("/", pages_with(iterate_by_schedule=lambda _: endless))
    assert "are left out: there are too many" in page.words
    assert "more than 30,000" in page.words
    assert next(evaluated) < MAX_INSTANTS + 1_000
