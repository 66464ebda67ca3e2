"""The drawing of what fires next: the same fires as the schedules give, one by one or many at once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.status import AutomationDetails
from scheduler.ops.page.timeline import DAY, HOUR, Fires, Scale, Timeline, TimelineRow, make_timeline
from tests.defaults import make_policies
from tests.ops.support import NOW, details, entry


def some(
    count: int, expression: str = "*/10 * * * *", target: str = "main", name: str = "a"
) -> list[AutomationDetails]:
    return [
        details(entry(f"{name}{number}", expression, f"id-{name}-{number}"), target)
        for number in range(count)
    ]


def fires(*groups: Sequence[AutomationDetails]) -> Fires:
    """What groups that share a schedule each have in the coming day, after now."""

    def found() -> Iterator[tuple[datetime, Sequence[AutomationDetails]]]:
        for group in groups:
            schedule = group[0].schedule
            assert schedule is not None
            yield from (
                (instant, group) for instant in schedule.iterate_between(NOW, NOW + timedelta(days=1))
            )

    return sorted(found(), key=lambda fire: fire[0])


def drawn(of: Fires, scale: Scale = HOUR) -> Timeline:
    return make_timeline(of, scale, NOW + timedelta(seconds=12), None)


def _count(lane: TimelineRow) -> int:
    return sum(count for _, count in lane.parts)


def test_a_few_automations_have_a_lane_each() -> None:
    line = drawn(fires(some(2), some(1, "5 * * * *", name="b")))
    assert [(lane.label, _count(lane)) for lane in line.rows] == [("a0", 5), ("a1", 5), ("b0", 1)]
    assert line.description == "11 fires of 3 automations, at most 1 in a minute."


def test_more_of_them_share_a_lane_for_each_target() -> None:
    line = drawn(fires(some(9), some(3, target="other")))
    assert [(lane.label, lane.automation, _count(lane)) for lane in line.rows] == [
        ("main", None, 45),
        ("other", None, 15),
    ]
    assert line.most == 9


def test_many_targets_share_one() -> None:
    line = drawn(fires(*(some(1, target=f"t{number}") for number in range(9))))
    assert [(lane.label, _count(lane)) for lane in line.rows] == [("all targets", 45)]


@pytest.mark.parametrize("scale", [HOUR, DAY])
def test_nothing_is_nothing(scale: Scale) -> None:
    line = drawn((), scale)
    assert (line.count, line.rows) == (0, [])
    assert line.description == f"Nothing is scheduled in the {scale.words}."


def test_the_present_is_at_the_left_and_a_bar_stands_at_its_time() -> None:
    def first(expression: str, scale: Scale) -> float:
        (lane,) = drawn(fires(some(1, expression)), scale).rows
        return lane.bars[0].x

    assert first("21 20 * * *", HOUR) == pytest.approx(
        100 / 60, abs=0.01
    )  # in Berlin; the minute after the present one
    assert first("50 20 * * *", HOUR) == pytest.approx(50, abs=0.01)
    assert first("20 8 * * *", DAY) == pytest.approx(50, abs=0.01)


def test_what_is_paused_is_drawn_on_top_and_otherwise() -> None:
    active, paused = (
        some(9),
        [
            details(
                replace(entry(f"p{number}", automation_id=f"p{number}"), policies=make_policies(paused=True))
            )
            for number in range(3)
        ],
    )
    (lane,) = drawn(fires(active, paused)).rows
    below, above = lane.bars[:2]
    assert [(bar.count, bar.paused) for bar in (below, above)] == [(9, False), (3, True)]
    assert (
        drawn(fires(active, paused)).description
        == "45 fires of 12 automations, at most 12 in a minute. 15 more are paused."
    )
    assert above.y + above.height == pytest.approx(below.y, abs=0.1)
    assert below.x == above.x


def test_ticks_are_round_times_in_utc_and_midnight_is_a_date() -> None:
    assert [tick.label for tick in drawn((), HOUR).ticks] == ["19:30", "19:40", "19:50", "20:00", "20:10"]
    assert [tick.label for tick in drawn((), DAY).ticks] == [
        "24 Nov",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
        "15:00",
        "18:00",
    ]
    assert [tick.label for tick in drawn((), DAY).ticks if not tick.minor] == [
        "24 Nov",
        "06:00",
        "12:00",
        "18:00",
    ]


def test_the_table_tells_the_fires_between_the_ticks() -> None:
    (lane,) = drawn(fires(some(1, "*/30 * * * *")), DAY).rows
    assert lane.parts[:2] == [("19:20 to 21:00", 3), ("21:00 to 00:00", 6)]
    assert lane.parts[-1] == ("18:00 to 19:20", 3)  # also at 18:00 itself


def test_what_was_not_evaluated_is_said() -> None:
    cut = make_timeline(fires(some(1)), DAY, NOW, NOW + timedelta(hours=2))
    assert "Fires after 21:20 UTC are left out" in cut.description
    assert "left out" not in make_timeline(fires(some(1)), HOUR, NOW, NOW + timedelta(hours=2)).description


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["*/7 * * * *", "5 * * * *", "0 3 * * *", "* * * * *"])),
        min_size=1,
        max_size=4,
    ),
    scale=st.sampled_from([HOUR, DAY]),
)
def test_bars_and_table_hold_every_fire_once_and_lie_within_the_drawing(
    groups: list[tuple[int, str]], scale: Scale
) -> None:
    of = fires(
        *(some(count, expression, name=f"g{number}-") for number, (count, expression) in enumerate(groups))
    )
    line = drawn(of, scale)
    expected = sum(len(group) for instant, group in of if instant < NOW.replace(second=0) + scale.span)
    assert all(
        max(bar.height for bar in lane.bars) > 17 for lane in line.rows if lane.automation
    )  # rare ones are seen beside busy ones
    assert sum(bar.count for lane in line.rows for bar in lane.bars) == expected
    assert sum(count for lane in line.rows for _, count in lane.parts) == expected == line.count
    for lane in line.rows:
        for bar in lane.bars:
            assert bar.x >= 0
            assert bar.x + bar.width <= 100
            assert lane.y < bar.y + bar.height <= lane.base + 0.1
            assert bar.y >= lane.y - 12
        assert lane.base < line.height
