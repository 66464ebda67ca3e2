"""Which automations exist and what of them is due: every instant of every version in force, once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Automation, Definition, DefinitionVersion, InvalidAutomation, Snapshot
from scheduler.core.policy import Policies, make_fire_time
from scheduler.core.recorded_state import EndedVersion, RecordedAutomation
from scheduler.core.timetable import DueFireTimes, SnapshotChanges, Timetable
from tests.defaults import make_policies

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
A, B = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"


def at(clock: str) -> datetime:
    """This time of day."""
    return datetime.fromisoformat(f"2026-11-23T{clock}Z")


def automation(
    automation_id: str = A,
    cron: str = "* * * * *",
    *,
    timezone: str = "UTC",
    enabled: bool = True,
    updated: str | None = None,
    run_id: str | None = None,
    name: str = "a",
) -> Automation:
    return Automation(
        automation_id,
        name,
        Definition(cron, timezone, enabled),
        None if updated is None else at(updated),
        run_id,
    )


CONFIRM_AFTER = 10.0
"""Seconds from one poll to the next."""


class Told:
    """A timetable with what a planner and a poller would tell it."""

    def __init__(self, now: str, *, policies: Policies | None = None) -> None:
        self.policies: dict[str, Policies] = {}
        self.default = policies or make_policies()
        self.timetable = Timetable(
            "main",
            now=at(now),
            policies=lambda each, name: self.policies.get(each, self.policies.get(name, self.default)),
        )
        self.previous: datetime | None = None

    def load(
        self,
        recorded: Mapping[str, RecordedAutomation],
        *,
        watermark: str | None,
        previous: str | None = None,
        ended: Sequence[EndedVersion] = (),
    ) -> list[DefinitionVersion]:
        slices = self.timetable.load(
            recorded, watermark=None if watermark is None else at(watermark), ended=ended
        )
        versions = [version for versions in slices for version in versions]
        self.previous = None if previous is None else at(previous)
        return versions

    def poll(
        self,
        when: str,
        *automations: Automation,
        complete: bool = True,
        broken: Mapping[str, str] | None = None,
        offset: float = 0.0,
        unidentified: int = 0,
    ) -> SnapshotChanges:
        errors = {
            each: InvalidAutomation(reason, automation_id=each, name=None)
            for each, reason in (broken or {}).items()
        }
        begun = at(when).timestamp()
        snapshot = Snapshot(
            at(when),
            begun,
            begun,
            {each.id: each for each in automations},
            errors,
            complete,
            offset,
            unidentified,
        )
        changes = self.timetable.update(snapshot, previous_poll=self.previous, confirm_after=CONFIRM_AFTER)
        self.count()
        self.previous = at(when)
        return changes

    def count(self) -> Counter[str]:
        """The numbers by state, which are kept and must be as if they had been counted now."""
        assert self.timetable.states == Counter(entry.state for entry in self.timetable.entries.values())
        return self.timetable.states

    def due(self, when: str) -> dict[str, list[str]]:
        """What is due, by automation, as times of day."""
        return shown(self.timetable.collect_due(at(when)))

    def plan(self, when: str) -> dict[str, list[str]]:
        """What is due; from now on it is durable."""
        dues = self.timetable.collect_due(at(when))
        self.timetable.mark_durable(dues)
        return shown(dues)

    def watermark(self, now: str) -> str:
        return clock(self.timetable.compute_watermark(at(now)))


def shown(dues: list[DueFireTimes]) -> dict[str, list[str]]:
    return {
        due.entry.automation.id: [f"{each.scheduled_for:%H:%M}" for each in due.fire_times] for due in dues
    }


def clock(instant: datetime) -> str:
    return f"{instant:%H:%M:%S.%f}".rstrip("0").rstrip(".")


def recorded(
    *automations: Automation, since: str = "11:00:00", broken: str | None = None
) -> dict[str, RecordedAutomation]:
    return {each.id: RecordedAutomation(each, at(since), broken) for each in automations}


def ids(versions: object) -> list[str]:
    assert isinstance(versions, list)
    return [version.automation_id for version in versions]


# ---------------------------------------------------------------- additions


def test_nothing_from_before_the_first_reading_fires() -> None:
    told = Told("12:00:10")
    changes = told.poll("12:00:20", automation(updated="09:00:00"))
    assert changes.added == [
        DefinitionVersion(
            A, "a", Definition("* * * * *", "UTC", enabled=True), at("12:00:20"), at("12:00:20")
        )
    ]
    assert told.due("12:00:59") == {}
    assert told.due("12:01:00") == {A: ["12:01"]}


def test_an_addition_counts_from_its_updated_at_also_for_what_is_past_by_now() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20")
    assert told.plan("12:01:20") == {}
    changes = told.poll("12:01:30", automation(updated="12:00:50"))
    assert changes.added[0].effective_from == at("12:00:50")
    assert changes.added[0].observed_at == at("12:01:30")
    assert told.plan("12:01:31") == {A: ["12:01"]}
    assert told.plan("12:02:00") == {A: ["12:02"]}


def test_the_clock_difference_is_taken_from_updated_at() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20")
    told.plan("12:01:20")
    told.poll("12:01:30", automation(updated="12:01:05"), offset=10.0)
    assert told.due("12:01:31") == {A: ["12:01"]}  # on our clock it was made at 12:00:55


# ---------------------------------------------------------------- cost


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every question that is asked of a schedule."""
    asked: list[str] = []
    fires = Schedule._iterate_fires

    def asking(self: Schedule, after: datetime) -> Iterator[datetime]:
        asked.append(self.expression)
        return fires(self, after)

    monkeypatch.setattr(Schedule, "_iterate_fires", asking)
    return asked


