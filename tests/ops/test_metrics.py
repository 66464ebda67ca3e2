"""Every number that Prometheus gets: what it counts, from when on it is there, and that no name can disturb
it.
"""

import ast
import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from scheduler.core.cron.schedule import read_versions
from scheduler.core.events import (
    AttemptBegun,
    AutomationRemoved,
    ClockJumped,
    ConfigReloaded,
    EarlierRunSeen,
    Event,
    LedgerCommitted,
    LedgerFailed,
    RequestEnded,
    RunDoubled,
    RunForeign,
    SnapshotFailed,
    SnapshotTaken,
)
from scheduler.core.model import REASONS, AttemptResult, Outcome, Reason, RunStatus, State
from scheduler.core.status import AUTOMATION_STATES, PlacesStatus
from scheduler.ops.gauges import MAX_DETAILED, render_metrics
from scheduler.ops.metrics import AutomationMetrics, Metrics
from scheduler.ops.web import ProgramRoutes
from tests.ops.support import (
    AUTOMATION,
    EMPTY_TARGET,
    HOSTILE,
    ID,
    NOW,
    RUN,
    STATUS,
    TARGET,
    attempt,
    concluded,
    every_event,
    exposition,
    named,
    run_finished,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

OF_THE_LEDGER = NOW - timedelta(days=1)
SOURCE = Path(__file__).parents[2] / "scheduler"


def text(of: ProgramRoutes, accept: str = "") -> str:
    return asyncio.run(render_metrics(of, accept))[0].decode()


def samples(of: ProgramRoutes) -> Samples:
    found: Samples = {}
    for family in plain(text(of)):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"two series {key}"
            found[key] = sample.value
    return found


def after(*events: Event, targets: Iterable[str] = ("main",)) -> Samples:
    metrics = Metrics(targets, now=lambda: NOW)
    for event in events:
        metrics.observe(event)
    return samples(exposition(metrics))


def at(series: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"scheduler_{series}", frozenset(labels.items())


AT_THE_START = after(targets=["main", "other"])


# ------------------------------------------------------------ from the start


OUTCOMES = [
    {"outcome": str(outcome), "reason": str(reason)}
    for outcome, reasons in REASONS.items()
    for reason in reasons
]


@pytest.mark.parametrize("target", ["main", "other"])
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *(("occurrences_total", each) for each in OUTCOMES),
        *(("attempts_total", {"result": str(result)}) for result in AttemptResult),
        *(("runs_total", {"status": status}) for status in ("success", "failed", "superseded", "lost")),
        *(("polls_total", {"result": result}) for result in ("ok", "error", "disagreed")),
        *(("fire_lateness_seconds_count", {"kind": kind}) for kind in ("on_time", "catch_up", "retry")),
        *(
            ("target_request_duration_seconds_count", {"endpoint": endpoint})
            for endpoint in ("list", "retrieve", "create", "update", "delete", "run")
        ),
        *(
            (name, {})
            for name in (
                "foreign_runs_total",
                "late_doubles_total",
                "attempt_duration_seconds_count",
                "poll_duration_seconds_count",
            )
        ),
    ],
)
def test_every_counter_of_a_target_is_there_with_0_from_the_start(
    target: str, name: str, labels: dict[str, str]
) -> None:
    assert AT_THE_START[at(name, target=target, **labels)] == 0


@pytest.mark.parametrize("direction", ["forward", "backward", "suspend"])
def test_every_jump_of_the_clock_is_counted_from_0(direction: str) -> None:
    assert AT_THE_START[at("clock_jumps_total", direction=direction)] == 0


def test_commits_are_counted_from_0_and_the_configuration_is_good_that_it_started_with() -> None:
    assert AT_THE_START[at("ledger_commit_duration_seconds_count")] == 0
    assert AT_THE_START[at("config_last_reload_successful")] == 1


