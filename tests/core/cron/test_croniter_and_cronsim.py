"""cronsim and croniter are asked too.

Where cronsim says something else, it is one of its three known errors, and each of them is still there.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Final

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.core.cron.schedule import Schedule
from scheduler.core.cron.zones import load_zone
from tests.core.cron.oracle import DAY, EXAMPLES, HOUR, ZONES, Rule, changes, parsed, rules

BROKEN_HOURS: Final = frozenset({"Australia/Lord_Howe", "Pacific/Chatham"})
MORE_ZONES: Final = (
    "America/Asuncion",
    "America/Tijuana",
    "Asia/Gaza",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Europe/Chisinau",
    "Pacific/Easter",
)
WILDCARDS: Final = (
    "* * * * *",
    "*/15 * * * *",
    "30 * * * *",
    "10,50 * * * *",
    "0 */2 * * *",
    "30 */3 * * *",
    "*/15 2 * * *",
    "*/20 0 * * *",
)
WILDCARDS_OF_DAYS: Final = (
    "*/30 0 * * 0",
    "0 */4 * * 0",
    "*/20 0 * * 1-6",
    "*/30 23 * * sat",
    "0 */6 1-15 * *",
)
FIXED: Final = (
    "30 2 * * *",
    "0 2 * * *",
    "0 0 * * *",
    "0,30 0-3 * * *",
    "0 0-23 * * *",
    "45 2 * * *",
    "15 23 * * *",
    "0 2,3 * * *",
    "3,*/5 4 * * *",
)
FIXED_OF_DAYS: Final = (
    "0 0 * * sun",
    "30 0 * * sat",
    "0 0 1-31 * sun",
    "15 2 * * sun",
    "0 0 * * 5",
    "59 23 * * 6",
    "5 0 * * 1-5",
    "15 2 8-14 * *",
)
STARTS: Final = (
    -2 * DAY,
    -7 * HOUR,
    timedelta(minutes=-35),
    timedelta(),
    timedelta(minutes=5),
    timedelta(minutes=61),
)


def cronsim(expression: str, zone_name: str, after: datetime, until: datetime) -> Iterator[datetime]:
    for local in CronSim(expression, after.astimezone(load_zone(zone_name))):
        instant = local.astimezone(UTC)
        if instant > until:
            return
        yield instant


def known_error(expression: str, zone_name: str, after: datetime, change: datetime) -> str | None:
    """What cronsim is known to do wrong in such a case."""
    local = after.astimezone(load_zone(zone_name))
    if not expression.startswith("*") and local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        return "started inside a repeated hour: fixed times of the first pass come back, also in the past"
    if expression in WILDCARDS + WILDCARDS_OF_DAYS and zone_name in BROKEN_HOURS:
        return "clock changes of half an hour, or at a quarter to: hours are stepped by whole ones"
    if expression in WILDCARDS_OF_DAYS and _skips_midnight(zone_name, change):
        return "a midnight gap with a day restriction: fires at its end, on minutes that do not match"
    return None


def _skips_midnight(zone_name: str, change: datetime) -> bool:
    where = load_zone(zone_name)
    before = (change - timedelta(seconds=1)).astimezone(where).replace(tzinfo=None)
    after = change.astimezone(where).replace(tzinfo=None)
    return before.date() != after.date() and after - before > timedelta(seconds=1)


def test_cronsim_differs_only_by_its_known_errors_around_clock_changes() -> None:
    errors: Counter[str | None] = Counter()
    asked = 0
    for zone_name, expression, start in product(
        ZONES + MORE_ZONES, WILDCARDS + WILDCARDS_OF_DAYS + FIXED + FIXED_OF_DAYS, STARTS
    ):
        schedule = Schedule.parse(expression, zone_name)
        for change in changes(zone_name, 2025):
            after, until = change + start, change + start + 8 * DAY
            asked += 1
            if list(islice(schedule.iterate_between(after, until), 4)) != list(
                islice(cronsim(expression, zone_name, after, until), 4)
            ):
                error = known_error(expression, zone_name, after, change)
                assert error, (expression, zone_name, after)
                errors[error] += 1
    assert len(errors) == 3
    assert sum(errors.values()) < asked / 10


@settings(max_examples=EXAMPLES, deadline=None)
@given(rules(wraps=False), st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)))  # noqa: DTZ001  (hypothesis wants them so)
def test_croniter_says_the_same_where_the_clock_never_changes(rule: Rule, after: datetime) -> None:
    assume(",*" not in rule.text)  # stars later in a list: croniter means something else
    schedule = parsed(rule, "UTC", "after", "once")
    expected = croniter(rule.text, after, ret_type=datetime, implement_cron_bug=True)
    found = schedule.iterate_between(after.replace(tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
    assert [instant.replace(tzinfo=None) for instant in islice(found, 5)] == [
        expected.get_next() for _ in range(5)
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 L * *",
        "0 0 15,L * *",
        "0 0 25-L * *",
        "0 0 15W * *",
        "0 0 W1 * *",
        "0 0 31W * *",
        "0 0 1W * 1-5",
        "0 0 15W * */2",
        "0 0 * * 5#2",
        "0 0 * * 1#1,5#3",
        "0 0 * * mon-wed#2",
        "0 0 * * L5",
        "0 0 * * L1,5#2",
        "0 0 13 * 5#2",  # the 13th is silently ignored
        "0 0 L 2,6 5",
        "0 0 1-7 * */7",
        "0 0 ? * 2",
        "0 0 15 * ?",
        "0 0 * 11-2 *",
        "0 0 * nov-feb/2 fri-mon",
        "0 0 * * 5-7",
        "0 0 * * 1-7/2",
        "0 0 5/10 * *",
    ],
)
def test_signs_that_crons_read_differently_are_read_as_croniter_does(expression: str) -> None:
    after = datetime(2024, 12, 31, 12, tzinfo=UTC)
    expected = croniter(expression, after.replace(tzinfo=None), ret_type=datetime, implement_cron_bug=True)
    found = Schedule.parse(expression, "UTC").iterate_between(after, datetime(9000, 1, 1, tzinfo=UTC))
    assert [instant.replace(tzinfo=None) for instant in islice(found, 60)] == [
        expected.get_next() for _ in range(60)
    ]
