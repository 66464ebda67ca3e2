"""Spans that are written by their bounds, without a list of instants, and the gaps that say what is not
decided yet.
"""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.backfill import FireRequest, Reopening
from scheduler.core.cron.schedule import Schedule
from scheduler.core.model import (
    Claim,
    ClaimPlan,
    Definition,
    DefinitionVersion,
    Gap,
    Occurrence,
    OpenOccurrence,
    Reason,
    Skip,
    SkippedSpan,
    SnapshotUpdate,
    State,
)
from scheduler.core.recorded_state import EndedVersion
from scheduler.ledger import spans
from tests.fakes import LedgerDouble
from tests.ledger.support import (
    HOURLY,
    MAIN,
    NIGHTLY,
    NOON,
    URL,
    Stand,
    at,
    attempt,
    automation,
    claim,
    occurrence,
    skip,
    version,
)

JUST_BEFORE = timedelta(microseconds=1)
DAY = 24 * 60


def definition(cron: str) -> Definition:
    return Definition(cron, "UTC", enabled=True)


def span(
    cron: str, first: int, last: int, *, automation_id: str = NIGHTLY, reason: Reason = Reason.MISSED
) -> SkippedSpan:
    """All that the expression implies between two minutes after noon, both included if it implies them."""
    schedule = Schedule.parse(cron, "UTC")
    instants = list(schedule.iterate_between(at(first) - JUST_BEFORE, at(last)))
    of = Occurrence(MAIN, automation_id, instants[0])
    return SkippedSpan(
        of,
        "nightly report",
        instants[0],
        definition(cron),
        schedule,
        instants[-1],
        len(instants),
        reason,
        at(99_999),
    )


def written(on: Stand, *wanted: SkippedSpan, gaps: Sequence[Gap] = ()) -> dict[int, int]:
    """The rows that were made, by their first minute, with how many occurrences each holds."""
    made = on.do(on.ledger.claim(MAIN, ClaimPlan([], [], at(0), spans=wanted, gaps=gaps)))
    return {round((each.scheduled_for - NOON).total_seconds() / 60): count for each, count in made.items()}


def known(on: Stand, *crons: str) -> None:
    """Versions of the automation's definition, and how they are evaluated."""
    versions = [version(automation(cron=cron), -60) for cron in crons]
    utc = [
        each.__class__(each.automation_id, each.name, definition(cron), at(-60), at(-59))
        for each, cron in zip(versions, crons, strict=True)
    ]
    on.do(on.ledger.record_snapshot(MAIN, SnapshotUpdate(at(-59), utc, [], [])))
    on.do(on.ledger.record_evaluation(at(-60), dst_gap="after", dst_repeat="once"))  # type: ignore[attr-defined]  # SqliteLedger's own


def rows(on: Stand) -> list[tuple[int, int, int, str | None, bool]]:
    """First minute, last minute, count, intervals, and whether a definition is named."""
    select = (
        "SELECT scheduled_for, last, count, intervals, definition_id IS NOT NULL FROM occurrence ORDER "
        "BY scheduled_for"
    )
    return [
        (_minute(first), _minute(last), int(str(count)), None if text is None else str(text), bool(named))
        for first, last, count, text, named in on.rows(select)
    ]


def _minute(text: object) -> int:
    return round((datetime.fromisoformat(str(text)) - NOON).total_seconds() / 60)