def operations() -> set[str]:
    """What the source asks of the ledger: the first text given to what does it again and again, and to the
    health's ``failed``.
    """
    found: set[str] = set()
    for file in [*SOURCE.glob("daemon/*.py"), *SOURCE.glob("app/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _called(node) in {
                "retry_write",
                "retry_read",
                "_retry_write",
                "note_failure",
                "_persist",
            }:
                found.update(
                    each.value
                    for each in node.args[:2]
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )
    return found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_every_operation_of_the_ledger_that_can_fail_is_there_with_0() -> None:
    found = after()
    assert operations() >= {"claim", "attempt", "conclude"}
    for operation in operations():
        assert found[at("ledger_errors_total", operation=operation)] == 0, f"add {operation!r} to OPERATIONS"


# ------------------------------------------------------------ what is counted


COUNTED: list[tuple[Event, str, Mapping[str, str], float]] = [
    (
        concluded(count=1440),
        "occurrences_total",
        {"target": "main", "outcome": "accepted", "reason": "answered"},
        1440,
    ),
    *(
        (
            concluded(outcome, reason),
            "occurrences_total",
            {"target": "main", "outcome": outcome, "reason": reason},
            1,
        )
        for outcome, reasons in REASONS.items()
        for reason in reasons
    ),
    *(
        (
            concluded(lateness=0.02, kind=kind),
            "fire_lateness_seconds_count",
            {"target": "main", "kind": kind},
            1,
        )
        for kind in ("on_time", "catch_up", "retry")
    ),
    (
        concluded(lateness=0.02, kind="on_time"),
        "fire_lateness_seconds_sum",
        {"target": "main", "kind": "on_time"},
        0.02,
    ),
    *(
        (attempt(result), "attempts_total", {"target": "main", "result": result}, 1)
        for result in AttemptResult
    ),
    (attempt(AttemptResult.UNKNOWN), "attempt_duration_seconds_sum", {"target": "main"}, 0.2),
    *(
        (run_finished(status), "runs_total", {"target": "main", "status": status}, 1)
        for status in RunStatus
        if status is not RunStatus.RUNNING
    ),
    *(
        (
            run_finished(status, duration=90.5),
            "run_duration_seconds_sum",
            {"target": "main", "status": status},
            90.5,
        )
        for status in (RunStatus.SUCCESS, RunStatus.FAILED)
    ),
    (
        run_finished(RunStatus.SUCCESS),
        "run_duration_seconds_count",
        {"target": "main", "status": "success"},
        0,
    ),
    (
        RunForeign(
            target="main", automation_id=ID, automation="a", run_id=RUN, started_at=None, hint="ask around"
        ),
        "foreign_runs_total",
        {"target": "main"},
        1,
    ),
    (
        RunDoubled(
            target="main",
            automation_id=ID,
            automation="a",
            run_id=RUN,
            started_at=None,
            scheduled_for=NOW,
            hint="raise settle_time",
        ),
        "late_doubles_total",
        {"target": "main"},
        1,
    ),
    (
        SnapshotTaken(target="main", automations=1, seconds=0.3, incomplete=False, clock_offset=None),
        "polls_total",
        {"target": "main", "result": "ok"},
        1,
    ),
    (
        SnapshotTaken(target="main", automations=1, seconds=0.3, incomplete=True, clock_offset=None),
        "polls_total",
        {"target": "main", "result": "disagreed"},
        1,
    ),
    (
        SnapshotFailed(target="main", error="500", seconds=1.5, first=False),
        "polls_total",
        {"target": "main", "result": "error"},
        1,
    ),
    (
        SnapshotFailed(target="main", error="500", seconds=1.5, first=False),
        "poll_duration_seconds_sum",
        {"target": "main"},
        1.5,
    ),
    (
        RequestEnded(target="main", endpoint="run", code="timeout", seconds=30.0),
        "target_requests_total",
        {"target": "main", "endpoint": "run", "code": "timeout"},
        1,
    ),
    (
        RequestEnded(target="main", endpoint="run", code="200", seconds=0.25),
        "target_request_duration_seconds_sum",
        {"target": "main", "endpoint": "run"},
        0.25,
    ),
    (ClockJumped(seconds=90.0, suspended=False), "clock_jumps_total", {"direction": "forward"}, 1),
    (ClockJumped(seconds=-90.0, suspended=False), "clock_jumps_total", {"direction": "backward"}, 1),
    (ClockJumped(seconds=90.0, suspended=True), "clock_jumps_total", {"direction": "suspend"}, 1),
    (LedgerCommitted(seconds=0.004), "ledger_commit_duration_seconds_sum", {}, 0.004),
    (
        LedgerFailed(operation="claim", error="full", first=False),
        "ledger_errors_total",
        {"operation": "claim"},
        1,
    ),
    (ConfigReloaded(error="unknown key"), "config_last_reload_successful", {}, 0),
]


@pytest.mark.parametrize(
    ("event", "name", "labels", "value"), COUNTED, ids=lambda each: each if isinstance(each, str) else ""
)
def test_an_event_is_counted_where_it_belongs(
    event: Event, name: str, labels: Mapping[str, str], value: float
) -> None:
    assert after(event)[at(name, **labels)] == value


def test_a_good_reload_mends_what_a_bad_one_showed() -> None:
    assert (
        after(ConfigReloaded(error="x"), ConfigReloaded(error=None))[at("config_last_reload_successful")] == 1
    )


def test_what_was_not_sent_has_no_lateness() -> None:
    found = after(concluded(Outcome.SKIPPED, Reason.OVERLAP), concluded(Outcome.EXPIRED, Reason.NOT_STARTED))
    assert (
        sum(value for (name, _), value in found.items() if name == "scheduler_fire_lateness_seconds_count")
        == 0
    )


def test_lateness_has_the_buckets_that_its_alerts_are_written_for() -> None:
    found = after(concluded(lateness=0.0075, kind="on_time"))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "scheduler_fire_lateness_seconds_bucket" and ("kind", "on_time") in labels
    }
    bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, math.inf]
    assert sorted(buckets) == bounds
    assert [buckets[bound] for bound in bounds] == [0] + [1] * 16


