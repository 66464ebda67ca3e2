"""When a schedule fires: the rules at clock changes as tables, and what each question answers."""

import json
from datetime import UTC, datetime, timedelta, timezone
from importlib import metadata
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.cron import expression
from scheduler.core.cron.schedule import FireNote, GapPolicy, RepeatPolicy, Schedule, read_versions

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["cases"]
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(schedule: Schedule, after: str, count: int) -> list[datetime]:
    return list(islice(schedule.iterate_between(at(after), at("9000-01-01")), count))


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_the_golden_cases_come_out_as_debian_has_them(case: dict[str, str]) -> None:
    after = datetime.fromisoformat(case["from"])
    schedule = Schedule.parse(case["cron"], case["timezone"])
    assert list(islice(schedule.iterate_between(after, at("2100-01-01")), 3)) == [
        datetime.fromisoformat(text) for text in case["expected"]
    ]


class Case(NamedTuple):
    """A schedule asked for one UTC day, with the times at which it fires on that day under the one policy and
    under the other.
    """

    shows: str
    zone: str
    expression: str
    day: str
    default: str
    other: str

    def fires(self, schedule: Schedule) -> str:
        found = schedule.iterate_between(at(self.day) - timedelta(minutes=1), at(self.day) + DAY)
        return " ".join("24:00" if instant == at(self.day) + DAY else f"{instant:%H:%M}" for instant in found)


NEW_YORK, HOWE, APIA = "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"

# The policies make no difference.
WILDCARD = [
    Case("nothing for skipped readings", NEW_YORK, "*/30 2 * * *", "2025-03-09", "", ""),
    Case(
        "both passes of repeated ones", NEW_YORK, "*/30 1 * * *", "2025-11-02", "05:00 05:30 06:00 06:30", ""
    ),
    Case(
        "half an hour repeated", HOWE, "*/15 1 * * *", "2025-04-05", "14:00 14:15 14:30 14:45 15:00 15:15", ""
    ),
    Case("half an hour skipped", HOWE, "*/15 2 * * *", "2025-10-04", "15:30 15:45", ""),
    Case(
        "two hours repeated", "Antarctica/Troll", "*/30 2 * * *", "2025-10-26", "00:00 00:30 02:00 02:30", ""
    ),
    Case(
        "a step of hours meets a midnight gap", "America/Santiago", "0 */12 * * 0", "2025-09-07", "15:00", ""
    ),
    Case("a day that is skipped", APIA, "0 */6 30 12 *", "2011-12-30", "", ""),
]

# Skipped fixed times, with `after` and with `skip`.
GAPS = [
    Case("one hour", NEW_YORK, "30 2 * * *", "2025-03-09", "07:00", ""),
    Case("the first reading that is skipped", NEW_YORK, "0 2 * * *", "2025-03-09", "07:00", ""),
    Case("the first reading after it", NEW_YORK, "0 3 * * *", "2025-03-09", "07:00", "07:00"),
    Case("the last reading before it", NEW_YORK, "59 1 * * *", "2025-03-09", "06:59", "06:59"),
    Case("several skipped, one fire", NEW_YORK, "0,20,40 2 * * *", "2025-03-09", "07:00", ""),
    Case("a star later in the list is fixed", NEW_YORK, "40,*/50 2 * * *", "2025-03-09", "07:00", ""),
    Case("a range of hours is fixed", NEW_YORK, "0 1-3 * * *", "2025-03-09", "06:00 07:00", "06:00 07:00"),
    Case("half an hour", HOWE, "15 2 * * *", "2025-10-04", "15:30", ""),
    Case("two hours", "Antarctica/Troll", "30 1,2 30 3 *", "2025-03-30", "01:00", ""),
    Case("from a quarter to the hour", "Pacific/Chatham", "0 3 * * *", "2025-09-27", "14:00", ""),
    Case(
        "just before a quarter to the hour", "Pacific/Chatham", "44 2 * * *", "2025-09-27", "13:59", "13:59"
    ),
    Case("negative summer time", "Europe/Dublin", "30 1 * * *", "2025-03-30", "01:00", ""),
    Case("when Ramadan is over", "Africa/Casablanca", "30 2 * * *", "2025-04-06", "02:00", ""),
    Case("at midnight UTC", "Africa/Casablanca", "30 0 2 5 *", "2010-05-02", "00:00", ""),
    Case("to half a minute past", "Africa/Monrovia", "30 0 7 1 *", "1972-01-07", "00:45", ""),
    Case("midnight, on its day of the week", "America/Havana", "0 0 * * 0", "2025-03-09", "05:00", ""),
    Case("midnight, on its day of the month", "Asia/Beirut", "30 0 30 3 *", "2025-03-29", "22:00", ""),
    Case("midnight, by the name of the day", "Africa/Cairo", "15 0 * * fri", "2025-04-24", "22:00", ""),
    Case("midnight, but of another day", "America/Santiago", "0 0 * * 1-6", "2025-09-07", "", ""),
    Case("moved past midnight", "America/Nuuk", "30 23 * * sat", "2025-03-30", "01:00", ""),
    Case("moved past midnight, but of another day", "America/Nuuk", "30 23 * * sun", "2025-03-30", "", ""),
    Case("a whole day", APIA, "0 9,12 30 12 *", "2011-12-30", "10:00", ""),
    Case("a whole day by its weekday", APIA, "0 9 * * fri", "2011-12-30", "10:00", ""),
]

