"""What all attempts waited for together is told for each of them in a few steps, however often it changed."""

from datetime import timedelta

from scheduler.core.occurrence_log import Cause, Step
from scheduler.daemon.wait_log import Shortages
from tests.counting import count_lines
from tests.virtual import START

IN_FLIGHT, BUDGET = Cause.IN_FLIGHT, Cause.BUDGET


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> object:
        return START + timedelta(seconds=self.at)

    def boottime(self) -> float:
        return self.at


def span(step: Step) -> tuple[Cause, float, float]:
    assert step.until is not None
    return step.cause, (step.at - START).total_seconds(), (step.until - START).total_seconds()


def test_causes_that_take_turns_are_one_step_each() -> None:
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]  # two of its three clocks
    joined = shortages.begin_wait()
    for second in range(1000):
        watch.at = float(second)
        shortages.set_cause(IN_FLIGHT if second % 2 else BUDGET)
    watch.at = 1000.0
    assert [span(each) for each in joined.list_steps()] == [
        (BUDGET, 0.0, 999.0),
        (IN_FLIGHT, 1.0, 1000.0),
    ]
    assert joined.find_current() == Step(START + timedelta(seconds=1), IN_FLIGHT)


def test_only_what_held_while_an_attempt_waited_and_for_a_second_is_told_of_it() -> None:
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]
    shortages.set_cause(BUDGET)
    watch.at = 10.0
    shortages.set_cause(IN_FLIGHT)
    watch.at = 20.0
    joined = shortages.begin_wait()
    watch.at = 25.0
    shortages.set_cause(BUDGET)
    watch.at = 25.9
    shortages.set_cause(None)
    assert [span(each) for each in joined.list_steps()] == [(IN_FLIGHT, 20.0, 25.0)]
    assert joined.find_current() is None


def test_a_step_keeps_its_beginning_when_a_cause_comes_back_after_long() -> None:
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]
    joined = shortages.begin_wait()
    shortages.set_cause(BUDGET)
    watch.at = 5.0
    assert [span(each) for each in joined.list_steps()] == [(BUDGET, 0.0, 5.0)]
    shortages.set_cause(IN_FLIGHT)
    watch.at = 1000.0
    shortages.set_cause(BUDGET)
    watch.at = 1010.0
    assert [span(each) for each in joined.list_steps()] == [
        (BUDGET, 0.0, 1010.0),
        (IN_FLIGHT, 5.0, 1000.0),
    ]


def test_a_step_has_the_newest_detail_of_its_cause() -> None:
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]
    joined = shortages.begin_wait()
    for second, detail in enumerate(("until 1", "until 2", None)):
        watch.at = float(second)
        shortages.set_cause(Cause.THROTTLED, detail)
    assert [step.detail for step in joined.list_steps()] == ["until 2"]
    current = joined.find_current()
    assert current is not None
    assert current.detail == "until 2"


def test_a_change_costs_the_same_however_many_wait() -> None:
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]
    for _ in range(1000):
        shortages.begin_wait()
    assert count_lines(lambda: shortages.set_cause(BUDGET)) < 30


def test_a_cause_that_has_held_for_moments_only_begins_with_the_last_of_them() -> None:
    """Else it would be written down as a wait that lasts, and get no end, since `steps` does not tell it."""
    watch = Watch()
    shortages = Shortages(watch)  # type: ignore[arg-type]
    shortages.set_cause(IN_FLIGHT)
    joined = shortages.begin_wait()
    watch.at = 0.3
    shortages.set_cause(BUDGET)
    watch.at = 20.0
    shortages.set_cause(IN_FLIGHT)
    assert joined.find_current() == Step(START + timedelta(seconds=20), IN_FLIGHT)
    watch.at = 20.7
    assert joined.find_current() == Step(START, IN_FLIGHT)
    assert IN_FLIGHT in {step.cause for step in joined.list_steps()}