def test_an_event_that_counts_nothing_changes_nothing() -> None:
    ours = {key: value for key, value in after().items() if key[0].startswith("scheduler_")}
    assert {
        key: value
        for key, value in after(AttemptBegun(target="main")).items()
        if key[0].startswith("scheduler_")
    } == ours


# ------------------------------------------------------------ what is measured


def test_gauges_are_the_daemons_state_when_it_is_looked_at() -> None:
    found = samples(exposition())
    assert found[at("attempts_in_flight", target="main")] == 4
    assert found[at("occurrences_overdue", target="main")] == 1
    assert (
        found[at("next_fire_timestamp_seconds", target="main")] == (NOW + timedelta(seconds=40)).timestamp()
    )
    assert found[at("snapshot_timestamp_seconds", target="main")] == (NOW - timedelta(seconds=12)).timestamp()
    assert found[at("target_held", target="main")] == 0
    assert found[at("clock_offset_seconds", target="main")] == 0.25
    assert found[at("ledger_size_bytes")] == 4096
    assert found[at("loop_progress_timestamp_seconds")] == NOW.timestamp()
    assert {state: found[at("occurrences_open", target="main", state=state)] for state in State} == {
        "claimed": 0,
        "in_flight": 4,
        "unknown": 0,
        "waiting": 0,
    }
    assert {state: found[at("automations", target="main", state=state)] for state in AUTOMATION_STATES} == {
        "enabled": 2,
        "disabled": 0,
        "paused": 0,
        "invalid": 1,
    }


def test_a_gauge_without_a_true_number_is_not_there_but_a_snapshot_that_never_was_is_0() -> None:
    found = samples(exposition(status=lambda: replace(STATUS, targets=[EMPTY_TARGET]), ledger_size=None))
    for name in ("next_fire_timestamp_seconds", "clock_offset_seconds"):
        assert at(name, target="main") not in found
    assert at("ledger_size_bytes") not in found
    assert found[at("snapshot_timestamp_seconds", target="main")] == 0