def many(count: int, cron: str = "* * * * *", *, group: int = 0) -> list[Automation]:
    return [automation(f"{number:08x}-{group:04x}-4000-8000-000000000000", cron) for number in range(count)]


def test_a_shared_schedule_is_evaluated_once_however_many_hang_on_it(evaluations: list[str]) -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", *many(500), *many(500, "*/5 * * * *", group=1))
    assert len(evaluations) <= 2 * 2
    evaluations.clear()
    assert len(told.plan("12:05:00")) == 1000
    assert len(evaluations) <= 2 * 2
    evaluations.clear()
    told.poll("12:05:20", *many(500), *many(500, "*/5 * * * *", group=1))
    assert evaluations == []


def test_what_came_due_while_nobody_ran_is_evaluated_once_for_all(evaluations: list[str]) -> None:
    told = Told("12:30:10")
    told.load(recorded(*many(500)), watermark="12:00:00")
    told.poll("12:30:20", *many(500))
    assert len(told.plan("12:30:30")) == 500
    assert len(evaluations) <= 8  # however many automations


def test_all_automations_with_the_same_policies_share_their_moments() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", *many(3))
    first, second, third = told.timetable.collect_due(at("12:02:00"))
    assert first.fire_times is second.fire_times is third.fire_times


def test_what_is_disabled_or_invalid_costs_nothing(evaluations: list[str]) -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(enabled=False), automation(B, "not a schedule"))
    assert told.plan("13:00:00") == {}
    told.poll("13:00:20", automation(enabled=False), automation(B, "not a schedule"))
    assert told.timetable.wake_at is None
    assert evaluations == []


# ---------------------------------------------------------------- edits


def test_an_edit_divides_time() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="*/10 * * * *"))
    changes = told.poll("12:29:30", automation(cron="*/7 * * * *", updated="12:20:00"))
    assert changes.changed == [
        DefinitionVersion(
            A, "a", Definition("*/7 * * * *", "UTC", enabled=True), at("12:20:00"), at("12:29:30")
        )
    ]
    assert told.plan("12:40:00") == {A: ["12:10", "12:20", "12:21", "12:28", "12:35"]}


def test_until_an_edit_is_observed_the_old_version_fires_and_the_new_one_makes_up() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="*/2 * * * *"))
    assert told.plan("12:06:00") == {A: ["12:02", "12:04", "12:06"]}
    told.poll("12:06:30", automation(cron="*/3 * * * *", updated="12:03:30"))
    assert told.plan("12:09:00") == {
        A: ["12:06", "12:09"]
    }  # 12:06 has its row already: the claim's identity decides


def test_an_edit_never_fires_anything_from_before_it() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="0 3 * * *"))
    told.plan("12:10:00")
    told.poll("12:10:30", automation(cron="* * * * *", updated="12:08:30"))
    assert told.plan("12:10:31") == {A: ["12:09", "12:10"]}


def test_what_is_disabled_is_not_due_from_then_on() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    assert told.due("12:03:00") == {A: ["12:01", "12:02", "12:03"]}
    changes = told.poll("12:03:10", automation(enabled=False, updated="12:01:30"))
    assert [
        (each.definition and each.definition.enabled, each.effective_from) for each in changes.changed
    ] == [(False, at("12:01:30"))]
    (due,) = told.timetable.collect_due(at("12:04:00"))
    assert shown([due]) == {A: ["12:01"]}
    assert due.entry.end_reason == "disabled"  # so that whoever plans it knows that nobody wants it now


def test_an_edit_after_which_a_run_began_counts_from_the_reading_before() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="0 3 * * *", run_id="one"))
    told.plan("12:10:00")
    told.poll("12:10:30", automation(cron="*/5 * * * *", updated="12:08:30", run_id="two"))
    assert told.plan("12:10:31") == {A: ["12:05", "12:10"]}


def test_what_was_loaded_and_is_unchanged_differs_once_and_not_at_every_poll() -> None:
    told, shown_again = Told("12:00:10"), automation()
    told.load(recorded(automation()), watermark="12:00:00")
    assert told.timetable.is_changed(shown_again)
    assert told.poll("12:00:20", shown_again) == SnapshotChanges([], [], [], [])
    assert not told.timetable.is_changed(shown_again)


def test_a_new_name_is_no_edit() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    changes = told.poll("12:00:50", automation(name="b"))
    assert (changes.added, changes.changed, changes.removed) == ([], [], [])
    assert changes.updated == [automation(name="b")]
    assert told.timetable.entries[A].automation.name == "b"
    assert told.due("12:01:00") == {A: ["12:01"]}


def test_a_new_name_may_bring_other_policies() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.policies[A] = make_policies(paused=True)
    told.poll("12:00:50", automation(name="b"))
    assert told.timetable.entries[A].state == "paused"


