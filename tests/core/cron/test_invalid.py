"""What is no schedule, and that the reason says what is wrong and what to do."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.errors import SchedulerError

SLOW = 0.25  # seconds; ten times what the slowest takes on a busy machine


@contextmanager
def bounded_time() -> Iterator[None]:
    """No more than `SLOW` of this thread's own time; without the garbage collector, which would look through
    what other tests have left.
    """
    gc.disable()
    begun = time.thread_time()
    try:
        yield
    finally:
        gc.enable()
        assert time.thread_time() - begun < SLOW


EXPRESSIONS: list[tuple[object, str]] = [
    (None, "is NoneType, not text"),
    (5, "is int, not text"),
    (["* * * * *"], "is list, not text"),
    (b"* * * * *", "is bytes, not text"),
    ("", "is empty"),
    ("  \t ", "is empty"),
    ("0 9 * *", "has 4 fields instead of five"),
    ("0 0 9 * * *", "has 6 fields instead of five"),
    ("0 0 9 * * * 2030", "has 7 fields instead of five"),
    (
        "0\u00a09 * * *",
        "holds U+00A0 NO-BREAK SPACE (write a plain space); write plain ASCII characters only",
    ),
    ("0 9 * * 1\u20135", "holds U+2013 EN DASH (write '-')"),
    ("0 9 * * 1\u22125", "holds U+2212 MINUS SIGN (write '-')"),
    ("0 9 * * 1\u0301", "holds U+0301 COMBINING ACUTE ACCENT (remove it)"),
    ("0 9\u200b * * *", "holds U+200B ZERO WIDTH SPACE (remove it)"),
    ("\uff10 9 * * *", "holds U+FF10 FULLWIDTH DIGIT ZERO (write '0')"),
    ("0 9 * * mon\u2014fri\u00a0", "holds U+2014 EM DASH (write '-');"),  # the space at the end does no harm
    ("\u200b\u200c\u200d\u2060\u2061 9 * * *", "U+200D ZERO WIDTH JOINER (remove it) and 2 more;"),
    (
        "CRON_TZ=Europe/Berlin 0 9 * * *",
        "CRON_TZ= does not belong in the expression; write the zone in the automation's own field",
    ),
    ("tz = UTC 0 9 * * *", "TZ= does not belong in the expression"),
    ("0 9 * * * # every morning", "ends with a comment; remove everything from # on"),
    ("0 9 * * *  #", "ends with a comment"),
    ("0 9 * * 5L", "For the last such weekday of the month write L before the number: 'L5'"),
    ("*" * 101, "has 101 characters, more than 100"),
    ("1," * 10_000_000, "more than 100"),
    ("0 9 * * \0", "holds U+0000 control character (remove it)"),
    ("@daily", "'@daily' is an alias; write its five fields: 0 0 * * *"),
    ("@Hourly", "'@hourly' is an alias; write its five fields: 0 * * * *"),
    ("@reboot", "'@reboot' is an alias; write its five fields"),
    ("@every 5m", "is an alias"),
    ("R * * * *", "the minute 'r' is random"),
    ("0 r(9-17) * * *", "the hour 'r(9-17)' is random"),
    ("0 9 R/2 * *", "the day of month 'r/2' is random"),
    ("0 9 1,R * *", "the day of month '1,r' is random"),
    ("H * * * *", "the minute 'h' is hashed"),
    ("0 h(0-7)/2 * * *", "the hour 'h(0-7)/2' is hashed"),
    ("60 * * * *", "the minute '60' is not valid; it takes 0-59"),
    ("0 24 * * *", "the hour '24' is not valid; it takes 0-23"),
    ("0 0 0 * *", "the day of month '0' is not valid; it takes 1-31"),
    ("0 0 32 * *", "the day of month '32' is not valid"),
    ("0 0 * 13 *", "the month '13' is not valid; it takes 1-12"),
    ("0 0 * 0 *", "the month '0' is not valid"),
    ("0 0 * * 8", "the day of week '8' is not valid; it takes 0-7"),
    ("0 0 * foo *", "the month 'foo' is not valid"),
    ("0 0 * foo-foo *", "the month 'foo-foo' is not valid"),
    ("0 0 * * mo", "the day of week 'mo' is not valid"),
    ("*/0 * * * *", "the minute '*/0' is not valid"),
    ("5-5/0 * * * *", "the minute '5-5/0' is not valid"),
    ("99-99 * * * *", "the minute '99-99' is not valid"),
    ("0 -1 * * *", "the hour '-1' is not valid"),
    (
        "61 25 * * *",
        (
            "the minute '61' and the hour '25' are not valid; the minute takes 0-59, the hour takes "
            "0-23, and lists"
        ),
    ),
    ("*", "the expression has 1 field instead of five"),
    ("1,,2 * * * *", "the minute '1,,2' is not valid"),
    ("* *5 * * *", "the hour '*5' is not valid"),
    ("? * * * *", "the minute '?' is not valid"),
    ("0 0 1w,2 * *", "the day of month '1w,2' is not valid"),
    ("0 0 * * 1#6", "the day of week '1#6' is not valid"),
    ("0 0 * * 1-1#2", "the day of week '1-1#2' is not valid"),
    ("0 0 * * 1#2,3", "the day of week '1#2,3' is not valid"),
    ("٣ * * * *", "holds U+0663 ARABIC-INDIC DIGIT THREE (remove it)"),
    ("\ud800 * * * *", "holds U+D800 a character without a name"),
    ("0 0 31 2 *", "no day that ever matches day of month '31', month '2', day of week '*'"),
    ("0 0 30 feb *", "no day that ever matches day of month '30', month 'feb'"),
    ("0 0 31 4,6,9,11 *", "no day that ever matches"),
    ("0 0 1-7 * */7#5", "is not valid"),
    ("0 0 */8 * mon#5", "no day"),  # the 1st, 9th, 17th and 25th are never a fifth Monday
    ("0 0 30 2 mon#5", "no day that ever matches"),  # as croniter has it
]

ZONES: list[tuple[object, str]] = [
    (None, "is NoneType, not text"),
    (0, "is int, not text"),
    ("", "'' is unknown"),
    ("Mars/Olympus", "'Mars/Olympus' is unknown; write a name from the IANA"),
    ("UTC+99", "'UTC+99' is unknown"),
    ("+02:00", "is unknown"),
    ("europe/berlin", "it is written 'Europe/Berlin'"),
    ("utc", "it is written 'UTC'"),
    (" Europe/Berlin", "it is written 'Europe/Berlin'"),
    ("/etc/passwd", "is a path"),
    ("/usr/share/zoneinfo/UTC", "is a path"),
    ("../../etc/passwd", "is a path"),
    ("Europe/../Europe/Berlin", "is a path"),
    ("Europe", "is unknown"),
    ("Europe/", "is unknown"),
    ("posix/UTC", "is unknown"),
    ("tzdata.zi", "is unknown"),
    ("Europe/Berlin\0", "null character"),
    ("localtime", "means another zone on each machine; write the name of a zone"),
    ("Factory", "means another zone on each machine"),
    ("\ud800", "is unknown"),
    ("A" * 129, "has 129 characters, more than 128"),
    ("/" * 10_000_000, "more than 128"),
]


@pytest.mark.parametrize(("expression", "reason"), EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_a_bad_expression_is_refused_with_its_reason_in_bounded_time(expression: object, reason: str) -> None:
    with bounded_time(), pytest.raises(InvalidSchedule) as refused:
        Schedule.parse(expression, "Europe/Berlin")
    assert reason in refused.value.reason
    assert refused.value.expression is expression
    assert refused.value.timezone == "Europe/Berlin"
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, SchedulerError)
    assert len(refused.value.reason) < 400


def test_a_bad_expression_in_a_bad_zone_has_both_reasons() -> None:
    with pytest.raises(InvalidSchedule) as refused:
        Schedule.parse("* * *", "Mars/Olympus")
    assert refused.value.reason == (
        "the expression has 3 fields instead of five (minute, hour, day of month, month, day of "
        "week); there are no seconds and no years. "
        "Also: the timezone 'Mars/Olympus' is unknown; write a name from the IANA time zone "
        "database, for example 'Europe/Berlin'"
    )


@pytest.mark.parametrize(("zone", "reason"), ZONES, ids=range(len(ZONES)))
def test_a_bad_zone_is_refused_with_its_reason_in_bounded_time(zone: object, reason: str) -> None:
    with bounded_time(), pytest.raises(InvalidSchedule) as refused:
        Schedule.parse("0 9 * * *", zone)
    assert reason in refused.value.reason
    assert refused.value.timezone is zone
    assert len(refused.value.reason) < 400


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 29 2 mon#5",
        "0 0 29 2 *",
        "0 0 31 2 1",
        "0 0 31 12 *",
        "0 9 * JAN Mon",
        "0 9 ? * 7",
        "0 9 L * *",
        "0 0\t*  *\n*",
    ],
)
def test_what_comes_at_last_or_looks_strange_is_valid(expression: str) -> None:
    assert Schedule.parse(expression, "UTC").expression == expression


def test_a_hundred_characters_are_allowed_beside_spaces_around_them() -> None:
    text = "0" * 92 + " * * * *"
    assert Schedule.parse(text.ljust(200), "UTC").expression == text
    with pytest.raises(InvalidSchedule, match="has 101 characters"):
        Schedule.parse("0" + text, "UTC")


def test_the_costliest_expressions_are_read_in_bounded_time() -> None:
    # Days that croniter looks for through decades, in every combination of its signs.
    days = ("29", "30,31", "31w", "29w", "l", "*/31", "1", "13")
    weekdays = ("1#5", "l5", "0", "*/6", "mon-fri#5", "sat")
    for day, month, weekday in product(days, ("2", "2,4", "*/11", "*"), weekdays):
        try:
            with bounded_time():
                Schedule.parse(f"* * {day} {month} {weekday}", "UTC")
        except InvalidSchedule as error:
            assert "no day" in error.reason  # noqa: PT017  (either answer is right, if it comes soon)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=120),
        st.text("0123456789*/,-#lLwW?rRhH()@ suntefb", max_size=40),
        st.integers(),
        st.none(),
    )
)
def test_any_text_is_a_schedule_or_has_a_reason(expression: object) -> None:
    try:
        schedule = Schedule.parse(expression, "UTC")
    except InvalidSchedule as error:
        assert error.reason  # noqa: PT017  (either answer is right)
    else:
        assert schedule.expression == str(expression).strip()
