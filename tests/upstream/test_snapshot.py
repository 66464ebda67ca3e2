"""Pages into one snapshot: against a list in memory that changes while it is paged through."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import UpstreamError
from scheduler.core.model import InvalidAutomation, Snapshot, Unreadable
from scheduler.upstream.snapshot import (
    LARGEST_PAGE,
    MOST_AUTOMATIONS,
    ListPage,
    PageTooLarge,
    SnapshotReader,
    to_page,
)
from tests.upstream.support import AUTOMATION

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LARGE = 5_000


def automation_id(number: int) -> str:
    return str(UUID(int=number))


def row(number: int, **changes: object) -> dict[str, object]:
    return {**AUTOMATION, "id": automation_id(number), "name": f"automation {number:06}", **changes}


@dataclass
class List:
    """A list as the API pages it. ``edits`` happen after so many pages; pages hold ``most`` rows, and
    ``capacity`` bytes, a byte a row.
    """

    rows: list[object]
    most: int = LARGEST_PAGE
    edits: dict[int, Callable[[list[object]], None]] = field(default_factory=dict)
    large: dict[int, int] = field(default_factory=dict)  # by index: bytes
    asked: list[tuple[int, int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    time: Iterator[int] = field(default_factory=count)

    async def page(self, *, offset: int, limit: int) -> ListPage:
        self.asked.append((offset, limit))
        rows = self.rows[offset : offset + min(limit, self.most)]
        size = sum(self.large.get(offset + index, 1) for index in range(len(rows)))
        if size > LARGE:
            raise PageTooLarge(self.beginning(offset) if limit == 1 else None)
        self.counts.append(len(self.rows))
        page = ListPage(len(self.rows), rows, size, NOON, float(next(self.time)))
        if edit := self.edits.pop(len(self.asked), None):
            edit(self.rows)
        return page

    def reader(self) -> SnapshotReader:
        return SnapshotReader(self.page, seconds=lambda: float(next(self.time)))

    def beginning(self, index: int) -> object:
        """What can be read of a row that is too large."""
        whole = self.rows[index]
        assert isinstance(whole, dict)
        return {
            name: value if name in {"id", "name"} else Unreadable("too large")
            for name, value in whole.items()
        }

    def read(self) -> Snapshot:
        return asyncio.run(self.reader().read())

    def count_requests(self, polls: int) -> list[int]:
        """Count the requests of so many polls."""
        reader, requests = self.reader(), []
        for _ in range(polls):
            before = len(self.asked)
            asyncio.run(reader.read())
            requests.append(len(self.asked) - before)
        return requests


def numbers(snapshot: Snapshot) -> set[int]:
    return {UUID(id_).int for id_ in snapshot.automations}


# ---------------------------------------------------------------- a list that stays as it is


@given(length=st.integers(0, 40), most=st.integers(1, 12))
def test_a_list_at_rest_is_read_whole_in_one_pass_whatever_the_server_puts_on_a_page(
    length: int, most: int
) -> None:
    automations = List([row(number) for number in range(length)], most=most)
    snapshot = automations.read()
    assert snapshot.complete
    assert numbers(snapshot) == set(range(length))
    assert len(automations.asked) == max(1, -(-length // most))


def test_a_thousand_automations_are_one_request() -> None:
    automations = List([row(number) for number in range(1000)])
    assert len(automations.read().automations) == 1000
    assert automations.asked == [(0, 1000)]


def test_a_snapshot_says_when_it_was_begun_and_ended() -> None:
    snapshot = List([row(number) for number in range(4)], most=2).read()
    assert (snapshot.begun_at, snapshot.begun, snapshot.ended) == (NOON, 0.0, 2.0)


def test_what_did_not_change_is_the_same_object_in_the_next_snapshot() -> None:
    """A hundred thousand new objects every half minute would make the garbage collector stop everything for a
    tenth of a second.
    """
    automations = List([row(0), row(1)])
    reader = SnapshotReader(automations.page, seconds=lambda: 1.0)

    async def main() -> tuple[Snapshot, Snapshot]:
        first = await reader.read()
        automations.rows[1] = row(1, enabled=False)
        return first, await reader.read()

    first, second = asyncio.run(main())
    assert second.automations[automation_id(0)] is first.automations[automation_id(0)]
    assert second.automations[automation_id(1)].definition.enabled is False


# ---------------------------------------------------------------- a list that changes


def insert_first(rows: list[object]) -> None:
    rows.insert(0, row(100))


def delete_first(rows: list[object]) -> None:
    del rows[0]


def rename_first_to_last(rows: list[object]) -> None:
    rows.append(rows.pop(0))


def rename_last_to_first(rows: list[object]) -> None:
    rows.insert(0, rows.pop())


EDITS = [insert_first, delete_first, rename_first_to_last, rename_last_to_first]


@pytest.mark.parametrize("edit", [insert_first, delete_first, rename_last_to_first])
def test_a_change_during_a_pass_makes_it_be_read_again(edit: Callable[[list[object]], None]) -> None:
    automations = List([row(number) for number in range(6)], most=2, edits={1: edit})
    snapshot = automations.read()
    assert snapshot.complete
    assert snapshot.automations.keys() == {each["id"] for each in automations.rows if isinstance(each, dict)}
    assert snapshot.begun > 0.0


def test_a_pass_that_cannot_agree_any_more_is_given_up_at_once() -> None:
    automations = List([row(number) for number in range(20)], most=2, edits={1: insert_first})
    automations.read()
    assert [offset for offset, _ in automations.asked] == [0, 2, *range(0, 21, 2)]


def test_after_three_passes_that_disagree_all_that_was_seen_is_taken_and_an_absence_says_nothing() -> None:
    numbering = count(100)

    def insert_another(rows: list[object]) -> None:
        rows.insert(0, row(next(numbering)))

    automations = List(
        [row(number) for number in range(6)], most=2, edits=dict.fromkeys(range(1, 20), insert_another)
    )
    snapshot = automations.read()
    assert not snapshot.complete
    assert numbers(snapshot) >= set(range(6))
    assert snapshot.begun == 0.0


def test_of_what_passes_saw_differently_the_later_counts() -> None:
    def edit(rows: list[object]) -> None:
        rows[1] = row(1, enabled="broken")
        insert_first(rows)

    automations = List(
        [row(number, enabled=False) for number in range(4)],
        most=2,
        edits={1: edit, 3: insert_first, 5: insert_first},
    )
    snapshot = automations.read()
    assert not snapshot.complete
    assert automation_id(1) in snapshot.broken
    assert automation_id(1) not in snapshot.automations


@given(edits=st.dictionaries(st.integers(1, 12), st.sampled_from(EDITS)))
def test_a_complete_snapshot_holds_as_many_as_its_last_page_counted(
    edits: dict[int, Callable[[list[object]], None]],
) -> None:
    automations = List([row(number) for number in range(9)], most=3, edits=dict(edits))
    snapshot = automations.read()
    assert not snapshot.complete or len(snapshot.automations) == automations.counts[-1]
    assert len(automations.asked) <= 12


def test_a_server_that_ignores_the_offset_ends_in_an_incomplete_snapshot() -> None:
    async def page(*, offset: int, limit: int) -> ListPage:  # noqa: ARG001  that is the point
        return ListPage(5, [row(0), row(1)], 2, NOON, 0.0)

    snapshot = asyncio.run(SnapshotReader(page, seconds=lambda: 1.0).read())
    assert (snapshot.complete, numbers(snapshot)) == (False, {0, 1})
    assert str(snapshot.disagreement).startswith("its pages hold the automation ")


def test_a_server_that_shows_less_than_it_counts_ends_in_an_incomplete_snapshot() -> None:
    async def page(*, offset: int, limit: int) -> ListPage:  # noqa: ARG001  there is but one page
        return ListPage(5, [] if offset else [row(0)], 1, NOON, 0.0)

    snapshot = asyncio.run(SnapshotReader(page, seconds=lambda: 1.0).read())
    assert (snapshot.complete, snapshot.disagreement) == (False, "its count is 5, but its pages hold 1")


# ---------------------------------------------------------------- rows that are broken


def test_a_broken_row_is_put_aside_and_the_others_are_used() -> None:
    snapshot = List([row(0), row(1, cron_expression=None), 7, row(2), {"id": "no uuid"}]).read()
    assert numbers(snapshot) == {0, 2}
    assert {id_: error.reason for id_, error in snapshot.broken.items()} == {
        automation_id(1): "its cron_expression is missing or null, expected str"
    }
    assert snapshot.broken[automation_id(1)].name == "automation 000001"
    assert (snapshot.unidentified, snapshot.complete) == (2, True)


def test_what_was_put_aside_keeps_no_row_alive() -> None:
    class Marker(str):
        __slots__ = ("__weakref__",)

    snapshot = List([row(0, prompt=Marker("large"), enabled=None)]).read()
    gc.collect()
    assert not [
        each for each in gc.get_objects() if type(each) is Marker
    ]  # no more is asked of it: others are lazy
    assert isinstance(snapshot.broken[automation_id(0)], InvalidAutomation)
    assert snapshot.broken[automation_id(0)].__traceback__ is None


@pytest.mark.parametrize("second", [row(1), row(1, enabled=None)])
def test_an_id_that_comes_twice_in_any_form_is_a_disagreement(second: object) -> None:
    undashed = row(1) | {"id": automation_id(1).replace("-", "").upper()}
    assert not List([undashed, second]).read().complete


# ---------------------------------------------------------------- pages that are large


def test_a_page_that_is_too_large_is_read_in_shorter_ones() -> None:
    automations = List([row(number) for number in range(2000)], large=dict.fromkeys(range(2000), 20))
    assert len(automations.read().automations) == 2000
    assert automations.asked[:3] == [(0, 1000), (0, 125), (125, 125)]


def test_a_page_that_had_to_shrink_costs_no_request_in_the_polls_that_follow() -> None:
    heavy = List([row(number) for number in range(600)], large=dict.fromkeys(range(600), 20))
    first, *others = heavy.count_requests(20)
    assert first <= 2 * others[0]
    assert others == [others[0]] * 19
    assert others[0] == 4  # pages of 125, 125, 250 and 100 rows


def test_rows_that_are_long_in_one_place_shorten_the_pages_of_that_place_alone() -> None:
    automations = List(
        [row(number) for number in range(5000)], large=dict.fromkeys(range(1000, 1300), LARGE // 10)
    )
    requests = automations.count_requests(5)
    assert requests[1:] == [requests[1]] * 4
    assert requests[1] <= 300 / 5 + 20


def test_page_sizes_are_found_out_anew_when_the_rows_have_become_short() -> None:
    automations = List([row(number) for number in range(600)], large=dict.fromkeys(range(600), 20))
    reader = automations.reader()
    asyncio.run(reader.read())
    automations.large.clear()
    for _ in range(100):
        asyncio.run(reader.read())
    before = len(automations.asked)
    asyncio.run(reader.read())
    assert len(automations.asked) - before == 1


def test_one_automation_that_is_too_large_for_any_page_is_put_aside_and_the_others_are_used() -> None:
    automations = List([row(number) for number in range(30)], large={17: LARGE + 1})
    snapshot = automations.read()
    assert numbers(snapshot) == set(range(30)) - {17}
    assert (snapshot.unidentified, snapshot.complete) == (0, True)
    assert snapshot.broken[automation_id(17)].name == "automation 000017"


def test_one_that_is_too_large_and_has_no_readable_id_is_counted_by_its_name() -> None:
    rows = [row(number) for number in range(3)]
    snapshot = List([*rows, row(3, id=3)], large={3: LARGE + 1}).read()
    assert (snapshot.unidentified, snapshot.complete, numbers(snapshot)) == (1, True, {0, 1, 2})
    assert snapshot.anonymous == ("automation 000003: its id is not a UUID",)


def test_of_many_that_cannot_be_identified_the_first_are_named() -> None:
    snapshot = List([row(number, id=number, name=None) for number in range(40)]).read()
    assert snapshot.unidentified == 40
    assert len(snapshot.anonymous) == 10
    assert snapshot.anonymous[1] == "object 2 of the list: its id is not a UUID"


def fingerprint(*names: str | None) -> int:
    """Of a list of an automation, objects without a readable id that have these names, and another
    automation.
    """
    return (
        List([row(100), *(row(number, id=number, name=name) for number, name in enumerate(names)), row(200)])
        .read()
        .fingerprint
    )


def test_the_fingerprint_of_objects_that_cannot_be_identified_does_not_depend_on_their_places() -> None:
    assert fingerprint(None, "b", *["a"] * 20) == fingerprint(*["a"] * 20, "b", None)
    assert (
        len(
            {
                fingerprint(*names)
                for names in (
                    [],
                    [None],
                    [None, None],
                    ["a"],
                    ["b"],
                    ["a", "b"],
                    ["a"] * 20,
                    ["a"] * 19 + ["b"],
                )
            }
        )
        == 8
    )


@pytest.mark.parametrize("at", [0, 29])
def test_it_may_be_the_first_or_the_last(at: int) -> None:
    assert len(List([row(number) for number in range(30)], large={at: LARGE + 1}).read().automations) == 29


def test_a_list_of_nothing_but_giants_is_read() -> None:
    snapshot = List([row(number) for number in range(40)], large=dict.fromkeys(range(40), LARGE + 1)).read()
    assert (len(snapshot.broken), len(snapshot.automations), snapshot.complete) == (40, 0, True)


def test_a_list_of_giants_that_does_not_end_is_given_up() -> None:
    async def page(*, offset: int, limit: int) -> ListPage:
        raise PageTooLarge(row(offset) if limit == 1 else None)

    with pytest.raises(UpstreamError, match="more than 1000 automations that are too large"):
        asyncio.run(SnapshotReader(page, seconds=lambda: 1.0).read())


def test_what_is_too_large_and_no_page_is_an_error() -> None:
    async def page(*, offset: int, limit: int) -> ListPage:  # noqa: ARG001  that is the point
        raise PageTooLarge

    with pytest.raises(UpstreamError, match="a page of a single automation is too large to be read"):
        asyncio.run(SnapshotReader(page, seconds=lambda: 1.0).read())


def test_pages_become_shorter_where_rows_are_long() -> None:
    async def page(*, offset: int, limit: int) -> ListPage:
        asked.append(limit)
        return ListPage(
            1500,
            [row(number) for number in range(offset, min(offset + limit, 1500))],
            limit * 10_000,
            NOON,
            0.0,
        )

    asked: list[int] = []
    asyncio.run(SnapshotReader(page, seconds=lambda: 1.0).read())
    assert asked[:3] == [1000, 209, 209]


# ---------------------------------------------------------------- what is no page


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "page",
        {},
        {"count": 1},
        {"count": "1", "results": []},
        {"count": True, "results": []},
        {"count": 1.0, "results": []},
        {"count": 1, "results": {}},
        {"count": -1, "results": []},
        {"count": MOST_AUTOMATIONS + 1, "results": []},
    ],
)
def test_what_is_no_page_is_an_error(value: object) -> None:
    with pytest.raises(UpstreamError):
        to_page(value, size=1, begun_at=NOON, begun=0.0)