def test_an_edit_to_a_later_instant_than_what_is_planned_ahead() -> None:
    """The new version counts from a moment beyond the cursor: what the old one had up to there is still
    due.
    """
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.plan("12:00:30")
    told.poll("12:02:30", automation(cron="*/10 * * * *", updated="12:02:10"))
    assert told.plan("12:10:00") == {A: ["12:01", "12:02", "12:10"]}


# ---------------------------------------------------------------- removals


def test_an_empty_list_that_is_read_again_at_once_removes_nothing() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B))
    for second in range(30, 40):
        assert told.poll(f"12:00:{second}").removed == []
    assert sorted(told.timetable.absences.absent) == [A, B]
    assert told.poll("12:00:39", automation(), automation(B)).removed == []
    assert told.due("12:01:00") == {A: ["12:01"], B: ["12:01"]}


def test_one_that_was_read_itself_is_there_until_two_more_snapshots_do_not_have_it() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.poll("12:00:30")
    told.timetable.absences.confirm_presence(A)
    assert not told.timetable.is_absent(A)
    assert told.poll("12:00:40").removed == []
    assert told.timetable.is_absent(A)
    assert ids(told.poll("12:00:50").removed) == [A]


def test_what_was_removed_meanwhile_is_not_removed_again() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.poll("12:00:30")
    assert told.timetable.remove(A, at("12:00:35"), at("12:00:35")) is not None
    assert not told.timetable.absences.absent
    assert told.poll("12:00:40").removed == []


def test_what_snapshots_do_not_have_for_an_interval_is_gone() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B))
    assert not told.timetable.is_absent(A)
    assert told.poll("12:00:30", automation(B)).removed == []
    assert told.timetable.is_absent(A)
    assert A in told.timetable.entries
    removed = told.poll("12:00:40", automation(B)).removed
    assert removed == [DefinitionVersion(A, "a", None, at("12:00:40"), at("12:00:40"))]
    assert told.timetable.is_absent(A)
    assert told.plan("12:01:00") == {B: ["12:01"]}
    assert told.poll("12:01:10", automation(B)).removed == []


def test_one_that_is_back_was_never_gone() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.poll("12:00:30")
    told.poll("12:00:40", automation())
    assert not told.timetable.is_absent(A)
    assert told.poll("12:00:50").removed == []


def test_an_incomplete_snapshot_removes_nothing() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    for second in range(30, 60):
        assert told.poll(f"12:00:{second}", complete=False).removed == []
    assert told.due("12:01:00") == {A: ["12:01"]}


def test_a_list_with_an_object_that_cannot_be_identified_removes_nothing_and_makes_absent() -> None:
    told = Told("12:00:10")
    told.poll("12:00:10", automation())
    assert told.poll("12:00:20", unidentified=1).removed == []
    assert told.poll("12:00:30", unidentified=1).removed == []
    assert told.timetable.is_absent(A)
    assert told.poll("12:00:40").removed == [], "the first list that counts"
    assert told.poll("12:00:45", unidentified=1).removed == []
    assert told.poll("12:00:50", unidentified=1).removed == []
    assert told.due("12:01:00") == {A: ["12:01"]}
    assert ids(told.poll("12:01:00").removed) == [A]


def test_an_automation_that_the_last_list_before_a_restart_did_not_show_is_absent() -> None:
    told = Told("12:00:10")
    told.load(
        {A: replace(recorded(automation())[A], unseen_since=at("11:59:00"))},
        watermark="12:00:00",
        previous="12:00:00",
    )
    assert told.timetable.is_absent(A)
    assert told.poll("12:00:20").removed == [], "the first list of this process"
    told.poll("12:00:25", automation())
    assert not told.timetable.is_absent(A)


def test_an_absence_that_the_automation_itself_confirms_counts_from_the_list_of_then() -> None:
    told = Told("12:00:10")
    told.poll("12:00:10", automation())
    told.poll("12:00:20", unidentified=1)
    told.timetable.absences.note_absence(A, at("12:00:20").timestamp())
    assert ids(told.poll("12:00:30").removed) == [A]


@pytest.mark.parametrize("listed", [{"unidentified": 1}, {"complete": False}, {}])
def test_an_edit_counts_from_the_last_snapshot_that_showed_the_automation(listed: dict[str, Any]) -> None:
    """A list without the automation says nothing of its definition: an edit from before that list counts from
    its own time.
    """
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="0 0 1 1 *"))
    told.poll("12:05:30", **listed)
    told.poll("12:05:32", **listed)
    (version,) = told.poll("12:05:45", automation(cron="* * * * *", updated="12:02:30")).changed
    assert clock(version.effective_from) == "12:02:30"
    assert told.due("12:05:45") == {A: ["12:03", "12:04", "12:05"]}


def test_since_when_an_automation_is_not_shown_is_told_once() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B))
    assert told.poll("12:00:50", automation(B), complete=False).unseen == {A: at("12:00:20")}
    assert told.poll("12:01:20", automation(B), complete=False).unseen == {}
    assert told.poll("12:01:50", automation(), complete=False).unseen == {A: None, B: at("12:01:20")}
    told.timetable.absences.note_clock_step(600.0)
    assert told.poll("12:12:20", automation()).unseen == {B: at("12:11:20")}
    changes = told.poll("12:12:50", automation())
    assert (ids(changes.removed), changes.unseen) == ([B], {})