# Repeated fixed times, with `once` and with `twice`.
REPEATS = [
    Case("one hour", NEW_YORK, "30 1 * * *", "2025-11-02", "05:30", "05:30 06:30"),
    Case("its first reading", NEW_YORK, "0 1 * * *", "2025-11-02", "05:00", "05:00 06:00"),
    Case("the first reading after it", NEW_YORK, "0 2 * * *", "2025-11-02", "07:00", "07:00"),
    Case(
        "a range of hours",
        NEW_YORK,
        "0 0-2 * * *",
        "2025-11-02",
        "04:00 05:00 07:00",
        "04:00 05:00 06:00 07:00",
    ),
    Case("half an hour", HOWE, "45 1 * * *", "2025-04-05", "14:45", "14:45 15:15"),
    Case("two hours", "Antarctica/Troll", "30 2 * * *", "2025-10-26", "00:30", "00:30 02:30"),
    Case("from a quarter to the hour", "Pacific/Chatham", "50 2 * * *", "2025-04-05", "13:05", "13:05 14:05"),
    Case("negative summer time", "Europe/Dublin", "30 1 * * *", "2025-10-26", "00:30", "00:30 01:30"),
    Case("when Ramadan begins", "Africa/Casablanca", "30 2 * * *", "2025-02-23", "01:30", "01:30 02:30"),
    Case("at midnight UTC", "Africa/Windhoek", "30 1 * * *", "2002-04-07", "", "00:30"),
    Case("midnight", "America/Havana", "15 0 * * *", "2025-11-02", "04:15", "04:15 05:15"),
    Case("the evening before", "America/Nuuk", "30 23 * * sat", "2025-10-26", "00:30", "00:30 01:30"),
    Case("the evening before another day", "America/Nuuk", "30 23 * * sun", "2025-10-26", "", ""),
    Case(
        "back over midnight",
        "America/St_Johns",
        "0,1 0 * * *",
        "2010-11-07",
        "02:30 03:31",
        "02:30 03:30 03:31",
    ),
    Case(
        "back over midnight, the day before",
        "America/St_Johns",
        "0,1 23 6 11 *",
        "2010-11-07",
        "01:30 01:31",
        "01:30 01:31 02:31",
    ),
    Case("a whole day", "Pacific/Kwajalein", "0 12 30 9 *", "1969-09-30", "01:00", "01:00 24:00"),
]


def shows(case: Case) -> str:
    return case.shows


@pytest.mark.parametrize("case", WILDCARD, ids=shows)
@pytest.mark.parametrize("gap", ["after", "skip"])
@pytest.mark.parametrize("repeat", ["once", "twice"])
def test_a_wildcard_schedule_follows_the_wall_clock_whatever_the_policies(
    case: Case, gap: GapPolicy, repeat: RepeatPolicy
) -> None:
    schedule = Schedule.parse(case.expression, case.zone, dst_gap=gap, dst_repeat=repeat)
    assert case.fires(schedule) == case.default