def test_a_shortage_is_told_by_the_time_of_its_beginning_and_0_is_none() -> None:
    of = samples(exposition())
    assert of[at("request_budget_exhausted_timestamp_seconds", target="main")] == 0
    assert of[at("target_saturated_timestamp_seconds", target="main")] == 0
    assert of[at("target_throttled_until_timestamp_seconds", target="main")] == 0
    places = PlacesStatus(waiting=3, hanging=256, exhausted_since=NOW, saturated_since=NOW)
    of = samples(
        exposition(
            status=lambda: replace(STATUS, targets=[replace(TARGET, places=places, throttled_until=NOW)])
        )
    )
    assert of[at("target_throttled_until_timestamp_seconds", target="main")] == NOW.timestamp()
    assert of[at("request_budget_exhausted_timestamp_seconds", target="main")] == NOW.timestamp()
    assert of[at("target_saturated_timestamp_seconds", target="main")] == NOW.timestamp()
    assert of[at("attempts_waiting", target="main")] == 3
    assert of[at("attempts_hanging", target="main")] == 256


def test_a_held_target_is_1() -> None:
    held = replace(STATUS, targets=[replace(TARGET, held="the key is refused")])
    assert samples(exposition(status=lambda: held))[at("target_held", target="main")] == 1


def test_gauges_follow_the_state_and_a_target_that_is_gone_has_none() -> None:
    now = [STATUS]
    of = exposition(status=lambda: now[0])
    assert at("target_held", target="main") in samples(of)
    now[0] = replace(STATUS, targets=[replace(TARGET, name="other", in_flight=7)])
    found = samples(of)
    assert at("target_held", target="main") not in found
    assert found[at("attempts_in_flight", target="other")] == 7


def test_the_build_is_named_with_what_evaluates_schedules() -> None:
    (labels,) = [dict(labels) for (name, labels) in samples(exposition()) if name == "scheduler_build_info"]
    assert (labels["version"], labels["croniter"], labels["tzdata"]) == (
        "0.1.0",
        read_versions().croniter,
        read_versions().tzdata,
    )
    assert labels["python"].startswith("3.")


def test_the_process_is_measured_too() -> None:
    names = {name for name, _ in samples(exposition())}
    assert {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "python_info",
        "python_gc_collections_total",
    } <= names


def test_the_registry_is_our_own() -> None:
    names = {family.name for family in prometheus_client.REGISTRY.collect()}
    exposition()
    assert {family.name for family in prometheus_client.REGISTRY.collect()} == names


# ------------------------------------------------------------ of each automation


def of_automations(found: Samples) -> set[str]:
    return {name for name, _ in found if name.startswith("scheduler_automation_")}


def test_an_automation_has_its_own_metrics() -> None:
    found = samples(exposition())
    labels = {
        "target": "main",
        "automation": ID,
        "name": "nightly",
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
    }
    assert found[at("automation_info", **labels)] == 1
    assert (
        found[at("automation_next_fire_timestamp_seconds", target="main", automation=ID)]
        == (NOW + timedelta(hours=6)).timestamp()
    )


@pytest.mark.parametrize(
    ("per_automation", "count", "shown"),
    [
        ("auto", MAX_DETAILED, True),
        ("auto", MAX_DETAILED + 1, False),
        (True, MAX_DETAILED + 1, True),
        (False, 1, False),
    ],
)
def test_metrics_of_each_automation_are_for_as_many_as_prometheus_bears(
    per_automation: bool | str, count: int, shown: bool
) -> None:
    many = replace(STATUS, targets=[replace(TARGET, automations={"enabled": count - 1, "invalid": 1})])
    assert (
        bool(of_automations(samples(exposition(status=lambda: many, per_automation=per_automation)))) is shown
    )


def test_the_automations_of_all_targets_count_together() -> None:
    half = MAX_DETAILED // 2 + 1
    two = replace(
        STATUS, targets=[replace(TARGET, name=name, automations={"enabled": half}) for name in ("a", "b")]
    )
    assert not of_automations(samples(exposition(status=lambda: two)))