def test_an_edit_counts_from_the_last_snapshot_that_showed_the_automation_before_a_restart_too() -> None:
    told = Told("12:05:40")
    loaded = {A: replace(recorded(automation(cron="0 0 1 1 *"))[A], unseen_since=at("12:00:20"))}
    told.load(loaded, watermark="12:05:40", previous="12:05:32")
    (version,) = told.poll("12:05:45", automation(cron="* * * * *", updated="12:02:30")).changed
    assert clock(version.effective_from) == "12:02:30"
    assert told.due("12:05:45") == {A: ["12:03", "12:04", "12:05"]}


@pytest.mark.parametrize("shows_it", [{"automations": [automation()]}, {"broken": {A: "its enabled is int"}}])
def test_an_incomplete_snapshot_that_shows_it_ends_its_absence(shows_it: dict[str, object]) -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.poll("12:00:30")
    told.poll("12:00:35", *shows_it.get("automations", []), complete=False, broken=shows_it.get("broken"))  # type: ignore[misc, arg-type]  # a table
    assert not told.timetable.is_absent(A)
    assert told.poll("12:00:40").removed == []


def test_an_incomplete_snapshot_adds_and_changes() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    changes = told.poll("12:00:30", automation(cron="*/2 * * * *"), automation(B), complete=False)
    assert (ids(changes.added), ids(changes.changed)) == ([B], [A])


def test_what_was_removed_and_not_planned_yet_is_due_as_removed() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.due("12:01:30")
    told.poll("12:01:40")
    told.poll("12:02:10")
    (due,) = told.timetable.collect_due(at("12:05:00"))
    assert shown([due]) == {A: ["12:01", "12:02"]}
    assert due.entry.removed
    assert due.entry.end_reason == "deleted"
    told.timetable.mark_durable([due])
    assert told.due("12:10:00") == {}


def test_one_that_comes_back_after_its_removal_is_added_again() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.poll("12:00:30")
    told.poll("12:00:40")
    changes = told.poll("12:01:30", automation(updated="12:00:50"))
    assert ids(changes.added) == [A]
    assert told.plan("12:02:00") == {A: ["12:01", "12:02"]}


# ---------------------------------------------------------------- what cannot be evaluated


def test_an_invalid_schedule_is_told_once_for_each_change() -> None:
    told = Told("12:00:10")
    first = told.poll("12:00:20", automation(cron="61 * * * *"))
    assert [each.invalid is not None for each in first.added] == [True]
    assert told.timetable.entries[A].state == "invalid"
    for minute in range(10, 30):
        again = told.poll(f"12:{minute}:00", automation(cron="61 * * * *"))
        assert (again.added, again.changed) == ([], [])
    other = told.poll("12:30:00", automation(cron="62 * * * *"))
    assert [each.invalid is not None for each in other.changed] == [True]
    mended = told.poll("12:30:30", automation(cron="* * * * *", updated="12:30:10"))
    assert [each.invalid for each in mended.changed] == [None]
    assert told.due("12:31:00") == {A: ["12:31"]}


def test_a_disabled_one_with_an_invalid_schedule_is_disabled() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(cron="61 * * * *", enabled=False))
    assert told.timetable.entries[A].state == "disabled"


def test_a_broken_object_stops_its_automation_and_no_other() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B))
    changes = told.poll("12:00:30", automation(B), broken={A: "its enabled is int, expected bool"})
    assert changes.changed == [
        DefinitionVersion(A, "a", None, at("12:00:20"), at("12:00:30"), "its enabled is int, expected bool")
    ]
    assert told.poll(
        "12:00:40", automation(B), broken={A: "its enabled is int, expected bool"}
    ) == SnapshotChanges([], [], [], [])
    assert told.plan("12:01:00") == {B: ["12:01"]}
    assert ids(told.poll("12:01:10", automation(B), broken={A: "its timezone is missing"}).changed) == [A]
    mended = told.poll("12:01:20", automation(updated="12:01:15"), automation(B))
    assert ids(mended.changed) == [A]
    assert mended.updated == [automation(updated="12:01:15")]
    assert told.plan("12:02:00") == {A: ["12:02"], B: ["12:02"]}


def test_one_that_was_never_anything_but_broken_is_known_by_what_is_known_of_it() -> None:
    told = Told("12:00:10")
    changes = told.poll("12:00:20", broken={A: "its enabled is int, expected bool"})
    assert changes.added == [
        DefinitionVersion(A, A, None, at("12:00:20"), at("12:00:20"), "its enabled is int, expected bool")
    ]
    assert told.timetable.entries[A].state == "invalid"
    told.poll("12:00:30")
    assert ids(told.poll("12:00:40").removed) == [A]


# ---------------------------------------------------------------- going on from what was recorded


