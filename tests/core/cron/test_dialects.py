"""What is said of other crons is what they do; those that can be had here are asked."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, get_args

import pytest
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cron.clock_changes import find_clock_changes
from scheduler.core.cron.description import describe_schedule
from scheduler.core.cron.dialect_difference import Code, Cron, Difference
from scheduler.core.cron.dialects import find_differences
from scheduler.core.cron.fields import MONTHS, WEEKDAYS
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.cron.zones import load_zone
from tests.core.cron.oracle import EXAMPLES, RULES, Rule, parsed

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
END = datetime(2050, 1, 1, tzinfo=UTC)
ENOUGH: Final = 60  # fires, to tell two schedules apart
BERLIN = load_zone("Europe/Berlin")


def told(expression: str, timezone: str = "UTC", **policies: str) -> list[Difference]:
    schedule = Schedule.parse(expression, timezone, **policies)  # type: ignore[arg-type]  # policies of the table
    return list(find_differences(schedule, find_clock_changes(schedule, BEGIN, BEGIN + YEAR)))


# ---------------------------------------------------------------- which expressions

DIFFERENT: dict[str, list[Code]] = {
    "0 9 * * *": [],
    "*/15 9-17 * * mon-fri": [],
    "0 9 1,15 * *": [],
    "0 9 * * mon,wed,fri": [],
    "0-59/5 0 * * *": [],
    "0 9 * jan-mar *": [],
    "0 9 * * sun": [],
    "1,* * * * *": [],
    "*/1 * * * *": [],
    "0 9 13 * fri": ["day_fields_or"],
    "0 9 L * fri": ["day_fields_or", "last_day"],
    "0 9 */5 * fri": ["day_fields_and", "uneven_step"],
    "0 9 13 * */7": ["day_fields_and", "large_step"],
    "0 9 13 * */2": ["day_fields_and", "stepped_weekday", "uneven_step"],
    "*/90 2 * * *": ["large_step"],
    "0 2,*/90 * * *": ["large_step"],
    "0 9 28-3 * *": ["wrapping_range"],
    "0 9 * * sun-tue": ["sunday_first"],
    "0 9 * * sun-sat": ["sunday_first"],
    "0 9 * * 0-2": ["numeric_weekday"],
    "0 9 ? * ?": ["question_mark"],
    "0 9 */1 * fri": ["day_fields_and"],
    "0 9 *,5 * fri": [],
    "0 9 5,* * fri": ["star_in_list"],
    "0 9 13 * fri,*": ["star_in_list"],
    "0 9 1-31 * fri": ["full_day_field"],
    "0 9 1-31 * mon-fri": ["full_day_field"],
    "0 9 13 * 0-6": ["full_day_field"],
    "0 9 13 * sun-sat": ["full_day_field", "sunday_first"],
    "0 9 1,*/2 * 0-6": ["full_day_field", "uneven_step"],
    "0 9 2-1 * sun,*/2": ["full_day_field", "wrapping_range", "stepped_weekday", "uneven_step"],
    "0 9 1-31 * 0-6": [],
    "0 9 5,* * *": [],
    "0 9 13 * fri#2": ["ignored_field", "nth_weekday"],
    "0 9 15W * fri": ["ignored_field", "nearest_weekday"],
    "0 9 15W * fri#2": ["nearest_weekday", "nth_weekday"],
    "0 9 L * *": ["last_day"],
    "0 9 28-L * *": ["last_day"],
    "0 9 W15 * *": ["nearest_weekday"],
    "0 9 * * L5": ["last_weekday"],
    "0 9 * * 5#2": ["nth_weekday"],
    "0 9 ? * mon": ["question_mark"],
    "0 22-2 * * *": ["wrapping_range"],
    "0 9 * * fri-sun": ["wrapping_range"],
    "0 9 * nov-feb *": ["wrapping_range"],
    "0 9 * * 5-0": ["wrapping_range", "numeric_weekday"],
    "0 9 * * 5-7": ["seven_is_sunday"],
    "0 9 * * 1-7/2": ["seven_is_sunday"],
    "0 9 * * 0-7": ["seven_is_sunday"],
    "0 9 * * 7-3/2": ["wrapping_range", "seven_is_sunday"],
    "0 9 * * 7-7": ["equal_range", "seven_is_sunday"],
    "0 9 * * 7-0": ["equal_range", "seven_is_sunday"],
    "0 9 * * 7-0/2": ["equal_range", "seven_is_sunday"],
    "0 9 * * 7-sun": ["mixed_range", "equal_range", "seven_is_sunday"],
    "0 9 * * sun-7": ["mixed_range", "seven_is_sunday"],
    "0 9 * * 7/2": ["start_with_step", "seven_is_sunday"],
    "0 9 * * 3/2": ["start_with_step", "numeric_weekday"],
    "50-10/15 * * * *": ["wrapping_step", "wrapping_range"],
    "50-10/25 * * * *": ["wrapping_range"],
    "50-10/5 * * * *": ["wrapping_range"],
    "0 23-5/4 * * *": ["wrapping_step", "wrapping_range"],
    "0 9 28-3/2 * *": ["wrapping_range"],
    "0 9 28-3/3 * *": ["wrapping_step", "wrapping_range"],
    "0 0 1 11-2/3 *": ["wrapping_step", "wrapping_range"],
    "0 0 1 nov-feb/3 *": ["wrapping_step", "wrapping_range", "named_step"],
    "0 9 * * sat-mon/2": ["wrapping_step", "wrapping_range", "named_step"],
    "0 9 * * sat-1/2": ["wrapping_step", "wrapping_range", "mixed_range", "named_step", "numeric_weekday"],
    "0 9 * * 6-1/2": ["wrapping_step", "wrapping_range", "numeric_weekday"],
    "0 9 * * sat-sun/2": ["wrapping_range", "named_step"],
    "0 9 1-7 * 6-1/2": ["day_fields_or", "wrapping_step", "wrapping_range", "numeric_weekday"],
    "0 9 * 5-0 *": ["wrapping_range"],
    "0 9 * jan-3 *": ["mixed_range"],
    "0 9 * 1-mar *": ["mixed_range"],
    "0 9 * * mon-3": ["mixed_range", "numeric_weekday"],
    "0 9 * * sun-0": ["equal_range", "numeric_weekday"],
    "0 9 31-L * *": ["last_day", "equal_range"],
    "0 9 * * 1-5": ["numeric_weekday"],
    "0 9 * * mon,3": ["numeric_weekday"],
    "0 9 * * 0-6": [],
    "0 9 * * */2": ["stepped_weekday", "uneven_step"],
    "5/15 * * * *": ["start_with_step"],
    "0 9 * jan/3 *": ["start_with_step", "named_step"],
    "0 9 * * mon-fri/2": ["named_step"],
    "5-5 * * * *": ["equal_range"],
    "5-5/15 * * * *": ["equal_range"],
    "*/7 * * * *": ["uneven_step"],
    "0 */7 * * *": ["uneven_step"],
    "*/90 * * * *": ["large_step"],
    "0 9 1-5/9 * *": ["large_step"],
    "0 9 1-5/4 * *": [],
    "59/5 * * * *": ["large_step", "start_with_step"],
}


@pytest.mark.parametrize(("expression", "codes"), DIFFERENT.items())
def test_what_is_otherwise_elsewhere_is_found(expression: str, codes: list[Code]) -> None:
    assert [each.code for each in told(expression)] == codes


@pytest.mark.parametrize("weekday", ["mon", "1-5", "0-6", "1-7", "sun-sat"])
@pytest.mark.parametrize("date", ["30 2", "31 2,4", "31 4,6", "30,31 2"])
def test_a_date_that_never_comes_beside_a_weekday_is_no_error(date: str, weekday: str) -> None:
    codes = {each.code for each in told(f"0 9 {date} {weekday}")}
    every_day = weekday in {"0-6", "1-7", "sun-sat"}
    assert ("full_day_field" in codes) == every_day
    assert ("day_fields_or" in codes) == (weekday in {"mon", "1-5"})


def test_every_code_is_in_a_table() -> None:
    of_changes = {"clock_repeats", "clock_skips", "utc_only"}
    assert {code for codes in DIFFERENT.values() for code in codes} | of_changes == set(get_args(Code))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (
            "0 9 13 * 5",
            (
                "a day need match only one of day of month 13 and day of week 5; in APScheduler and "
                "systemd timers both must match; "
                "in Quartz and EventBridge it is refused, since one of the two must be ?; "
                "write two automations, 0 9 13 * * and 0 9 * * 5; a day that matches both has both"
            ),
        ),
        (
            "0 9 * * 1-5",
            (
                "in the day of week 1-5 Sunday is 0; in APScheduler Monday is 0; in Quartz and "
                "EventBridge Sunday is 1; write 0 9 * * mon-fri"
            ),
        ),
        (
            "50-10/15 * * * *",
            (
                "the minute 50-10/15 keeps its step from the last value to the first: 5 comes after 50; "
                "in croniter 6 comes after 50; write 5,50 * * * *"
            ),
        ),
        (
            "0 9 * * sat-mon/2",
            (
                "the day of week sat-mon/2 keeps its step from the last value to the first: Monday "
                "comes after Saturday; "
                "in croniter nothing comes after Saturday; write 0 9 * * mon,sat"
            ),
        ),
        (
            "0 9 * * mon-3",
            (
                "the day of week mon-3 has a name at one end and a number at the other; in "
                "APScheduler mon alone is read; "
                "write 0 9 * * mon-wed"
            ),
        ),
        (
            "0 */7 * * *",
            "the hour */7 begins anew after 21: the interval there is 3 instead of 7, as in all crons",
        ),
    ],
)
def test_a_difference_is_a_sentence(expression: str, words: str) -> None:
    assert told(expression)[0].words == words


# ---------------------------------------------------------------- asking the others

Ask = Callable[[str], Iterator[datetime]]


def of_apscheduler(expression: str) -> Iterator[datetime]:
    trigger, fire = CronTrigger.from_crontab(expression, UTC), BEGIN
    while True:
        fire = trigger.get_next_fire_time(None, fire + timedelta(microseconds=1))
        yield fire


OTHERS: dict[str, Ask] = {
    Cron.CRONITER: lambda expression: croniter(expression, BEGIN).all_next(datetime),
    Cron.CRONSIM: lambda expression: CronSim(expression, BEGIN),
    Cron.APSCHEDULER: of_apscheduler,
}


def first(fires: Iterator[datetime]) -> list[datetime]:
    return list(takewhile(lambda fire: fire <= END, islice(fires, ENOUGH)))


def of_us(expression: str) -> list[datetime]:
    return first(Schedule.parse(expression, "UTC").iterate_between(BEGIN, END))


def of_another(dialect: str, expression: str) -> list[datetime] | None:
    """What it fires first; None when it refuses the expression."""
    try:
        return first(OTHERS[dialect](expression))
    except (ValueError, CronSimError):  # croniter's and APScheduler's are ValueErrors
        return None


def claimed(expression: str, dialect: str) -> list[str]:
    return [other.does for each in told(expression) for other in each.elsewhere if dialect in other.dialects]


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("expression", DIFFERENT)
def test_a_cron_that_is_named_does_otherwise_and_one_that_is_not_does_the_same(
    expression: str, dialect: str
) -> None:
    claims, fires = claimed(expression, dialect), of_another(dialect, expression)
    if any("refused" in claim for claim in claims):
        assert fires is None
    elif claims:
        assert fires != of_us(expression)
    else:
        assert fires == of_us(expression)


@pytest.mark.parametrize("expression", DIFFERENT)
def test_what_is_to_be_written_instead_means_the_same_here(expression: str) -> None:
    for instead in [
        each.instead
        for each in told(expression)
        if each.instead and not each.instead.startswith("two automations")
    ]:
        assert of_us(instead) == of_us(expression)
        assert describe_schedule(Schedule.parse(instead, "UTC")) == describe_schedule(
            Schedule.parse(expression, "UTC")
        )


_VALUE = st.sampled_from(
    ("*", "0", "1", "5", "07", "12", "31", "59", "jan", "NOV", "sun", "Mon", "fri", "L", "?")
)
_STEP = st.sampled_from(("", "", "/1", "/2", "/7", "/90"))
_ITEM = st.one_of(
    st.builds("{}{}".format, _VALUE, _STEP),
    st.builds("{}-{}{}".format, _VALUE, _VALUE, _STEP),
    st.builds("{}#{}".format, _VALUE, st.integers(1, 5)),
    st.sampled_from(("15W", "w1", "L5", "l0", "28-L")),
)
_FIELD = st.lists(_ITEM, min_size=1, max_size=3).map(",".join)
_MOSTLY_PLAIN = st.one_of(st.just("*"), st.just("5"), _FIELD)


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(st.lists(_MOSTLY_PLAIN, min_size=5, max_size=5).map(" ".join))
def test_whatever_is_valid_is_told_and_what_to_write_instead_means_the_same(expression: str) -> None:
    with suppress(InvalidSchedule):
        for instead in [
            each.instead
            for each in told(expression)
            if each.instead and not each.instead.startswith("two automations")
        ]:
            assert describe_schedule(Schedule.parse(instead, "UTC")) == describe_schedule(
                Schedule.parse(expression, "UTC")
            )


@pytest.mark.parametrize(
    ("expression", "instead"),
    [
        ("0 9 * * 5-7", "0 9 * * sun,fri,sat"),
        ("0 9 * * 1-5", "0 9 * * mon-fri"),
        ("0 9 * * mon,3", "0 9 * * mon,wed"),
        ("0 9 * * mon-fri/2", "0 9 * * mon,wed,fri"),
        ("0 22-2 * * *", "0 0,1,2,22,23 * * *"),
        ("50-10/15 * * * *", "5,50 * * * *"),
        ("0 23-5/4 * * *", "0 3,23 * * *"),
        ("0 9 * * sat-mon/2", "0 9 * * mon,sat"),
        ("0 0 1 11-2/3 *", "0 0 1 2,11 *"),
        ("0 9 28-3/3 * *", "0 9 3,28,31 * *"),
        ("0 9 * * 7-0", "0 9 * * sun"),
        ("0 9 * * 7-sun", "0 9 * * sun"),
        ("0 9 31-L * *", "0 9 31 * *"),
        ("0 9 * * 0-7", "0 9 * * *"),
        ("0 9 * * tue-mon", "0 9 * * *"),
        ("0 9 * nov-feb *", "0 9 * 1,2,11,12 *"),
        ("0 9 28-3 * *", "0 9 1,2,3,28,29,30,31 * *"),
        ("5,10/15 * * * *", "5,10-59/15 * * * *"),
        ("0 9 ? * mon", "0 9 * * mon"),
        ("0 9 * * sun-tue", "0 9 * * sun,mon,tue"),
        ("0 9 * * sun-sat", "0 9 * * *"),
        ("0 9 1-7 * sun-sat", None),
        ("0 9 5,* * fri", "0 9 * * *"),
        ("0 9 13 * fri#2", "0 9 * * fri#2"),
        ("*/90 * * * *", "0 * * * *"),
        ("*/90 2 * * *", None),  # it would not follow the clock any more
        ("0 9 13 * */7", None),  # one of the days would be enough
        ("0 9 13 * */2", None),
    ],
)
def test_what_to_write_instead_is_told_where_there_is_something(expression: str, instead: str | None) -> None:
    assert instead in [each.instead for each in told(expression)]


@pytest.mark.parametrize("dialect", OTHERS)
@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(rule=RULES)
def test_a_cron_of_which_nothing_is_said_does_the_same(dialect: str, rule: Rule) -> None:
    expression = parsed(rule, "UTC", "after", "once").expression
    if not claimed(expression, dialect):
        assert of_another(dialect, expression) == of_us(expression)


@pytest.mark.parametrize(
    ("place", "low", "last"), [(0, 0, 59), (1, 0, 23), (2, 1, 31), (3, 1, 12), (4, 0, 6)]
)
def test_what_croniter_makes_of_a_step_that_wraps_is_told_with_the_values_of_it(
    place: int, low: int, last: int
) -> None:
    names = {3: MONTHS, 4: WEEKDAYS}.get(place)
    for begin, end, step in islice(_wraps(low, last), 0, None, 7):
        fields = ["0", "0", "*", "*", "*"]
        fields[place] = f"{begin}-{end}/{step}"
        values = croniter.expand(" ".join(fields))[0][place]
        behind = [value for value in values if isinstance(value, int) and value < begin]
        follows = (names[behind[0] - low] if names else str(behind[0])) if behind else "nothing"
        words = [each.elsewhere[0].does for each in told(" ".join(fields)) if each.code == "wrapping_step"]
        assert bool(words) == (
            {value for value in values if value != "*"} != _stepped(begin, end, step, (low, last))
        )
        assert all(each.startswith(f"{follows} comes after ") for each in words)


def _wraps(low: int, last: int) -> Iterator[tuple[int, int, int]]:
    pairs = ((begin, end) for begin in range(low, last + 1) for end in range(low, begin))
    return ((begin, end, step) for begin, end in pairs for step in (2, 3, 5, last - low))


def _stepped(begin: int, end: int, step: int, bounds: tuple[int, int]) -> set[int]:
    return {*[*range(begin, bounds[1] + 1), *range(bounds[0], end + 1)][::step]}


# ---------------------------------------------------------------- Debian's own

DEBIANS_OWN = Path("/var/lib/dpkg/info/cron.list").exists() and shutil.which("crontab")


@pytest.mark.skipif(not DEBIANS_OWN, reason="apt package cron is missing")
def test_debians_cron_refuses_what_it_is_said_to_refuse(tmp_path: Path) -> None:
    table = tmp_path / "table"
    refused = set()
    for expression in DIFFERENT:
        table.write_text(f"{expression} true\n")
        if subprocess.run([str(DEBIANS_OWN), "-n", str(table)], check=False, capture_output=True).returncode:
            refused.add(expression)
    assert refused == {
        each for each in DIFFERENT if any("refused" in claim for claim in claimed(each, Cron.DEBIAN))
    }


# ---------------------------------------------------------------- at clock changes

GAP, REPEATED = datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)


def fires_around(dialect: str, at: datetime) -> list[datetime]:
    """What 02:30 in Berlin comes to on the day of a clock change."""
    begin, end = (at - timedelta(hours=6)).astimezone(BERLIN), at + timedelta(hours=6)
    if dialect == Cron.APSCHEDULER:
        return _by_apscheduler(begin, end)
    found = croniter("30 2 * * *", begin).all_next(datetime)
    return [fire for fire in (each.astimezone(UTC) for each in islice(found, 3)) if fire < end]


def _by_apscheduler(begin: datetime, end: datetime) -> list[datetime]:
    trigger = CronTrigger.from_crontab("30 2 * * *", BERLIN)
    every = (begin.astimezone(UTC) + timedelta(minutes=minute) for minute in range(12 * 60))
    asked = {trigger.get_next_fire_time(None, each.astimezone(BERLIN)).astimezone(UTC) for each in every}
    return sorted(fire for fire in asked if fire < end)


@pytest.mark.parametrize(
    ("dialect", "gap", "repeated"),
    [
        (Cron.CRONITER, [GAP], [REPEATED - timedelta(minutes=30), REPEATED + timedelta(minutes=30)]),
        (
            Cron.APSCHEDULER,
            [GAP + timedelta(minutes=30)],
            [REPEATED - timedelta(minutes=30), REPEATED + timedelta(minutes=30)],
        ),
    ],
)
def test_others_do_at_a_clock_change_what_is_told(
    dialect: str, gap: list[datetime], repeated: list[datetime]
) -> None:
    assert fires_around(dialect, GAP) == gap
    assert fires_around(dialect, REPEATED) == repeated


def test_what_others_do_at_the_coming_clock_changes_is_told() -> None:
    skips, repeats, utc = told("30 2 * * *", "Europe/Berlin")
    assert skips.words == (
        "when the clock skips 02:30, it fires at the end of the gap; in APScheduler it fires as much "
        "later as the clock goes ahead; "
        "in Kubernetes, EventBridge Scheduler and systemd timers it does not fire"
    )
    assert repeats.words == (
        "when the clock repeats 02:30, it fires the first time only; in croniter, APScheduler and "
        "Kubernetes it fires both times"
    )
    assert utc.words == (
        "times are those of Europe/Berlin, where the clock changes; in GitHub Actions they are UTC "
        "unless its timezone is set; "
        "in EventBridge rules they are UTC"
    )


def test_the_policies_decide_who_does_otherwise() -> None:
    skips, repeats, _ = told("30 2 * * *", "Europe/Berlin", dst_gap="skip", dst_repeat="twice")
    assert "in Debian's cron and croniter it fires at the end of the gap" in skips.words
    assert (
        "in Debian's cron, EventBridge Scheduler and systemd timers it fires the first time only"
        in repeats.words
    )


@pytest.mark.parametrize(
    ("expression", "timezone", "codes"),
    [
        ("0 9 * * *", "Europe/Berlin", ["utc_only"]),  # untouched
        ("*/30 * * * *", "Europe/Berlin", ["utc_only"]),  # follows the clock
        ("30 2 * * *", "Asia/Tokyo", []),
    ],
)
def test_clock_changes_that_change_nothing_are_not_compared(
    expression: str, timezone: str, codes: list[Code]
) -> None:
    assert [each.code for each in told(expression, timezone)] == codes
