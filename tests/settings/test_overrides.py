"""Which override is an automation's, found without asking each override about each automation."""

import fnmatch
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from scheduler.settings.models import Override, Settings
from scheduler.settings.overrides import PatternIndex
from tests.counting import count_lines

FEW = 30
names = st.text("ab-", max_size=5)
patterns = st.text("ab-*?[]!", min_size=1, max_size=5)


@given(st.lists(patterns, max_size=8), names | patterns, names)
def test_it_finds_the_patterns_that_asking_each_would_find(
    wanted: list[str], name: str, automation_id: str
) -> None:
    fitting = [
        place
        for place, pattern in enumerate(wanted)
        if pattern in {automation_id, name} or fnmatch.fnmatchcase(name, pattern)
    ]
    assert set(PatternIndex(wanted).find_all(automation_id, name)) == set(fitting)


def ask(count: int) -> int:
    """The lines that are executed for so many automations, with as many overrides: one a name, two patterns
    for each three.
    """
    kinds = ("{}-nightly", "{}-*", "*-{}")
    overrides = tuple(
        Override(automation=kinds[number % 3].format(number), paused=True) for number in range(count)
    )
    settings = Settings(override=overrides)
    automations = [
        (str(number), f"{number}-nightly" if number % 3 else f"team-{number + 2}") for number in range(count)
    ]
    ask_all = partial(lambda: [settings.find_policies(*automation) for automation in automations])
    return count_lines(ask_all)


def test_many_overrides_for_many_automations_cost_as_much_as_both_together() -> None:
    few = ask(FEW)
    assert FEW < few < ask(10 * FEW) <= 12 * few