def test_what_came_due_while_nobody_ran_waits_until_a_reading_says_that_it_is_still_meant() -> None:
    told = Told("12:03:10")
    told.load(recorded(automation()), watermark="12:01:00", previous="12:01:00")
    assert told.plan("12:04:00") == {A: ["12:04"]}  # what comes due now does not wait for it
    told.poll("12:04:10", automation())
    assert told.plan("12:04:11") == {A: ["12:02", "12:03"]}


@pytest.mark.parametrize(
    ("shown_now", "expected"),
    [
        (automation(enabled=False, updated="12:02:30"), {A: ["12:02"]}),
        (automation(enabled=False, updated="12:00:30"), {}),
        (automation(cron="*/3 * * * *", updated="12:01:30"), {A: ["12:03", "12:06"]}),
        (automation(cron="61 * * * *", updated="12:02:30"), {A: ["12:02"]}),
    ],
)
def test_edits_that_nobody_saw_divide_the_time_in_which_nobody_ran(
    shown_now: Automation, expected: dict[str, list[str]]
) -> None:
    told = Told("12:07:10")
    told.load(recorded(automation()), watermark="12:01:00", previous="12:01:00")
    told.poll("12:07:20", shown_now)
    assert told.plan("12:07:30") == expected


def test_without_a_watermark_nothing_is_made_up() -> None:
    told = Told("12:03:10")
    told.load(recorded(automation()), watermark=None)
    told.poll("12:03:20", automation())
    assert told.plan("12:04:00") == {A: ["12:04"]}


def test_what_was_recorded_as_broken_stays_so_until_it_is_edited() -> None:
    told = Told("12:03:10")
    told.load(recorded(automation(), broken="its enabled is int"), watermark="12:00:00")
    assert told.poll("12:03:20", broken={A: "its enabled is int"}) == SnapshotChanges([], [], [], [])
    assert told.plan("12:04:00") == {}


def test_a_version_from_after_the_watermark_fires_nothing_from_before_itself() -> None:
    told = Told("12:03:10")
    told.load(recorded(automation(), since="12:01:30"), watermark="12:00:00", previous="12:02:00")
    told.poll("12:03:20", automation())
    assert told.plan("12:03:30") == {A: ["12:02", "12:03"]}


def test_a_jittered_one_scheduled_before_the_end_and_due_after_the_start_is_not_forgotten() -> None:
    told = Told("12:01:10", policies=make_policies(jitter=timedelta(minutes=30)))
    told.load(recorded(automation(cron="0 * * * *")), watermark="11:59:59", previous="11:59:59")
    told.poll("12:01:20", automation(cron="0 * * * *"))
    (moment,) = [each for due in told.timetable.collect_due(at("12:31:00")) for each in due.fire_times]
    assert moment.scheduled_for == at("12:00:00")
    assert moment.due > at("12:01:20")


def test_a_jittered_one_that_comes_due_after_the_start_waits_for_no_reading() -> None:
    told = Told("12:01:10", policies=make_policies(jitter=timedelta(minutes=30)))
    told.load(
        recorded(automation(cron="0 * * * *"), since="10:00:00"), watermark="10:59:59", previous="10:59:59"
    )
    assert told.plan("12:31:00") == {A: ["12:00"]}
    told.poll("12:31:10", automation(cron="0 * * * *"))
    assert told.plan("12:31:20") == {A: ["11:00"]}


def test_what_was_removed_is_remembered_for_what_no_reading_has_confirmed() -> None:
    told = Told("12:01:10", policies=make_policies(jitter=timedelta(minutes=30)))
    hourly = DefinitionVersion(
        A, "a", Definition("0 * * * *", "UTC", enabled=True), at("10:00:00"), at("10:00:00")
    )
    told.load({}, watermark="10:30:00", previous="12:01:00", ended=[EndedVersion(hourly, at("12:01:00"))])
    assert told.plan("12:31:00") == {A: ["12:00"]}
    told.poll("12:31:10")
    (due,) = told.timetable.collect_due(at("12:31:20"))
    assert (shown([due]), due.entry.end_reason) == ({A: ["11:00"]}, "deleted")


def test_after_a_restart_a_version_that_ended_has_the_policies_of_the_present_name() -> None:
    told = Told("12:02:10")
    told.policies["renamed"] = make_policies(jitter=timedelta(minutes=30))
    hourly = DefinitionVersion(
        A, "a", Definition("0 * * * *", "UTC", enabled=True), at("10:00:00"), at("10:00:00")
    )
    now = recorded(automation(cron="30 3 * * *", name="renamed"), since="12:01:00")
    told.load(now, watermark="11:30:00", previous="12:01:00", ended=[EndedVersion(hourly, at("12:01:00"))])
    told.poll("12:02:20", automation(cron="30 3 * * *", name="renamed"))
    assert told.plan("12:02:30") == {}
    assert told.plan("12:31:00") == {A: ["12:00"]}


# ---------------------------------------------------------------- validity that is not what was recorded


def test_one_recorded_as_invalid_that_is_valid_now_fires_nothing_from_before() -> None:
    told = Told("12:03:10")
    known = {A: replace(recorded(automation())[A], invalid="unknown time zone")}
    definition = Definition("* * * * *", "UTC", enabled=True)
    assert told.load(known, watermark="12:01:00", previous="12:01:00") == [
        DefinitionVersion(A, "a", definition, at("12:03:10"), at("12:03:10"))
    ]
    assert told.timetable.entries[A].effective_from == at("12:03:10")
    told.poll("12:03:20", automation())
    assert told.plan("12:05:00") == {A: ["12:04", "12:05"]}