def test_when_it_was_last_accepted_and_successful_is_known_from_the_ledger_and_from_events() -> None:
    now = [NOW]
    metrics = Metrics(["main"], now=lambda: now[0])
    of, accepted, succeeded = (
        exposition(metrics),
        *(f"automation_last_{word}_timestamp_seconds" for word in ("accepted", "success")),
    )
    here = {"target": "main", "automation": ID}
    assert at(accepted, **here) not in samples(of)
    metrics.recall("main", ID, OF_THE_LEDGER, OF_THE_LEDGER)
    assert (
        samples(of)[at(accepted, **here)] == samples(of)[at(succeeded, **here)] == OF_THE_LEDGER.timestamp()
    )
    metrics.observe(concluded())
    metrics.observe(run_finished(RunStatus.FAILED))
    assert samples(of)[at(accepted, **here)] == NOW.timestamp()
    assert samples(of)[at(succeeded, **here)] == OF_THE_LEDGER.timestamp()
    now[0] = NOW + timedelta(minutes=5)
    metrics.observe(run_finished(RunStatus.SUCCESS))
    metrics.observe(concluded(Outcome.REJECTED, Reason.REFUSED))
    assert samples(of)[at(accepted, **here)] == NOW.timestamp()
    assert samples(of)[at(succeeded, **here)] == now[0].timestamp()


def test_the_runs_of_an_automation_are_counted_by_their_end_and_the_newest_is_measured() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    of = exposition(metrics)

    def counts() -> dict[str, float]:
        found = samples(of)
        ends = ("success", "failed", "superseded", "lost")
        return {
            end: found[at("automation_runs_total", target="main", automation=ID, status=end)] for end in ends
        }

    duration = at("automation_last_run_duration_seconds", target="main", automation=ID)
    assert counts() == {"success": 0, "failed": 0, "superseded": 0, "lost": 0}, (
        "an alert sees the first increase"
    )
    assert duration not in samples(of)
    for event in (
        run_finished(RunStatus.FAILED, duration=600.0),
        run_finished(RunStatus.FAILED, duration=300.0),
        run_finished(RunStatus.SUPERSEDED),
        run_finished(RunStatus.LOST),
        run_finished(RunStatus.SUCCESS, automation_id="another"),
    ):
        metrics.observe(event)
    assert counts() == {"success": 0, "failed": 2, "superseded": 1, "lost": 1}
    assert samples(of)[duration] == 300


def failing(of: ProgramRoutes) -> tuple[float | None, float | None]:
    """How many automations of the target fail, and whether ours does."""
    found = samples(of)
    return found.get(at("automations_failing", target="main")), found.get(
        at("automation_failing", target="main", automation=ID)
    )


def test_an_automation_fails_from_a_run_that_failed_or_was_lost_until_one_succeeds() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    of = exposition(metrics)
    assert failing(of) == (None, None), "nobody knows before the ledger was read"
    metrics.recall_failing("main", ())
    for status, expected in (
        (RunStatus.FAILED, 1),
        (RunStatus.SUPERSEDED, 1),
        (RunStatus.SUCCESS, 0),
        (RunStatus.SUPERSEDED, 0),
        (RunStatus.LOST, 1),
        (RunStatus.SUCCESS, 0),
    ):
        metrics.observe(run_finished(status))
        assert failing(of) == (expected, expected), status


def test_what_fails_is_known_from_the_ledger_and_from_runs_that_were_there_before() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    metrics.recall_failing("main", [ID, "another"])
    of = exposition(metrics)
    assert failing(of) == (2, 1)
    metrics.observe(
        EarlierRunSeen(target="main", automation_id=ID, automation="nightly", status=RunStatus.SUCCESS)
    )
    assert failing(of) == (1, 0)
    metrics.observe(
        EarlierRunSeen(target="main", automation_id=ID, automation="nightly", status=RunStatus.FAILED)
    )
    assert failing(of) == (2, 1)
    metrics.observe(AutomationRemoved(target="main", automation_id=ID, automation="nightly"))
    assert failing(of) == (1, 0)


def test_what_does_not_fire_does_not_fail_and_what_fires_again_does() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    metrics.recall_failing("main", [ID])
    paused = {ID}
    of = exposition(metrics, fires=lambda _, automation_id: automation_id not in paused)
    assert failing(of) == (0, 0)
    paused.clear()
    assert failing(of) == (1, 1)