@pytest.mark.parametrize("case", GAPS, ids=shows)
@pytest.mark.parametrize("repeat", ["once", "twice"])
def test_a_skipped_fixed_time_fires_at_the_end_of_the_gap_or_not_at_all(
    case: Case, repeat: RepeatPolicy
) -> None:
    assert (
        case.fires(Schedule.parse(case.expression, case.zone, dst_gap="after", dst_repeat=repeat))
        == case.default
    )
    assert (
        case.fires(Schedule.parse(case.expression, case.zone, dst_gap="skip", dst_repeat=repeat))
        == case.other
    )


@pytest.mark.parametrize("case", REPEATS, ids=shows)
@pytest.mark.parametrize("gap", ["after", "skip"])
def test_a_repeated_fixed_time_fires_in_the_first_pass_or_in_both(case: Case, gap: GapPolicy) -> None:
    assert (
        case.fires(Schedule.parse(case.expression, case.zone, dst_gap=gap, dst_repeat="once")) == case.default
    )
    assert (
        case.fires(Schedule.parse(case.expression, case.zone, dst_gap=gap, dst_repeat="twice")) == case.other
    )


@pytest.mark.parametrize(
    ("after", "once", "twice"),
    [
        (
            "2025-11-02T05:30",
            ["05:50"],
            ["05:50", "06:10", "06:50"],
        ),  # in the first pass: the second one lies ahead, though its readings are earlier
        ("2025-11-02T06:30", [], ["06:50"]),  # in the second pass
    ],
)
def test_a_question_in_a_repeated_hour_knows_its_pass(after: str, once: list[str], twice: list[str]) -> None:
    for repeat, expected in (("once", once), ("twice", twice)):
        schedule = Schedule.parse("10,50 1 * * *", NEW_YORK, dst_repeat=cast("RepeatPolicy", repeat))
        assert [
            f"{instant:%H:%M}" for instant in schedule.iterate_between(at(after), at("2025-11-02T12:00"))
        ] == expected


NOTES: list[tuple[str, str, str, FireNote | None]] = [
    ("America/New_York", "30 2 * * *", "2025-03-09T07:00", "after_gap"),
    ("America/New_York", "30 2 * * *", "2025-03-10T06:30", None),
    ("America/New_York", "30 2 * * *", "2025-03-09T06:00", None),  # no fire
    (
        "America/New_York",
        "0 2,3 * * *",
        "2025-03-09T07:00",
        "after_gap",
    ),  # 02:00 is made up, together with 03:00
    ("America/New_York", "0 3 * * *", "2025-03-09T07:00", None),
    ("America/New_York", "0 * * * *", "2025-03-09T07:00", None),
    ("America/New_York", "30 1 * * *", "2025-11-02T05:30", "first_pass"),
    ("America/New_York", "30 1 * * *", "2025-11-02T06:30", None),  # no fire: once
    ("America/New_York", "30 * * * *", "2025-11-02T05:30", "first_pass"),
    ("America/New_York", "30 * * * *", "2025-11-02T06:30", "second_pass"),
    ("America/New_York", "30 * * * *", "2025-11-02T07:30", None),
    ("America/Nuuk", "30 23 * * 6", "2025-10-26T00:30", "first_pass"),
    ("Pacific/Apia", "0 9 30 12 *", "2011-12-30T10:00", "after_gap"),
]


@pytest.mark.parametrize(("zone", "expression", "instant", "note"), NOTES)
def test_a_note_says_what_is_special_about_a_fire(
    zone: str, expression: str, instant: str, note: FireNote | None
) -> None:
    assert Schedule.parse(expression, zone).find_note(at(instant)) == note


def test_the_second_pass_is_noted_where_both_fire() -> None:
    both = Schedule.parse("30 1 * * *", "America/New_York", dst_repeat="twice")
    assert [
        both.find_note(instant) for instant in both.iterate_between(at("2025-11-02"), at("2025-11-03"))
    ] == [
        "first_pass",
        "second_pass",
    ]