def test_one_recorded_as_valid_that_is_invalid_now_is_a_version() -> None:
    told = Told("12:03:10")
    (version,) = told.load(
        recorded(automation(timezone="Mars/Olympus")), watermark="12:01:00", previous="12:01:00"
    )
    assert (version.automation_id, version.effective_from, version.invalid is None) == (
        A,
        at("12:03:10"),
        False,
    )
    assert told.timetable.entries[A].effective_from == at("12:03:10")


def test_what_is_as_valid_as_it_was_recorded_is_no_version() -> None:
    wrong = automation(B, timezone="Mars/Olympus")
    told = Told("12:00:10")
    (added,) = told.poll("12:00:20", wrong).added
    known = recorded(automation(), automation("c" * 8, cron="61 * * * *", enabled=False)) | {
        B: replace(recorded(wrong)[B], invalid=added.invalid),
        "d" * 8: replace(recorded(automation("d" * 8))["d" * 8], broken="its enabled is int"),
    }
    assert Told("12:03:10").load(known, watermark="12:01:00") == []


# ---------------------------------------------------------------- the watermark


def test_the_watermark_is_never_past_something_that_is_not_planned() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B, "*/5 * * * *"))
    assert told.watermark("12:00:20") == "12:00:10"
    dues = told.timetable.collect_due(at("12:05:00"))
    assert told.watermark("12:05:00") == "12:00:59.999999"
    assert clock(told.timetable.compute_watermark(at("12:05:00"), dues)) == "12:05:00"
    only_a = [due for due in dues if due.entry.automation.id == A]
    assert clock(told.timetable.compute_watermark(at("12:05:00"), only_a)) == "12:04:59.999999"
    told.timetable.mark_durable(dues)
    assert told.watermark("12:05:00") == "12:05:00"


def test_the_watermark_is_never_ahead_of_the_present() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.plan("12:01:00")
    assert told.watermark("12:00:59") == "12:00:59"


def test_the_watermark_waits_for_what_no_reading_has_confirmed() -> None:
    told = Told("12:03:10")
    told.load(recorded(automation()), watermark="12:01:00", previous="12:01:00")
    told.plan("12:04:00")
    assert told.watermark("12:04:00") == "12:01:59.999999"
    told.poll("12:04:10", automation())
    told.plan("12:04:11")
    assert told.watermark("12:04:11") == "12:04:11"


def test_the_watermark_waits_for_what_jitter_lets_wait() -> None:
    told = Told("12:00:10", policies=make_policies(jitter=timedelta(minutes=20)))
    told.poll("12:00:20", automation(cron="*/30 * * * *"), automation(B, "*/10 * * * *"))
    told.plan("12:30:00")
    assert told.watermark("12:30:00") == "12:29:59.999999"
    told.plan("12:39:00")
    assert (
        told.watermark("12:39:00") == "12:29:59.999999"
        if told.timetable.wake_at == at("12:40:00")
        else "12:39:00"
    )


# ---------------------------------------------------------------- when to look again


def test_it_wakes_for_what_is_due_and_for_what_is_not_planned() -> None:
    told = Told("12:00:10")
    assert told.timetable.wake_at is None
    told.poll("12:00:20", automation(cron="*/5 * * * *"), automation(B, "*/3 * * * *"))
    assert told.timetable.wake_at == at("12:03:00")
    told.due("12:03:00")
    assert told.timetable.wake_at == at("12:03:00")
    told.plan("12:03:00")
    assert told.timetable.wake_at == told.timetable.schedule_heap.next_instant == at("12:05:00")
    told.poll("12:03:10", automation(cron="*/5 * * * *"))
    told.poll("12:03:20", automation(enabled=False))
    assert told.timetable.wake_at is None


def test_after_a_step_back_it_is_all_due_again() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.plan("12:05:00")
    told.due("12:06:00")
    told.timetable.rewind(at("12:02:30"), watermark=at("12:02:30"))
    assert told.timetable.wake_at == at("12:03:00")
    assert told.watermark("12:02:30") == "12:02:30"
    assert told.plan("12:07:00") == {A: ["12:03", "12:04", "12:05", "12:06", "12:07"]}


def test_after_a_step_back_what_was_not_planned_before_stays_due_also_of_a_version_that_ended() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.due("12:05:00")
    told.poll("12:05:10", automation(enabled=False, updated="12:03:30"))
    told.timetable.rewind(at("12:04:00"), watermark=at("12:00:59"))
    assert told.plan("12:06:00") == {A: ["12:01", "12:02", "12:03"]}


def test_after_a_step_back_what_a_version_that_ended_had_is_due_again() -> None:
    """A span that reached beyond the new present was taken back whole."""
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.plan("12:05:00")
    told.poll("12:05:10", automation(cron="*/2 * * * *", updated="12:03:30"))
    told.plan("12:05:20")
    before = DefinitionVersion(
        A, "a", Definition("* * * * *", "UTC", enabled=True), at("12:00:20"), at("12:00:20")
    )
    told.timetable.rewind(
        at("12:04:30"), watermark=at("12:01:30"), ended=[EndedVersion(before, at("12:03:30"))]
    )
    assert told.plan("12:06:00") == {A: ["12:02", "12:03", "12:04", "12:06"]}