def test_how_many_fail_is_known_also_without_metrics_of_each_automation() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    metrics.recall_failing("main", [f"{number:036}" for number in range(2_000)])
    assert failing(exposition(metrics, per_automation=False)) == (2_000, None)


def test_the_run_of_a_deleted_automation_leaves_nothing_of_that_automation() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    metrics.recall_failing("main", ())
    metrics.observe(run_finished(RunStatus.FAILED, duration=9.0, gone=True))
    assert failing(exposition(metrics)) == (0, 0)
    assert metrics.get_automation("main", ID) == AutomationMetrics()
    assert samples(exposition(metrics))[at("runs_total", target="main", status="failed")] == 1


def test_what_the_ledger_remembers_does_not_undo_what_has_happened_since() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    metrics.observe(concluded())
    metrics.recall("main", ID, OF_THE_LEDGER, None)
    assert metrics.get_automation("main", ID).accepted_at == NOW


def test_the_series_of_a_removed_automation_disappear() -> None:
    shown = [AUTOMATION]
    metrics = Metrics(["main"], now=lambda: NOW)
    of = exposition(metrics, automations=shown)
    metrics.observe(concluded())
    metrics.observe(run_finished(RunStatus.SUCCESS, duration=1.5))
    assert len(of_automations(samples(of))) == 6
    shown.clear()
    metrics.observe(AutomationRemoved(target="main", automation_id=ID, automation="nightly"))
    assert not of_automations(samples(of))
    shown.append(AUTOMATION)
    found = samples(of)
    assert len(of_automations(found)) == 3, "what was known of it is gone with it"
    assert sum(value for (name, _), value in found.items() if name == "scheduler_automation_runs_total") == 0


def test_metrics_of_another_target_are_not_taken_for_ours() -> None:
    metrics = Metrics(["main", "other"], now=lambda: NOW)
    metrics.recall("other", ID, NOW, None)
    assert metrics.get_automation("main", ID).accepted_at is None


# ------------------------------------------------------------ as text


@pytest.mark.parametrize("name", [HOSTILE, "", "\\", '"', "\n", "{}", "é" * 255, "\r\n# TYPE x counter"])
def test_no_name_can_forge_a_series(name: str) -> None:
    found = samples(exposition(automations=[named(name)]))
    (labels,) = [dict(labels) for (metric, labels) in found if metric == "scheduler_automation_info"]
    assert labels["name"] == name
    assert len(found) == len(samples(exposition()))


@settings(max_examples=50, deadline=None)
@given(name=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    of = exposition(automations=[named(name)])
    for parse, accept in ((plain, ""), (openmetrics, "application/openmetrics-text; version=1.0.0")):
        (info,) = [family for family in parse(text(of, accept)) if family.name == "scheduler_automation_info"]
        assert [sample.labels["name"] for sample in info.samples] == [name]


def test_openmetrics_is_valid_with_everything_in_it() -> None:
    metrics = Metrics(["main"], now=lambda: NOW)
    for event in every_event():
        metrics.observe(event)
    names = {
        family.name
        for family in openmetrics(text(exposition(metrics), "application/openmetrics-text; version=1.0.0"))  # type: ignore[no-untyped-call]  # the library left it so
    }
    assert {
        "scheduler_occurrences",
        "scheduler_build_info",
        "scheduler_automation_last_success_timestamp_seconds",
    } <= names


def test_no_series_says_when_a_counter_was_made() -> None:
    assert not [name for name, _ in after(*every_event()) if name.endswith("_created")]


def test_the_loop_turns_while_a_large_text_is_made() -> None:
    many = [named(f"n{number}", f"{number:036}") for number in range(20_000)]
    of = exposition(automations=many, per_automation=True)

    async def look() -> tuple[int, int]:
        turns = 0
        making = asyncio.create_task(render_metrics(of, ""))
        while not making.done():
            await asyncio.sleep(0.001)
            turns += 1
        return turns, len((await making)[0])

    turns, size = asyncio.run(look())
    assert size > 20_000 * 100
    assert turns > 5
