"""However readings, edits, planning and crashes follow each other: every instant of every version in force is
handed out, and only once.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import model
from scheduler.core.backlog import BacklogInterval
from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import Automation, Definition, Gap, Snapshot
from scheduler.core.policy import Policies
from scheduler.core.recorded_state import EndedVersion, RecordedAutomation
from scheduler.core.timetable import DueFireTimes, Timetable
from tests.defaults import make_policies

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CONFIRM_AFTER = timedelta(seconds=20)
SECOND = timedelta(seconds=1)
AHEAD = SECOND
EXPRESSIONS = ("* * * * *", "*/3 * * * *", "*/5 * * * *", "17 * * * *")
IDS = ("a", "b", "c")

Step = tuple[str, object, object]


@dataclass
class Version:
    """What an automation's schedule is from an instant on; None: nothing."""

    expression: str | None
    since: datetime


@dataclass
class Model:
    """The API, a poller and a planner around a timetable, and what must come of it, by another way than the
    timetable's.
    """

    policies: Policies
    now: datetime = NOON + 20 * SECOND
    api: dict[str, tuple[str, bool, datetime]] = field(default_factory=dict)
    polled: datetime | None = None
    absent: dict[str, datetime] = field(default_factory=dict)
    versions: dict[str, list[Version]] = field(default_factory=dict)
    recorded: dict[str, RecordedAutomation] = field(default_factory=dict)
    watermark: datetime | None = None
    gaps: Sequence[Gap] = ()
    handed: dict[str, Counter[datetime]] = field(default_factory=lambda: {each: Counter() for each in IDS})
    ever: dict[str, set[datetime]] = field(default_factory=lambda: {each: set() for each in IDS})

    def __post_init__(self) -> None:
        self.timetable = self._made()

    def _made(self) -> Timetable:
        return Timetable("main", now=self.now, policies=lambda *_: self.policies)

    # ------------------------------------------------------------ what happens

    def take(self, step: Step) -> None:
        what, one, other = step
        if what == "edit":
            assert isinstance(one, str)
            assert isinstance(other, str)
            self.edit(one, other)
        elif what == "pass":
            assert isinstance(one, int)
            self.now += one * SECOND
            self.plan(str(other))
        elif what == "poll":
            self.poll(complete=bool(other))
        else:
            self.crash()

    def edit(self, automation_id: str, to: str) -> None:
        expression, enabled, _ = self.api.get(automation_id, ("* * * * *", True, self.now))
        if to == "delete":
            self.api.pop(automation_id, None)
        elif to == "switch":
            self.api[automation_id] = (expression, not enabled, self.now)
        else:
            self.api[automation_id] = (to, enabled, self.now)

    def plan(self, how: str) -> None:
        if how == "nothing":
            return
        dues = self.timetable.collect_due(self.now + AHEAD)
        planned = dues[:1] if how == "one" else dues if how == "all" else []
        if planned:
            self.watermark, self.gaps = (
                self.timetable.compute_watermark(self.now, planned),
                self.timetable.backlog.find_gaps(),
            )
        self.timetable.mark_durable(planned)
        self._hand(planned)
        while how == "all" and (overdue := self.timetable.find_late(1000)):
            self.gaps = self.timetable.backlog.find_gaps(overdue)
            self.timetable.mark_late_durable(overdue)
            self._hand_over(overdue)

    def _hand_over(self, overdue: list[BacklogInterval]) -> None:
        for each in overdue:
            instants = list(each.schedule.iterate_between(each.begin, each.end))
            self.handed[each.automation_id].update(instants)
            self.ever[each.automation_id].update(instants)

    def _hand(self, planned: list[DueFireTimes]) -> None:
        for due in planned:
            for moment in due.fire_times:
                assert moment.due <= self.now + AHEAD
                self.handed[due.entry.automation.id][moment.scheduled_for] += 1
                self.ever[due.entry.automation.id].add(moment.scheduled_for)

    def poll(self, *, complete: bool) -> None:
        self.now += SECOND
        automations = {
            each: Automation(each, each, Definition(cron, "UTC", on), at)
            for each, (cron, on, at) in self.api.items()
        }
        begun = self.now.timestamp()
        snapshot = Snapshot(self.now, begun, begun, automations, {}, complete, 0.0)
        changes = self.timetable.update(
            snapshot, previous_poll=self.polled, confirm_after=CONFIRM_AFTER.total_seconds()
        )
        assert self.timetable.states == Counter(entry.state for entry in self.timetable.entries.values())
        for each, (cron, enabled, at) in self.api.items():
            known = self.recorded.get(each)
            if known is None or known.automation.definition != automations[each].definition:
                previous = self.polled or self.now
                self._observe(
                    each, cron if enabled else None, min(max(at, previous), self.now), automations[each]
                )
        self._remove(complete=complete)
        versions = [*changes.added, *changes.changed, *changes.removed]
        assert {each.automation_id: each.effective_from for each in versions} == {
            each.automation_id: self.versions[each.automation_id][-1].since for each in versions
        }
        self.watermark = min([self.watermark or self.now, *(each.effective_from for each in versions)])
        self.polled = self.now

    def _observe(
        self, automation_id: str, expression: str | None, since: datetime, automation: Automation | None
    ) -> None:
        self.versions.setdefault(automation_id, []).append(Version(expression, since))
        for instant in [each for each in self.handed[automation_id] if each > since]:
            del self.handed[automation_id][
                instant
            ]  # the old version's, handed out before anybody saw the edit: taken back
        if automation is None:
            del self.recorded[automation_id]
        else:
            self.recorded[automation_id] = RecordedAutomation(automation, since, None)

    def _remove(self, *, complete: bool) -> None:
        missing = self.recorded.keys() - self.api.keys()
        self.absent = {each: since for each, since in self.absent.items() if each in missing}
        if not complete:
            return
        for each in sorted(missing):
            if self.now - self.absent.setdefault(each, self.now) >= CONFIRM_AFTER:
                del self.absent[each]
                self._observe(each, None, self.now, None)

    def crash(self) -> None:
        self.now += SECOND
        self.timetable = self._made()
        list(
            self.timetable.load(
                self.recorded, watermark=self.watermark, ended=[*self._ended()], gaps=self.gaps
            )
        )
        self.absent.clear()

    def _ended(self) -> Iterator[EndedVersion]:
        """The versions that ended after the watermark or the first gap, as the ledger would recall them."""
        earliest = min(
            [*(gap.since for gap in self.gaps), *([] if self.watermark is None else [self.watermark])],
            default=None,
        )
        for automation_id, versions in self.versions.items():
            for version, following in pairwise(versions):
                if version.expression is not None and earliest is not None and following.since > earliest:
                    definition = Definition(version.expression, "UTC", enabled=True)
                    yield EndedVersion(
                        model.DefinitionVersion(
                            automation_id, automation_id, definition, version.since, version.since
                        ),
                        following.since,
                    )

    # ------------------------------------------------------------ what must have come of it

    def finish(self) -> None:
        self.poll(complete=True)
        for _ in range(3):  # jitter lets some wait
            self.now += timedelta(hours=1)
            self.plan("all")

    def meant(self, automation_id: str) -> set[datetime]:
        versions = self.versions.get(automation_id, [])
        ends = [each.since for each in versions[1:]] + [self.now - timedelta(hours=1)]
        return {
            instant
            for version, end in zip(versions, ends, strict=False)
            if version.expression is not None and version.since < end
            for instant in Schedule.parse(version.expression, "UTC").iterate_between(version.since, end)
        }

    def implied(self, automation_id: str) -> set[datetime]:
        """By any version at any time, also beyond its end."""
        return {
            instant
            for version in self.versions.get(automation_id, [])
            if version.expression is not None
            for instant in Schedule.parse(version.expression, "UTC").iterate_between(
                version.since, self.now + AHEAD
            )
        }


