"""The product and the oracle agree, on random expressions around the clock changes of odd zones."""

from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cron.schedule import GapPolicy, RepeatPolicy
from tests.core.cron.oracle import EXAMPLES, GAPS, REPEATS, RULES, Rule, fires, near_changes, parsed


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(RULES, near_changes(), GAPS, REPEATS, st.integers(60, 2 * 24 * 60))
def test_schedules_agree_with_the_rules_told_minute_by_minute(
    rule: Rule, start: tuple[str, datetime], gap: GapPolicy, repeat: RepeatPolicy, minutes: int
) -> None:
    zone, after = start
    until = after + timedelta(minutes=minutes)
    expected = fires(rule, zone, after, until, gap=gap, repeat=repeat)
    assert list(parsed(rule, zone, gap, repeat).iterate_between(after, until)) == expected
