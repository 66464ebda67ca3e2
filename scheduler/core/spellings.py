"""Ranges, steps and numbers that are spelled so that other crons read them otherwise, or not at all.

One rule each; `scheduler.core.dialects` asks them all.
"""

from collections.abc import Iterator
from typing import Final

from scheduler.core.difference import (
    APSCHEDULER,
    CRONITER,
    CRONSIM,
    DEBIAN,
    EVENTBRIDGE,
    KUBERNETES,
    QUARTZ,
    Difference,
    Elsewhere,
    refused,
)
from scheduler.core.written import DATE, WEEKDAY, Item, Written


def _wrapping_range(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if low > high:
        from_monday = item.field == WEEKDAY and item.named and (low - 1) % 7 <= (high - 1) % 7  # APScheduler's week begins there
        yield Difference(
            "wrapping_range",
            f"{item.where} goes on from the last value to the first",
            (Elsewhere((DEBIAN,), "it stands for nothing"), refused(CRONSIM, KUBERNETES, *([] if from_monday else [APSCHEDULER]))),
            written.listed(item.field),
        )


def _sunday_first(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if item.field == WEEKDAY and item.named and low == 0 < high:
        others = refused(APSCHEDULER, why=", since the week begins with Monday")
        instead = written.listed(WEEKDAY) or written.putting(item, "*")
        yield Difference("sunday_first", f"{item.where} begins with Sunday", (others,), instead)


def _equal_range(item: Item, written: Written) -> Iterator[Difference]:
    if item.ends and item.ends[0] == item.ends[1]:
        others = [Elsewhere((CRONITER,), "it is the whole field" + (f" in steps of {item.step}" if item.step else ""))]
        if item.step:
            others.append(Elsewhere((CRONSIM,), f"it goes on to the end in steps of {item.step}"))
        if item.step and not item.named:
            others.append(refused(APSCHEDULER))
        yield Difference("equal_range", f"{item.where} is the one value {item.low}", tuple(others), written.putting(item, item.low))


def _large_step(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (item.number(item.low), item.last)
    if item.step is not None and not item.named and 0 <= high - low < item.step and item.low != item.high:
        here = f"{item.where} is the one value {low}, since the step goes beyond the range"
        yield Difference("large_step", here, (refused(APSCHEDULER),), written.putting(item, str(low)))


def _start_with_step(item: Item, written: Written) -> Iterator[Difference]:
    if item.step is not None and item.high is None and item.low != "*":
        first = item.number(item.low)
        text = f"{first}-{item.last}/{item.step}" if first < item.last else str(first)
        here = f"{item.where} goes on from {item.low} to the end in steps of {item.step}"
        yield Difference("start_with_step", here, (refused(DEBIAN),), written.putting(item, text))


def _named_step(item: Item, written: Written) -> Iterator[Difference]:
    if item.step is not None and item.step > 1 and item.named:
        not_read = Elsewhere((APSCHEDULER,), "a step after a name is not read")
        yield Difference("named_step", f"{item.where} takes steps of {item.step}", (not_read,), written.listed(item.field))


def _uneven_step(item: Item, written: Written) -> Iterator[Difference]:
    del written  # nothing says it better
    if item.low == "*" and item.step is not None and item.step < item.size and item.size % item.step:
        short = item.size % item.step
        last = item.last + 1 - short
        here = f"{item.where} begins anew after {last}: the interval there is {short} instead of {item.step}"
        if item.field == DATE:
            here = f"{item.where} begins anew with each month: the interval there is not always {item.step}"
        yield Difference("uneven_step", f"{here}, as in all crons")


def _stepped_weekday(item: Item, written: Written) -> Iterator[Difference]:
    if item.field == WEEKDAY and item.low == "*" and item.step is not None and 1 < item.step < item.size:
        others = (Elsewhere((APSCHEDULER,), "they begin with Monday"),)
        yield Difference("stepped_weekday", f"the steps of {item.where} begin with Sunday", others, written.listed(WEEKDAY))


_OF_ITEMS: Final = (
    _wrapping_range,
    _sunday_first,
    _equal_range,
    _large_step,
    _start_with_step,
    _named_step,
    _stepped_weekday,
    _uneven_step,
)


def of_items(written: Written) -> Iterator[Difference]:
    """What is otherwise elsewhere with single items of its fields."""
    return (found for item in written.items() for rule in _OF_ITEMS for found in rule(item, written))


def of_numbers(written: Written) -> Iterator[Difference]:
    """What is otherwise elsewhere with weekdays that are written as numbers."""
    ends = {end for item in written.items() if item.field == WEEKDAY for end in (item.low, item.high) if end and end.isdecimal()}
    if not written.days.weekdays or not ends:
        return
    if 7 in {int(end) for end in ends}:  # noqa: PLR2004 -- Sunday's other number
        others = (Elsewhere((QUARTZ, EVENTBRIDGE), "it is Saturday"), refused(KUBERNETES, APSCHEDULER))
        yield Difference("seven_is_sunday", "7 is Sunday, as 0 is", others, written.listed(WEEKDAY))
    else:
        others = (Elsewhere((APSCHEDULER,), "Monday is 0"), Elsewhere((QUARTZ, EVENTBRIDGE), "Sunday is 1"))
        here = f"in the day of week {written.shown(WEEKDAY)} Sunday is 0"
        yield Difference("numeric_weekday", here, others, written.listed(WEEKDAY))