def test_fields_of_days_are_combined_as_debian_does() -> None:
    def days(expression: str) -> list[int]:
        return [
            instant.day
            for instant in Schedule.parse(expression, "UTC").iterate_between(
                at("2025-06-01") - DAY / 2, at("2025-06-30T12:00")
            )
        ]

    sundays, odd = [1, 8, 15, 22, 29], list(range(1, 31, 2))
    assert days("0 0 13 * 0") == sorted({13, *sundays})  # neither begins with a star: either
    assert days("0 0 */2 * 0") == [day for day in odd if day in sundays]  # one does: both
    assert days("0 0 15,22 * */7") == [15, 22]
    assert days("0 0 15,* * 1") == list(range(1, 31))  # a star later in the list does not count
    assert days("0 0 * * 1,*") == list(range(1, 31))
    assert days("0 0 1-30 * 2,*/7") == list(range(1, 31))
    assert days("0 0 2 * 0,*/7") == sorted({2, *sundays})
    assert (
        days("0 0 * * 7")
        == days("0 0 * * sun")
        == days("0 0 * * 0-0")
        == days("0 0 * * 7-7")
        == days("0 0 * * SUN-0")
        == sundays
    )
    assert days("0 0 * * 0-7") == list(range(1, 31))


@pytest.mark.parametrize("equal", ["5-5", "05-5", "5-5/1", "5-5/20", "5-5,5"])
def test_a_range_with_equal_ends_is_one_value(equal: str) -> None:
    schedule = Schedule.parse(f"{equal} * * * *", "UTC")
    assert fires(schedule, "2025-01-01T00:00", 2) == [at("2025-01-01T00:05"), at("2025-01-01T01:05")]


def test_equal_ends_count_by_value_in_every_field() -> None:
    assert fires(Schedule.parse("0 3-3 7-7 may-5 *", "UTC"), "2025-01-01", 2) == [
        at("2025-05-07T03:00"),
        at("2026-05-07T03:00"),
    ]
    assert fires(Schedule.parse("0 0 * * mon-mon#2", "UTC"), "2025-01-01", 2) == [
        at("2025-01-13"),
        at("2025-02-10"),
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 29 2 mon#5", "2044-02-29 2072-02-29 2112-02-29"),  # every 28 years, and over 2100 forty
        ("0 0 29 2 *", "2028-02-29 2032-02-29 2036-02-29"),
        ("0 0 31 2 1", "2027-02-01 2027-02-08 2027-02-15"),  # an impossible side leaves the other one
        ("0 0 L 2 *", "2027-02-28 2028-02-29 2029-02-28"),
        ("0 0 15W * *", "2026-12-15 2027-01-15 2027-02-15"),
        ("0 0 * 5 l6", "2027-05-29 2028-05-27 2029-05-26"),
        ("0 0 1 12-1 *", "2026-12-01 2027-01-01 2027-12-01"),
        ("0 0 ? * fri-sun", "2026-11-27 2026-11-28 2026-11-29"),
    ],
)
def test_rare_dates_and_croniters_own_signs_are_found(expression: str, expected: str) -> None:
    assert fires(Schedule.parse(expression, "UTC"), "2026-11-23T19:18", 3) == [
        at(day) for day in expected.split()
    ]


def test_next_is_strictly_later() -> None:
    schedule = Schedule.parse("*/5 * * * *", "Asia/Kathmandu")
    assert schedule.find_next(at("2026-01-01T00:00")) == at("2026-01-01T00:05")
    assert schedule.find_next(at("2026-01-01T00:04:59.999999")) == at("2026-01-01T00:05")


def test_instants_come_back_in_utc_whatever_zone_they_are_asked_in() -> None:
    schedule = Schedule.parse("0 12 * * *", "Europe/London")
    london = datetime(
        2025, 3, 29, 13, tzinfo=ZoneInfo("Europe/London")
    )  # level with UTC, and not a day later
    assert schedule.find_next(london) == at("2025-03-30T11:00")
    assert schedule.find_next(london).tzinfo is UTC  # type: ignore[union-attr]  # it is not None: the line above
    assert schedule.find_previous(datetime(2025, 3, 31, tzinfo=ZoneInfo("Europe/London"))) == at(
        "2025-03-30T11:00"
    )
    assert schedule.is_fire_time(datetime(2025, 3, 30, 19, tzinfo=timezone(timedelta(hours=8))))


@pytest.mark.parametrize("question", ["find_next", "find_previous", "is_fire_time", "find_note"])
def test_a_naive_instant_is_refused(question: str) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  (that is the point)
    with pytest.raises(ValueError, match="no zone"):
        getattr(Schedule.parse("* * * * *", "UTC"), question)(naive)


