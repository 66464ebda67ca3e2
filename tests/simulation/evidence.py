"""What a simulation left behind, read for the checks: the ledger's rows, what the API really did, what was
sent, shown and told.

Nothing of the daemon's own decisions is used here, and nothing is judged.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import pairwise

from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.events import DaemonStarted, OccurrenceConcluded, SnapshotFailed, SnapshotTaken
from scheduler.core.instants import from_text
from scheduler.core.model import Occurrence, make_idempotency_key
from scheduler.core.policy import Policies
from scheduler.settings.models import Settings
from tests.simulation.api import StartedRun
from tests.simulation.counting import list_instants
from tests.simulation.network import Link, Sent, Shown
from tests.simulation.process import Process
from tests.simulation.script import LIST
from tests.simulation.violation import Violation
from tests.simulation.world import Told, Trouble, World


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as recorded."""

    number: int
    written_at: datetime
    ended_at: datetime | None
    result: str | None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step as recorded."""

    cause: str
    at: datetime
    until: datetime | None


@dataclass(slots=True)
class Row:
    """An occurrence or a span as recorded."""

    id: int
    target: str
    automation_id: str
    scheduled_for: datetime
    last: datetime
    count: int
    name: str
    due: datetime
    deadline: datetime | None
    state: str | None
    outcome: str | None
    reason: str | None
    claimed_at: datetime | None
    finished_at: datetime | None
    run_id: str | None
    error: str | None
    attempts: list[AttemptRow] = field(default_factory=list)
    steps: list[StepRow] = field(default_factory=list)

    @property
    def occurrence(self) -> Occurrence:
        """Its identity; of a span, that of the first."""
        return Occurrence(self.target, self.automation_id, self.scheduled_for)

    @property
    def fate(self) -> str:
        """Its outcome with its reason, or its state."""
        return f"open: {self.state}" if self.outcome is None else f"{self.outcome}: {self.reason}"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a definition as recorded. ``schedule`` None: it fires nothing."""

    automation_id: str
    schedule: tuple[str, str] | None
    effective_from: datetime
    observed_at: datetime
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A recorded gap: from ``since`` to ``until`` the automations from ``automation_id`` on, in the order of
    ids, are undecided.
    """

    since: datetime
    until: datetime
    automation_id: str


class Evidence:
    """All of it, by what it is asked for."""

    def __init__(self, world: World, ledger: sqlite3.Connection | None = None) -> None:
        self.world = world
        self.file = world.file
        self._ledger = ledger  # a copy of the ledger as it was at some time; None: as it is at the end
        self._policies: dict[tuple[int, str, str], Policies] = {}
        self._timelines: dict[tuple[tuple[str, str], tuple[str, str]], Sequence[datetime]] = {}

    # ------------------------------------------------------------ the ledger

    @cached_property
    def rows(self) -> list[Row]:
        """Every row, in the order of the scheduled instants."""
        rows = [_row(each) for each in self._select("SELECT * FROM occurrence ORDER BY scheduled_for, id")]
        by_id = {row.id: row for row in rows}
        for each in self._select("SELECT * FROM attempt ORDER BY number"):
            by_id[each["occurrence_id"]].attempts.append(
                AttemptRow(
                    each["number"], from_text(each["written_at"]), _instant(each["ended_at"]), each["result"]
                )
            )
        for each in self._select("SELECT * FROM step ORDER BY at"):
            by_id[each["occurrence_id"]].steps.append(
                StepRow(each["cause"], from_text(each["at"]), _instant(each["until"]))
            )
        return rows

    @cached_property
    def rows_of(self) -> dict[tuple[str, str], list[Row]]:
        """By target and automation."""
        found: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            found[row.target, row.automation_id].append(row)
        return dict(found)

    @cached_property
    def versions(self) -> dict[tuple[str, str], list[VersionRow]]:
        """By target and automation, in the order in which they were recorded."""
        found: defaultdict[tuple[str, str], list[VersionRow]] = defaultdict(list)
        for each in self._select("SELECT * FROM definition ORDER BY id"):
            fires = each["enabled"] and each["invalid"] is None and not each["removed"]
            schedule = (each["cron_expression"], each["timezone"]) if fires else None
            since, seen_at = from_text(each["effective_from"]), from_text(each["observed_at"])
            version = VersionRow(each["automation_id"], schedule, since, seen_at, bool(each["removed"]))
            found[each["target"], each["automation_id"]].append(version)
        return dict(found)

    @cached_property
    def run_rows(self) -> dict[tuple[str, str], sqlite3.Row]:
        """By target and run."""
        return {(each["target"], each["run_id"]): each for each in self._select("SELECT * FROM run")}

    @cached_property
    def unattributed(self) -> set[tuple[str, str]]:
        """The targets and ids of the runs that may belong to an attempt of an open occurrence."""
        open_rows = {
            (row.target, row.automation_id) for row in self.rows if row.outcome is None and row.attempts
        }
        return {
            (each["target"], each["run_id"])
            for each in self._select("SELECT target, run_id, automation_id FROM unattributed_run")
            if (each["target"], each["automation_id"]) in open_rows
        }

    def watermark(self, target: str) -> datetime | None:
        """Of a target."""
        for each in self._select("SELECT watermark FROM target WHERE name = ?", target):
            return None if each["watermark"] is None else from_text(each["watermark"])
        return None

    def _select(self, query: str, *values: str) -> list[sqlite3.Row]:
        if self._ledger is None:
            return self.file.read(lambda connection: connection.execute(query, values).fetchall())
        self._ledger.row_factory = sqlite3.Row
        return self._ledger.execute(query, values).fetchall()

    @cached_property
    def gaps(self) -> dict[str, list[Gap]]:
        """Spans of time, by target, for which the ledger says that not everything is decided yet."""
        found: defaultdict[str, list[Gap]] = defaultdict(list)
        for each in self._select("SELECT * FROM gap"):
            found[each["target"]].append(
                Gap(from_text(each["since"]), from_text(each["until"]), each["automation_id"])
            )
        return dict(found)

    # ------------------------------------------------------------ what really happened

    def link(self, target: str) -> Link:
        """The way to its API."""
        return self.world.links[target]

    def key(self, occurrence: Occurrence) -> str:
        """Under which it is sent."""
        return _key(occurrence)

    @cached_property
    def runs(self) -> dict[tuple[str, str], StartedRun]:
        """The runs that the APIs started, by target and run."""
        return {(target, run.id): run for target, link in self.world.links.items() for run in link.api.runs}

    @cached_property
    def runs_of(self) -> dict[tuple[str, str], list[StartedRun]]:
        """The same by target and automation, in their order."""
        found: defaultdict[tuple[str, str], list[StartedRun]] = defaultdict(list)
        for target, link in self.world.links.items():
            for run in link.api.runs:
                found[target, run.automation_id].append(run)
        return dict(found)

    @cached_property
    def sent(self) -> dict[str, list[Sent]]:
        """Requests to run by their key, in order."""
        found: defaultdict[str, list[Sent]] = defaultdict(list)
        for link in self.world.links.values():
            for sent in link.sent:
                found[sent.key].append(sent)
        return dict(found)

    @cached_property
    def _shown(self) -> dict[str, list[Shown]]:
        found: defaultdict[str, list[Shown]] = defaultdict(list)
        for link in self.world.links.values():
            for shown in link.shown:
                for automation_id in shown.runs:
                    found[automation_id].append(shown)
        return {each: sorted(shown, key=lambda one: one.ended) for each, shown in found.items()}

    def shown(self, automation_id: str, begin: datetime, end: datetime) -> list[Shown]:
        """Reads of an automation that were begun at ``begin`` or later and had ended by ``end``."""
        shown = self._shown.get(automation_id, [])
        first = bisect_left(shown, begin, key=lambda one: one.ended)
        last = bisect_left(shown, end, key=lambda one: one.ended)
        return [each for each in shown[first:last] if each.begun >= begin]

    @cached_property
    def overruled(self) -> dict[str, list[tuple[int, datetime, datetime]]]:
        """By target, when lists were read whose pages disagreed, or that were not read to their end, with the
        process that read them.

        One poll follows the other: each begins after the end of the one before was told. Of a list that one
        page holds, the last pass counts when its pages agree.
        """
        found: defaultdict[str, list[tuple[int, datetime, datetime]]] = defaultdict(list)
        ended: dict[tuple[str, int], datetime] = {}
        for told in self.world.events:
            match told.event:
                case SnapshotFailed(target=target) | SnapshotTaken(target=target, incomplete=True):
                    found[target].append(
                        (
                            told.process,
                            ended.get((target, told.process), datetime.min.replace(tzinfo=UTC)),
                            told.at,
                        )
                    )
                case SnapshotTaken(target=target):
                    before = ended.get((target, told.process), datetime.min.replace(tzinfo=UTC))
                    if len(pages := self._find_pages(target, told.process, before, told.at)) > 1:
                        found[target].append((told.process, before, pages[-2].begun))
                case _:
                    continue
            ended[target, told.process] = told.at
        return dict(found)

    def _find_pages(self, target: str, process: int, begin: datetime, end: datetime) -> Sequence[Shown]:
        """Find the pages that a process was shown in that time, in their order, of a list that fits into one
        page.
        """
        pages = self._pages.get((target, process), [])
        return pages[
            bisect_right(pages, begin, key=lambda page: page.begun) : bisect_right(
                pages, end, key=lambda page: page.begun
            )
        ]

    @cached_property
    def _pages(self) -> dict[tuple[str, int], list[Shown]]:
        pages: defaultdict[tuple[str, int], list[Shown]] = defaultdict(list)
        for target, link in self.world.links.items():
            for shown in link.shown:
                if shown.endpoint == LIST and link.plan.has_one_page:
                    pages[target, shown.process].append(shown)
        return {key: sorted(some, key=lambda page: page.begun) for key, some in pages.items()}

    @cached_property
    def conclusions(self) -> dict[Occurrence, list[Told]]:
        """What was told of outcomes, by the occurrence."""
        found: defaultdict[Occurrence, list[Told]] = defaultdict(list)
        for told in self.world.events:
            if isinstance(told.event, OccurrenceConcluded):
                found[told.event.occurrence].append(told)
        return dict(found)

    def concluded_at(self, row: Row) -> datetime | None:
        """When it was told that a row had its outcome, on the true clock; None when nobody got to tell."""
        told = [each for each in self.conclusions.get(row.occurrence, []) if _same(each, row)]
        return told[-1].at if told else None

    def process(self, number: int) -> Process:
        """By its number."""
        return self.world.processes[number]

    # ------------------------------------------------------------ settings and clocks

    def policies(self, row: Row, begin: datetime, end: datetime) -> set[Policies]:
        """What the policies of its automation may have been in that time."""
        newer = [each for each in self.world.configured if each.at <= end]
        older = [each for each in newer if each.at <= begin]
        counted = newer[max(len(older) - 1, 0) :]
        return {self._policies_under(each.settings, row.automation_id, row.name) for each in counted}

    def _policies_under(self, settings: Settings, automation_id: str, name: str) -> Policies:
        asked = (id(settings), automation_id, name)
        if asked not in self._policies:
            self._policies[asked] = settings.find_policies(automation_id, name)
        return self._policies[asked]

    def settle(self, begin: datetime, end: datetime) -> timedelta:
        """The shortest settle time in force in that time."""
        newer = [each for each in self.world.configured if each.at <= end]
        older = [each for each in newer if each.at <= begin]
        return min(each.settings.schedule.settle_time for each in newer[max(len(older) - 1, 0) :])

    @property
    def was_set(self) -> bool:
        """Whether the wall clock ever was."""
        return len(self.world.offsets) > 1

    @property
    def was_set_back(self) -> bool:
        """Whether it was ever set to an earlier time."""
        offsets = [offset for _, offset in self.world.offsets]
        return any(after < before for before, after in pairwise(offsets))

    def right(self, begin: datetime, end: datetime) -> bool:
        """Whether the wall clock was right all that time."""
        before = [offset for at, offset in self.world.offsets if at <= begin] or [0.0]
        within = [offset for at, offset in self.world.offsets if begin < at <= end]
        return not any(abs(each) > 0.001 for each in (before[-1], *within))

    @cached_property
    def variants(self) -> list[tuple[str, str]]:
        """The rules for clock changes that ever were in force."""
        return sorted(
            {
                (each.settings.schedule.dst_gap, each.settings.schedule.dst_repeat)
                for each in self.world.configured
            }
        )

    def implied(
        self, schedule: tuple[str, str] | None, begin: datetime, end: datetime
    ) -> tuple[set[datetime], set[datetime]]:
        """The instants after ``begin`` up to ``end`` that a schedule surely implies, and those that it may
        imply.
        """
        if schedule is None or begin >= end:
            return set(), set()
        each = [set(self._implied_by(schedule, rules, begin, end)) for rules in self.variants]
        return set.intersection(*each), set.union(*each)

    def known_since(self, row: "Row") -> datetime | None:
        """Since when the versions on record have implied it without a break. One that did not was an edit, or
        a broken object.
        """
        just_before = row.scheduled_for - timedelta(microseconds=1)
        versions = self.versions.get((row.target, row.automation_id), [])
        known = None
        for version in reversed([each for each in versions if each.effective_from < row.scheduled_for]):
            if not self.implied(version.schedule, just_before, row.scheduled_for)[1]:
                break
            known = version.observed_at
        return known

    def count_implied(
        self, schedule: tuple[str, str] | None, begin: datetime, end: datetime
    ) -> tuple[int, int]:
        """Count the instants after ``begin`` up to ``end``: those that a schedule surely implies, and those
        that it may imply.
        """
        if schedule is None or begin >= end:
            return 0, 0
        if len(self.variants) == 1:
            timeline = self._timeline(schedule, self.variants[0])
            if self._first <= begin and end <= self._last:
                count = bisect_right(timeline, end) - bisect_right(timeline, begin)
                return count, count
        surely, maybe = self.implied(schedule, begin, end)
        return len(surely), len(maybe)

    def _implied_by(
        self, schedule: tuple[str, str], rules: tuple[str, str], begin: datetime, end: datetime
    ) -> Sequence[datetime]:
        if begin < self._first or end > self._last:
            return _instants(schedule, rules, begin, end)
        timeline = self._timeline(schedule, rules)
        return timeline[bisect_right(timeline, begin) : bisect_right(timeline, end)]

    def _timeline(self, schedule: tuple[str, str], rules: tuple[str, str]) -> Sequence[datetime]:
        """Every instant of a schedule while the simulation lasted: thousands of automations share one."""
        if (schedule, rules) not in self._timelines:
            self._timelines[schedule, rules] = _instants(schedule, rules, self._first, self._last)
        return self._timelines[schedule, rules]

    @cached_property
    def _first(self) -> datetime:
        return self.world.setting.begin - timedelta(hours=2)

    @cached_property
    def _last(self) -> datetime:
        return (self.world.ended or self.world.clock.true_now()) + timedelta(hours=2)

    def slept(self, begin: datetime, end: datetime) -> bool:
        """Whether the machine was suspended in that time."""
        return any(
            each.what == "suspended" and each.begin <= end and (each.end or end) >= begin
            for each in self.world.troubles
        )

    def is_budget_busy(self, target: str, begin: datetime, end: datetime) -> bool:
        """Return whether the request budget may have held up what was due in that time.

        Polls and readings may keep a quarter of each limit to themselves.
        """
        plan, times = self.link(target).plan, self._request_times(target)
        for length, limit in (
            (timedelta(minutes=1), plan.requests_per_minute),
            (timedelta(hours=1), plan.requests_per_hour),
        ):
            usable = limit - limit // 4 - 3
            first, last = bisect_left(times, begin - length), bisect_right(times, end)
            if any(times[each + usable] - times[each] <= length for each in range(first, last - usable)):
                return True
        return False

    @lru_cache(maxsize=4)  # noqa: B019  it lives as long as the evidence of one world, which is dropped whole
    def _request_times(self, target: str) -> list[datetime]:
        return [request.at for request in self.link(target).requests]

    def crowd(self, row: Row) -> int:
        """Count the occurrences that were due when this one was."""
        return self._crowds[row.target, row.due]

    @cached_property
    def _crowds(self) -> Counter[tuple[str, datetime]]:
        return Counter((row.target, row.due) for row in self.rows)

    def is_ledger_in_trouble(self, begin: datetime, end: datetime) -> bool:
        """Return whether commits took long then: requests that had their place left later, and together."""
        return any(
            trouble.what.startswith("ledger")
            and trouble.begin <= end
            and (trouble.end is None or trouble.end >= begin)
            for trouble in self.world.troubles
        )

    def is_hidden(self, automation_id: str, begin: datetime, end: datetime) -> bool:
        """Return whether the list left this automation out at any time from ``begin`` to ``end``."""
        return any(
            trouble.what.startswith("vanish")
            and automation_id in trouble.automations
            and trouble.begin <= end
            and (trouble.end is None or trouble.end >= begin)
            for trouble in self.world.troubles
        )

    def quiet(self, target: str, begin: datetime, end: datetime, automation_id: str | None = None) -> bool:
        """Whether nothing was wrong in all that time: no trouble of the target or the machine, one process
        that served, the clock right.

        Of troubles of single automations those of ``automation_id`` count; None: those of any.
        """
        if any(
            trouble.begin <= end and (trouble.end is None or trouble.end >= begin)
            for trouble in self.world.troubles
            if trouble.target in {None, target} and _concerns(trouble, automation_id)
        ):
            return False
        if any(
            wait.at <= end and wait.at + timedelta(seconds=wait.seconds) >= begin
            for wait in self.link(target).throttled
        ):
            return False
        if any(begin <= at <= end for at, _ in self.world.offsets) or not self.right(begin, end):
            return False
        return any(
            process.number in self._served_since
            and self._served_since[process.number] <= begin
            and (process.ended_at is None or process.ended_at >= end)
            for process in self.world.processes
        )

    @cached_property
    def _served_since(self) -> dict[int, datetime]:
        """When each process began to serve. A second daemon waits for the lock until then."""
        return {told.process: told.at for told in self.world.events if isinstance(told.event, DaemonStarted)}


@lru_cache(maxsize=400_000)
def _key(occurrence: Occurrence) -> str:
    return make_idempotency_key(
        f"https://{occurrence.target}.example", "1", occurrence.automation_id, occurrence.scheduled_for
    )


def _row(each: sqlite3.Row) -> Row:
    return Row(
        each["id"],
        each["target"],
        each["automation_id"],
        from_text(each["scheduled_for"]),
        from_text(each["last"]),
        each["count"],
        each["name"],
        from_text(each["due"]),
        _instant(each["deadline"]),
        each["state"],
        each["outcome"],
        each["reason"],
        _instant(each["claimed_at"]),
        _instant(each["finished_at"]),
        each["task_run_id"],
        each["error"],
    )


def _concerns(trouble: Trouble, automation_id: str | None) -> bool:
    return automation_id is None or not trouble.automations or automation_id in trouble.automations


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)


def _same(told: Told, row: Row) -> bool:
    event = told.event
    return isinstance(event, OccurrenceConcluded) and (event.outcome, event.reason) == (
        row.outcome,
        row.reason,
    )


@lru_cache(maxsize=4096)
def _instants(
    schedule: tuple[str, str], rules: tuple[str, str], begin: datetime, end: datetime
) -> Sequence[datetime]:
    expression, timezone = schedule
    if timezone == "UTC" and (counted := list_instants(expression, begin, end)) is not None:
        return counted
    try:
        parsed = Schedule.parse(*schedule, dst_gap=rules[0], dst_repeat=rules[1])  # type: ignore[arg-type]  # settings are literals
    except InvalidSchedule:
        return ()
    return tuple(parsed.iterate_between(begin, end))


Check = Iterator[Violation]