def test_a_span_names_its_definition_and_lists_nothing(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *", "* * * * *")
    assert written(ledger, span("* * * * *", 1, 30 * DAY)) == {1: 30 * DAY}
    assert rows(ledger) == [(1, 30 * DAY, 30 * DAY, None, True)]
    select = """
        SELECT cron_expression, dst_gap FROM occurrence
        JOIN definition ON definition.id = definition_id JOIN evaluation ON evaluation.id = evaluation_id
    """
    assert ledger.rows(select) == [("* * * * *", "after")]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Every instant that is listed."""
    found: list[datetime] = []
    between = Schedule.iterate_between

    def listing(self: Schedule, after: datetime, until: datetime) -> object:
        for instant in between(self, after, until):
            found.append(instant)
            yield instant

    monkeypatch.setattr(Schedule, "iterate_between", listing)
    return found


def test_a_long_span_costs_no_list_of_instants(ledger: Stand, listed: list[datetime]) -> None:
    known(ledger, "* * * * *")
    month = span("* * * * *", 1, 30 * DAY)
    listed.clear()
    written(ledger, month)
    written(ledger, month)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(17)], [skip(18, 19)], at(0))))
    assert len(listed) <= 100
    assert isinstance(_reopened(ledger, 14 * DAY), OpenOccurrence)
    assert len(listed) <= 6 * DAY  # the ends of the two new spans, not what is between


def test_many_rows_in_the_way_of_a_long_span_cost_as_much_as_there_are_rows(
    ledger: Stand, listed: list[datetime]
) -> None:
    """As when a daemon is killed within a recovery, and again when it has claimed for some minutes and not
    read the list yet.
    """
    known(ledger, "* * * * *")
    ledger.do(
        ledger.ledger.claim(MAIN, ClaimPlan([claim(30 * DAY - each) for each in range(1, 40, 2)], [], at(0)))
    )
    written(ledger, span("* * * * *", 15 * DAY, 16 * DAY))
    month = span("* * * * *", 1, 30 * DAY)
    listed.clear()
    made = written(ledger, month)
    assert len(listed) <= 6 * DAY
    assert sorted(made)[:3] == [1, 16 * DAY + 1, 30 * DAY - 38]
    assert sum(made.values()) == 29 * DAY - 1 - 20


def test_a_single_occurrence_names_no_definition(ledger: Stand) -> None:
    known(ledger, "0 * * * *")
    written(ledger, span("0 * * * *", 60, 61))
    assert rows(ledger) == [(60, 60, 1, None, False)]


@pytest.mark.parametrize("there", [[5], [5, 6], list(range(3, 40, 3))], ids=["one", "two", "many"])
def test_a_span_is_written_around_what_is_there(ledger: Stand, there: list[int]) -> None:
    known(ledger, "* * * * *")
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(minute) for minute in there], [], at(0))))
    made = written(ledger, span("* * * * *", 1, 100))
    assert sum(made.values()) == 100 - len(there)
    covered = [minute for first, last, _, _, _ in rows(ledger) for minute in range(first, last + 1)]
    assert covered == list(range(1, 101))


def test_the_same_span_again_makes_nothing_and_a_longer_one_makes_the_rest(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *")
    assert written(ledger, span("*/2 * * * *", 2, 3 * DAY)) == {2: 3 * DAY // 2}
    assert written(ledger, span("*/2 * * * *", 2, 3 * DAY)) == {}
    assert written(ledger, span("*/2 * * * *", 0, 3 * DAY + 4)) == {0: 1, 3 * DAY + 2: 2}


def test_what_a_span_stands_for_divides_nothing(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *")
    written(ledger, span("*/2 * * * *", 2, 200))
    assert ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(4)], [skip(100, 102)], at(0)))) == {}
    assert rows(ledger) == [(2, 200, 100, None, True)]


def test_what_an_edit_implied_late_divides_a_span_by_its_bounds(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *")
    written(ledger, span("*/2 * * * *", 2, 200))
    made = ledger.do(
        ledger.ledger.claim(MAIN, ClaimPlan([claim(51, first=attempt())], [skip(101, 102, 103)], at(0)))
    )
    assert made == {occurrence(51): 1, occurrence(101): 1, occurrence(103): 1}
    assert rows(ledger) == [
        (2, 50, 25, None, True),
        (51, 51, 1, None, False),
        (52, 100, 25, None, True),
        (101, 101, 1, None, False),
        (102, 102, 1, None, False),
        (103, 103, 1, None, False),
        (104, 200, 49, None, True),
    ]


def test_a_span_of_another_definition_is_divided_where_both_overlap(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *", "*/3 * * * *")
    written(ledger, span("*/2 * * * *", 2, 200))
    made = written(ledger, span("*/3 * * * *", 183, 300))
    assert made == {183: 1, 189: 1, 195: 1, 201: 34}
    assert rows(ledger) == [
        (2, 182, 91, None, True),
        (183, 183, 1, None, False),
        (184, 188, 3, "[[120,2]]", False),
        (189, 189, 1, None, False),
        (190, 194, 3, "[[120,2]]", False),
        (195, 195, 1, None, False),
        (196, 200, 3, None, True),
        (201, 300, 34, None, True),
    ]


def _reopened(on: Stand, minute: int) -> OpenOccurrence | str:
    request = FireRequest(occurrence(minute), at(60), "ada")
    return on.do(on.ledger.reopen(request, Reopening("nightly report", at(minute), at(90_000), at(61))))


@pytest.mark.parametrize(
    ("minute", "left"),
    [
        (50, [(2, 48, 24, None, True), (50, 50, 1, None, False), (52, 200, 75, None, True)]),
        (2, [(2, 2, 1, None, False), (4, 200, 99, None, True)]),
        (200, [(2, 198, 99, None, True), (200, 200, 1, None, False)]),
    ],
)
def test_one_of_a_span_can_be_fired(ledger: Stand, minute: int, left: list[object]) -> None:
    known(ledger, "*/2 * * * *")
    written(ledger, span("*/2 * * * *", 2, 200))
    assert isinstance(_reopened(ledger, minute), OpenOccurrence)
    assert rows(ledger) == left


def test_what_lies_between_the_bounds_and_is_not_of_the_span_cannot(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *")
    written(ledger, span("*/2 * * * *", 2, 200))
    assert _reopened(ledger, 51) == "what is on record of it has changed meanwhile; ask again"


def test_a_divided_span_is_due_where_its_jitter_says(ledger: Stand) -> None:
    known(ledger, "*/2 * * * *")
    late = span("*/2 * * * *", 2, 10)
    jittered = SkippedSpan(
        late.occurrence,
        late.name,
        at(2.5),
        late.definition,
        late.schedule,
        late.last,
        late.count,
        late.reason,
        late.at,
    )
    written(ledger, jittered)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([claim(5)], [], at(6))))
    assert [
        str(row[0])[14:19] for row in ledger.rows("SELECT due FROM occurrence ORDER BY scheduled_for")
    ] == ["02:30", "05:00", "06:30"]


# ---------------------------------------------------------------- gaps

GAP = Gap(at(10), at(20))


def test_gaps_are_what_the_newest_transaction_says(ledger: Stand) -> None:
    written(ledger, span("* * * * *", 1, 5), gaps=[GAP, Gap(at(30), at(40))])
    assert ledger.do(ledger.ledger.bind(MAIN, URL, "1")).gaps == (GAP, Gap(at(30), at(40)))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50), gaps=[GAP])))
    assert ledger.do(ledger.ledger.bind(MAIN, URL, "1")).gaps == (GAP,)
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50))))
    assert ledger.do(ledger.ledger.bind(MAIN, URL, "1")).gaps == ()


def test_the_gaps_of_another_target_stay(ledger: Stand) -> None:
    ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1"))
    ledger.do(ledger.ledger.claim("other", ClaimPlan([], [], at(50), gaps=[GAP])))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50))))
    assert ledger.do(ledger.ledger.bind("other", "https://eu.posthog.com", "1")).gaps == (GAP,)


def test_what_lies_in_a_gap_is_not_lacking(ledger: Stand) -> None:
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50), gaps=[GAP])))
    expected = [occurrence(minute) for minute in (9, 10, 11, 20, 21)]
    assert ledger.do(ledger.ledger.find_missing(MAIN, expected)) == {
        occurrence(9),
        occurrence(10),
        occurrence(21),
    }
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50), gaps=[Gap(at(10), at(20), HOURLY)])))
    assert NIGHTLY < HOURLY
    assert ledger.do(ledger.ledger.find_missing(MAIN, [occurrence(15), occurrence(15, HOURLY)])) == {
        occurrence(15)
    }


def test_versions_that_ended_in_a_gap_are_recalled(ledger: Stand) -> None:
    of = automation()
    first, second = version(of, 5), version(automation(cron="0 4 * * *"), 15)
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(16), [first], [], [])))
    ledger.do(ledger.ledger.record_snapshot(MAIN, SnapshotUpdate(at(16), [second], [], [])))
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50))))
    assert ledger.do(ledger.ledger.bind(MAIN, URL, "1")).ended == ()
    ledger.do(ledger.ledger.claim(MAIN, ClaimPlan([], [], at(50), gaps=[GAP])))
    assert ledger.do(ledger.ledger.bind(MAIN, URL, "1")).ended == (EndedVersion(first, at(15)),)


# ---------------------------------------------------------------- whatever is written over what

_CRONS = ("* * * * *", "*/2 * * * *", "*/3 * * * *", "1-59/4 * * * *")
_span = st.tuples(st.just("span"), st.sampled_from(_CRONS), st.integers(0, 120), st.integers(4, 240))
_claims = st.tuples(st.just("claim"), st.just(""), st.integers(0, 240), st.integers(1, 3))
_skips = st.tuples(st.just("skip"), st.sampled_from(_CRONS), st.integers(0, 240), st.integers(4, 12))
_fires = st.tuples(st.just("fire"), st.just(""), st.integers(0, 240), st.just(0))


class Writes:
    """The rules in a few lines: each instant belongs to the first write with it, or to its backfill.

    A row has the instants of one write that follow each other without an instant of another write in between.
    """

    def __init__(self, ledger: LedgerDouble) -> None:
        self.ledger = ledger
        self.owners: dict[datetime, int] = {}
        self.open: set[datetime] = set()
        self.count = 0

    async def bind(self) -> None:
        """Bind the target, and record the definition versions that the spans refer to."""
        await self.ledger.bind(MAIN, URL, "1")
        versions = [
            DefinitionVersion(NIGHTLY, "nightly report", definition(cron), at(-60), at(-59))
            for cron in _CRONS
        ]
        await self.ledger.record_snapshot(MAIN, SnapshotUpdate(at(-59), versions, [], []))

    async def carry_out(self, what: str, cron: str, first: int, length: int) -> None:
        """Carry out a step, and compare the answer."""
        if what == "fire":
            await self._fire(at(first))
        elif what == "claim":
            await self._claim([claim(first + each) for each in range(length)])
        else:
            wanted = span(cron, first, first + length)
            skips, spans = ([_skip_of(wanted)], []) if what == "skip" else ([], [wanted])
            made = await self.ledger.claim(MAIN, ClaimPlan([], skips, at(0), spans=spans))
            assert made == self._note(_skip_of(wanted).instants)

    async def _claim(self, claims: Sequence[Claim]) -> None:
        made = await self.ledger.claim(MAIN, ClaimPlan(claims, [], at(0)))
        expected: dict[Occurrence, int] = {}
        for each in claims:
            noted = self._note([each.occurrence.scheduled_for])
            self.open.update(occurrence.scheduled_for for occurrence in noted)
            expected |= noted
        assert made == expected

    async def _fire(self, instant: datetime) -> None:
        if instant not in self.owners:
            return  # nothing to make up for
        self.ledger.ask(FireRequest(Occurrence(MAIN, NIGHTLY, instant), at(60), "ada"))
        (request,) = await self.ledger.read_fire_requests(MAIN)
        reopening = Reopening("nightly report", instant, at(90_000), at(61))
        answer = await self.ledger.reopen(request, reopening)
        if instant in self.open:
            assert answer in {"it is open (waiting)", "it is open (claimed)"}
            return
        assert isinstance(answer, OpenOccurrence)
        assert (answer.occurrence.scheduled_for, answer.state) == (instant, State.WAITING)
        self.open.add(instant)
        self.count += 1
        self.owners[instant] = self.count

    def _note(self, instants: Sequence[datetime]) -> dict[Occurrence, int]:
        """Note a write of these instants; the rows that it makes."""
        self.count += 1
        for instant in instants:
            self.owners.setdefault(instant, self.count)
        return {
            Occurrence(MAIN, NIGHTLY, group[0]): len(group)
            for owner, group in self.list_rows()
            if owner == self.count
        }

    def list_rows(self) -> list[tuple[int, list[datetime]]]:
        """The write and the instants of each row, in order."""
        return [
            (owner, list(group)) for owner, group in groupby(sorted(self.owners), key=self.owners.__getitem__)
        ]


def _skip_of(wanted: SkippedSpan) -> Skip:
    return skip(
        *(
            _minute(each.isoformat())
            for each in wanted.schedule.iterate_between(
                wanted.occurrence.scheduled_for - JUST_BEFORE, wanted.last
            )
        )
    )


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(_span | _claims | _skips | _fires, min_size=1, max_size=7), few=st.sampled_from([1, 8]))
def test_each_instant_has_its_one_row_whatever_is_written_over_what(
    steps: Sequence[tuple[str, str, int, int]], few: int
) -> None:
    async def write(ledger: LedgerDouble) -> Writes:
        ledger.took = 0.0
        writes = Writes(ledger)
        await writes.bind()
        for step in steps:
            await writes.carry_out(*step)
        return writes

    before, spans._FEW = spans._FEW, few  # type: ignore[misc]  # both ways to ask a span what it stands for
    try:
        with closing(LedgerDouble()) as ledger:
            writes = asyncio.run(write(ledger))
            rows = [ledger.list_instants(row) for row in ledger.of(NIGHTLY)]
            bounds = [(row.scheduled_for, row.last, row.count) for row in ledger.of(NIGHTLY)]
    finally:
        spans._FEW = before  # type: ignore[misc]
    expected = [instants for _, instants in writes.list_rows()]
    assert rows == expected
    assert bounds == [(instants[0], instants[-1], len(instants)) for instants in expected]