def test_a_naive_end_of_a_span_is_refused_when_it_is_given() -> None:
    schedule = Schedule.parse("* * * * *", "UTC")
    with pytest.raises(ValueError, match="no zone"):
        schedule.iterate_between(at("2026-01-01"), datetime(2026, 1, 1))  # noqa: DTZ001  (that is the point)
    with pytest.raises(ValueError, match="no zone"):
        schedule.iterate_between(datetime(2026, 1, 1), at("2026-01-01"))  # noqa: DTZ001  (that is the point)


def test_a_span_holds_its_end_and_not_its_beginning() -> None:
    schedule = Schedule.parse("* * * * *", "UTC")
    noon = at("2026-01-01T12:00")
    assert list(schedule.iterate_between(noon, noon + timedelta(minutes=2))) == [
        noon + timedelta(minutes=1),
        noon + timedelta(minutes=2),
    ]
    assert list(schedule.iterate_between(noon, noon)) == []
    assert list(schedule.iterate_between(noon, noon - DAY)) == []


def test_a_zone_with_seconds_in_its_offset_fires_when_its_clock_shows_the_minute() -> None:
    schedule = Schedule.parse(
        "15 23 * * *", "Africa/Monrovia"
    )  # 44 minutes and 30 seconds behind UTC in those years
    assert fires(schedule, "1971-06-01", 2) == [at("1971-06-01T23:59:30"), at("1971-06-02T23:59:30")]


def test_a_question_moves_nothing_that_threads_share() -> None:
    schedule = Schedule.parse("0 9 13 * 5", "UTC")
    calendar = expression._make_calendar("13 * 5")
    before = dict(vars(calendar))
    schedule.find_next(at("2031-01-01"))
    assert vars(calendar) == before


def test_a_span_is_evaluated_only_as_far_as_it_is_read() -> None:
    assert next(Schedule.parse("* * * * *", "UTC").iterate_between(at("2026-01-01"), at("9000-01-01"))) == at(
        "2026-01-01T00:01"
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_calendar_has_two_ends(zone: str) -> None:
    schedule = Schedule.parse("0 12 * * *", zone)
    end = datetime.max.replace(tzinfo=UTC)
    last = schedule.find_previous(end)
    assert last is not None
    assert end - last < 4 * DAY
    assert schedule.find_next(last) is None
    assert schedule.find_next(end) is None
    assert Schedule.parse("0 0 29 2 *", zone).find_next(at("9996-06-01")) is None
    begin = datetime.min.replace(tzinfo=UTC)
    first = schedule.find_next(begin)
    assert first is not None
    assert first - begin < 5 * DAY
    assert schedule.find_previous(first) is None
    assert schedule.find_previous(begin) is None


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "*/7 3 * * *", "0 9 * * 1-5", "0 0 L * *", "* * * 2 *", "0 0 29 2 *", "0 0 29 2 mon#5"],
)
def test_previous_is_the_fire_before(expression: str) -> None:
    schedule = Schedule.parse(expression, "Europe/Berlin")
    for first, second in pairwise(fires(schedule, "2020-02-01", 6)):
        assert schedule.find_previous(second) == first
        assert schedule.find_previous(second + timedelta(seconds=1)) == second
        assert schedule.find_previous(first + (second - first) / 2) == first


def test_schedules_are_values() -> None:
    one = Schedule.parse("0 9 * * *", "Europe/Berlin")
    assert one == Schedule.parse(" 0 9 * * *\n", "Europe/Berlin")
    assert hash(one) == hash(Schedule.parse("0 9 * * *", "Europe/Berlin"))
    assert one.expression == "0 9 * * *"
    others = [
        Schedule.parse("00 9 * * *", "Europe/Berlin"),
        Schedule.parse("0 9 * * *", "Europe/Paris"),
        Schedule.parse("0 9 * * *", "Europe/Berlin", dst_gap="skip"),
        Schedule.parse("0 9 * * *", "Europe/Berlin", dst_repeat="twice"),
    ]
    assert len({one, *others}) == 5


def test_equal_schedules_share_one_object() -> None:
    assert Schedule.parse("0 9 * * *", "Europe/Berlin") is Schedule.parse("0 9 * * *", "Europe/Berlin")


def test_versions_name_what_evaluates() -> None:
    assert read_versions().croniter == metadata.version("croniter")
    assert read_versions().source in {"system", "package"}
    assert read_versions() == (read_versions().croniter, read_versions().tzdata, read_versions().source)