POLICIES = st.sampled_from([make_policies(), make_policies(jitter=timedelta(minutes=25))])
PASSES = st.tuples(
    st.just("pass"),
    st.integers(1, 400) | st.integers(1000, 9000),
    st.sampled_from(["nothing", "due", "one", "all"]),
)
EDITS = st.tuples(st.just("edit"), st.sampled_from(IDS), st.sampled_from([*EXPRESSIONS, "switch", "delete"]))
POLLS = st.tuples(st.just("poll"), st.none(), st.sampled_from([True, True, True, False]))
CRASHES = st.tuples(st.just("crash"), st.none(), st.none())


@settings(max_examples=150, deadline=None)
@given(policies=POLICIES, steps=st.lists(PASSES | EDITS | POLLS, max_size=40))
def test_every_instant_of_every_version_in_force_is_handed_out_once(
    policies: Policies, steps: list[Step]
) -> None:
    story = Model(policies)
    for step in steps:
        story.take(step)
    story.finish()
    settled = story.now - timedelta(hours=1)
    for each in IDS:
        handed = {instant: count for instant, count in story.handed[each].items() if instant <= settled}
        assert handed == dict.fromkeys(story.meant(each), 1)


@settings(max_examples=150, deadline=None)
@given(policies=POLICIES, steps=st.lists(PASSES | EDITS | POLLS | CRASHES, max_size=40))
def test_no_crash_loses_an_instant_and_none_invents_one(policies: Policies, steps: list[Step]) -> None:
    story = Model(policies)
    for step in steps:
        story.take(step)
    story.finish()
    for each in IDS:
        assert story.meant(each) <= story.ever[each] <= story.implied(each)