@pytest.mark.parametrize(
    "shown",
    [
        [automation(cron="30 * * * *", updated="12:02:05")],
        [automation(enabled=False, updated="12:02:05")],
        [],
    ],
)
def test_after_a_step_back_what_its_jitter_lets_wait_stays_also_of_a_version_that_ended(
    shown: list[Automation],
) -> None:
    told = Told("11:50:10", policies=make_policies(jitter=timedelta(minutes=30)))
    told.poll("11:50:20", automation(cron="0 * * * *"))
    assert told.plan("12:02:00") == {}
    told.poll("12:02:10", *shown)
    told.poll("12:02:20", *shown)
    told.timetable.rewind(at("12:01:00"), watermark=at("11:50:15"))
    assert told.plan("12:29:00") == {A: ["12:00"]}
    assert told.watermark("12:29:00") == "12:29:00"


def test_after_a_step_back_a_version_that_ended_has_the_policies_of_the_present_name() -> None:
    """A new name is no new version: the ended version is on record with the old name."""
    told = Told("12:00:10")
    jittery = told.policies["renamed"] = make_policies(jitter=timedelta(seconds=50))
    told.poll("12:00:20", automation())
    told.poll("12:00:30", automation(name="renamed"))
    wait = make_fire_time(jittery, "main", A, at("12:04:00"), at("12:05:00")).due - at("12:04:00")
    assert timedelta(seconds=5) < wait
    told.plan("12:03:59")
    assert told.plan("12:04:02") == {}
    told.poll("12:04:03", automation(name="renamed", cron="*/30 * * * *", updated="12:04:02"))
    before = DefinitionVersion(
        A, "a", Definition("* * * * *", "UTC", enabled=True), at("12:00:20"), at("12:00:20")
    )
    told.timetable.bring_into_force(at("12:04:01"))
    told.timetable.rewind(
        at("12:04:01"), watermark=at("12:03:59"), ended=[EndedVersion(before, at("12:04:01"))]
    )
    assert told.plan("12:04:03") == {}
    assert told.plan("12:05:00") == {A: ["12:04"]}
    assert told.plan("12:06:00") == {}


@pytest.mark.parametrize("reloaded", [False, True])
def test_after_a_step_back_what_a_clock_ahead_found_too_late_is_decided_by_the_right_one(
    reloaded: bool,
) -> None:
    """The newest may still start, and the one that its jitter lets wait is not late; also when other rules
    evaluate the time again.
    """
    jittery = make_policies(jitter=timedelta(minutes=5))
    told = Told("12:00:10", policies=jittery)
    told.poll("12:00:20", automation())
    wait = make_fire_time(jittery, "main", A, at("12:04:00"), at("12:05:00")).due - at("12:04:00")
    assert timedelta(seconds=10) < wait
    assert told.due("14:00:00")[A]
    assert [each.begin for each in told.timetable.find_late(10)] == [
        at("12:01:00") - timedelta(microseconds=1)
    ]
    if reloaded:
        told.timetable.reconsider(partial(Schedule.parse, dst_repeat="twice"), at("14:00:00"))
    told.timetable.bring_into_force(at("12:04:05"))
    told.timetable.rewind(at("12:04:05"), watermark=at("12:00:59"))
    assert told.plan("12:04:06") == {A: ["12:03"]}
    assert [(clock(each.begin), clock(each.end)) for each in told.timetable.find_late(10)] == [
        ("12:00:59.999999", "12:02:59.999999")
    ]
    told.timetable.mark_late_durable(told.timetable.find_late(10))
    assert told.plan("12:05:00") == {A: ["12:04"]}


def test_after_a_step_back_nothing_that_was_unconfirmed_and_lies_ahead_again_is_too_late() -> None:
    """A machine starts with its clock half an hour ahead, and is set right before the first good poll."""
    told = Told("12:00:10")
    told.load(recorded(automation()), watermark="11:00:00", previous="11:29:50")
    told.timetable.bring_into_force(at("11:30:20"))
    told.timetable.rewind(at("11:30:20"), watermark=at("11:00:00"))
    told.poll("11:30:20", automation(updated="10:00:00"))
    assert told.plan("11:30:20") == {A: ["11:30"]}
    assert [each.end for each in told.timetable.find_late(10)] == [at("11:30:00") - timedelta(microseconds=1)]
    assert told.plan("11:31:00") == {A: ["11:31"]}


def test_after_a_step_back_nothing_is_claimed_that_an_older_one_could_be_coalesced_into() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.timetable.entries[A].claimed = at("13:00:00")
    told.timetable.bring_into_force(at("12:02:30"))
    assert told.timetable.entries[A].claimed is None


def test_a_version_observed_under_a_clock_that_was_ahead_fires_when_the_clock_is_right() -> None:
    """A machine starts with its clock an hour ahead, reads the API, and is set right. Nothing from before it
    is set right fires.
    """
    told = Told("13:00:10")
    told.poll("13:00:20", automation())
    told.timetable.bring_into_force(at("12:00:25"))
    told.timetable.rewind(at("12:00:25"), watermark=at("11:30:00"))
    assert told.plan("12:02:00") == {A: ["12:01", "12:02"]}


def test_a_version_recorded_under_a_clock_that_was_ahead_fires_after_a_restart() -> None:
    told = Told("12:00:30")
    told.load(recorded(automation(), since="13:00:20"), watermark="12:00:25")
    told.poll("12:00:40", automation())
    assert told.plan("12:01:00") == {A: ["12:01"]}


def test_a_step_back_to_what_was_not_planned_yet_changes_nothing() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())
    told.plan("12:01:00")
    told.timetable.rewind(at("12:01:30"), watermark=at("12:01:30"))
    assert told.plan("12:02:00") == {A: ["12:02"]}


def test_new_settings_evaluate_everything_anew() -> None:
    told = Told("12:00:10")
    told.poll(
        "12:00:20", automation(), automation(B, "61 * * * *"), automation(A.replace("a", "c"), enabled=False)
    )
    told.due("12:01:00")
    told.default = make_policies(paused=True)
    versions = told.timetable.reconsider(lambda _, zone: Schedule.parse("*/2 * * * *", zone), at("12:01:00"))
    assert [(each.automation_id, each.invalid) for each in versions] == [(B, None)]
    assert {entry.state for entry in told.timetable.entries.values()} == {"paused", "disabled"}
    assert told.plan("12:04:00") == {A: ["12:01", "12:02", "12:04"], B: ["12:02", "12:04"]}


def test_what_becomes_invalid_under_new_zone_data_is_told() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation())

    def refuse(expression: str, _zone: str) -> Schedule:
        return Schedule.parse(expression, "Mars/Olympus")

    (version,) = told.timetable.reconsider(refuse, at("12:00:30"))
    assert version.automation_id == A
    assert version.invalid is not None
    assert told.plan("12:04:00") == {}


def under_other_zone_data(expression: str, timezone: str) -> Schedule:
    """Mars/Olympus is known now, and UTC not any more."""
    return Schedule.parse(expression, "UTC" if timezone == "Mars/Olympus" else "Mars/Olympus")


@pytest.mark.parametrize(("passed", "reloaded"), [("12:01:30", "12:04:30"), ("12:04:31", "12:04:30")])
def test_new_zone_data_divides_time_as_an_edit_does(passed: str, reloaded: str) -> None:
    """Whether what was evaluated before lies behind the present or, claimed ahead, beyond it."""
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B, timezone="Mars/Olympus"))
    told.due(passed)
    versions = told.timetable.reconsider(under_other_zone_data, at(reloaded))
    assert {each.automation_id: each.effective_from for each in versions} == {
        A: at(reloaded),
        B: at(reloaded),
    }
    assert {entry.effective_from for entry in told.timetable.entries.values()} == {at(reloaded)}
    assert told.plan("12:06:00") == {A: ["12:01", "12:02", "12:03", "12:04"], B: ["12:05", "12:06"]}


def test_what_was_claimed_ahead_of_new_zone_data_is_the_new_versions() -> None:
    told = Told("12:00:10")
    told.poll("12:00:20", automation(), automation(B, timezone="Mars/Olympus"))
    told.plan("12:00:59")
    told.due("12:01:00")
    told.timetable.reconsider(under_other_zone_data, at("12:00:59"))
    assert told.plan("12:01:01") == {B: ["12:01"]}


def test_the_numbers_by_state_follow_edits_names_policies_and_reloads() -> None:
    told = Told("12:00:00")
    told.poll("12:00:10", automation(A), automation(B, enabled=False), broken={"c": "no name"})
    assert told.count() == {"enabled": 1, "disabled": 1, "invalid": 1}
    told.policies[A] = make_policies(paused=True)
    told.poll("12:00:20", automation(A, name="other"), automation(B), broken={"c": "no name"})
    assert told.count() == {"paused": 1, "enabled": 1, "invalid": 1}
    told.policies.clear()
    told.timetable.reconsider(Schedule.parse, at("12:00:25"))
    assert told.count() == {"enabled": 2, "invalid": 1}
    told.timetable.remove(A, at("12:00:30"), at("12:00:30"))
    assert told.count() == {"enabled": 1, "invalid": 1}


def test_a_bulk_edit_evaluates_once_for_each_schedule_and_not_for_each_automation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told("12:00:00")
    ids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(300)]
    told.poll("12:00:10", *(automation(each, "0 3 * * *", updated="11:00:00") for each in ids))
    evaluated: list[str] = []
    for name in ("find_next", "iterate_between"):
        monkeypatch.setattr(Schedule, name, _counting(getattr(Schedule, name), name, evaluated))
    edited = [
        automation(each, "0 4 * * *", updated=f"12:00:{11 + number % 20}") for number, each in enumerate(ids)
    ]
    changes = told.poll("12:00:40", *edited)
    assert len(changes.changed) == 300
    assert len(evaluated) < 10


def _counting(original: Callable[..., object], name: str, calls: list[str]) -> Callable[..., object]:
    def counted(*args: object) -> object:
        calls.append(name)
        return original(*args)

    return counted
