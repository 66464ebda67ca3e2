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
from scheduler.core.ranges import CRONITERS_RULES, RULES_VERSION
from scheduler.core.words import MONTHS, WEEKDAYS
from scheduler.core.written import DATE, MONTH, WEEKDAY, Item, Written


def _wrapping_step(item: Item, written: Written) -> Iterator[Difference]:
    if not item.wraps or item.step is None or item.step == 1:
        return
    here, others = (_value_after_wrap(item, rules) for rules in (RULES_VERSION, CRONITERS_RULES))
    if here != others:
        last = _value_name(item, max(value for value in item.values() if value >= item.number(item.low)))
        yield Difference(
            "wrapping_step",
            f"{item.where} keeps its step from the last value to the first: {here} comes after {last}",
            (Elsewhere((CRONITER,), f"{others} comes after {last}"),),
            written.listed(item.field),
        )


def _value_after_wrap(item: Item, rules_version: int) -> str:
    """The first value of a range that comes after the last value of its field, for people."""
    behind = [value for value in item.values(rules_version) if value < item.number(item.low)]
    return _value_name(item, min(behind)) if behind else "nothing"


def _value_name(item: Item, value: int) -> str:
    if item.field == MONTH:
        return MONTHS[value - 1]
    return WEEKDAYS[value] if item.field == WEEKDAY else str(value)


def _wrapping_range(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if item.wraps:
        from_monday = item.field == WEEKDAY and item.named and (low - 1) % 7 <= (high - 1) % 7  # APScheduler's week begins there
        taken = from_monday or _reads_name_alone(item)
        nothing = [Elsewhere((DEBIAN,), "it stands for nothing")] if high >= item.first else [refused(DEBIAN)]
        yield Difference(
            "wrapping_range",
            f"{item.where} goes on from the last value to the first",
            (*nothing, refused(CRONSIM, KUBERNETES, *([] if taken else [APSCHEDULER]))),
            written.listed(item.field) or written.putting(item, "*"),
        )


def _sunday_first(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if item.field == WEEKDAY and item.named and low == 0 < high and not item.is_mixed:
        others = refused(APSCHEDULER, why=", since the week begins with Monday")
        instead = written.listed(WEEKDAY) or written.putting(item, "*")
        yield Difference("sunday_first", f"{item.where} begins with Sunday", (others,), instead)


def _mixed_range(item: Item, written: Written) -> Iterator[Difference]:
    if item.is_mixed and not (item.is_one_value and item.named):
        others = Elsewhere((APSCHEDULER,), f"{item.low} alone is read") if item.named else refused(APSCHEDULER)
        yield Difference(
            "mixed_range", f"{item.where} has a name at one end and a number at the other", (others,), written.listed(item.field)
        )


def _reads_name_alone(item: Item) -> bool:
    """Whether APScheduler takes the range, and reads no more than the name at its beginning."""
    return item.named and item.is_mixed


def _equal_range(item: Item, written: Written) -> Iterator[Difference]:
    if item.is_one_value:
        here = f"{item.where} is the one value {item.low}"
        yield Difference("equal_range", here, tuple(_equal_range_elsewhere(item)), written.putting(item, item.low))


def _equal_range_elsewhere(item: Item) -> Iterator[Elsewhere]:
    step = item.step or 1
    if set(range(item.first, item.last + 1, step)) != item.values():
        yield Elsewhere((CRONITER,), "it is the whole field" + (f" in steps of {item.step}" if item.step else ""))
    if item.ends == (7, 0):  # written as a range that wraps
        yield Elsewhere((DEBIAN,), "it stands for nothing")
        yield refused(CRONSIM)
    elif item.step and item.high != "l" and item.number(item.low) + item.step <= (7 if item.field == WEEKDAY else item.last):
        yield Elsewhere((CRONSIM,), f"it goes on to the end in steps of {item.step}")
    if item.step and not item.named and item.number(item.low) > 0:
        yield refused(APSCHEDULER)


def _large_step(item: Item, written: Written) -> Iterator[Difference]:
    low, high = item.ends or (item.number(item.low), item.last)
    if item.step is not None and not item.named and 0 <= high - low < item.step and item.low != item.high:
        here = f"{item.where} is the one value {low}, since the step goes beyond the range"
        yield Difference("large_step", here, (refused(APSCHEDULER),), written.putting(item, str(low)))


def _start_with_step(item: Item, written: Written) -> Iterator[Difference]:
    if item.step is not None and item.high is None and item.low != "*":
        first = 0 if item.is_seven else item.number(item.low)
        text = f"{first}-{item.last}/{item.step}" if first < item.last else str(first)
        here = f"{item.where} goes on from {item.low} to the end in steps of {item.step}"
        others = (refused(DEBIAN), *_step_to_seven(item, item.step))
        yield Difference("start_with_step", here, others, written.putting(item, text))


def _step_to_seven(item: Item, step: int) -> Iterator[Elsewhere]:
    """The week of cronsim ends with Sunday as 7."""
    if item.is_seven and step < item.size:
        yield Elsewhere((CRONSIM,), "it is the one value 7")
    elif item.field == WEEKDAY and item.number(item.low) > 0 and (7 - item.number(item.low)) % step == 0 and not item.is_seven:
        yield Elsewhere((CRONSIM,), "it goes on to Sunday as 7")


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
    _wrapping_step,
    _wrapping_range,
    _sunday_first,
    _mixed_range,
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
    items = [item for item in written.items() if item.field == WEEKDAY and (item.low.isdecimal() or (item.high or "").isdecimal())]
    read_as_numbers = {item for item in items if not _reads_name_alone(item)}
    if sevens := {item for item in items if 7 in {item.number(item.low), *(item.ends or ())}}:  # noqa: PLR2004 -- Sunday's other number
        refusing = [KUBERNETES, *([APSCHEDULER] if sevens & read_as_numbers else [])]
        instead = written.listed(WEEKDAY) or written.same(written.having(WEEKDAY, "*"))
        saturday = Elsewhere((QUARTZ, EVENTBRIDGE), "it is Saturday")
        yield Difference("seven_is_sunday", "7 is Sunday, as 0 is", (saturday, refused(*refusing)), instead)
    elif items and written.days.weekdays:
        monday_first = [Elsewhere((APSCHEDULER,), "Monday is 0")] if read_as_numbers else []
        others = (*monday_first, Elsewhere((QUARTZ, EVENTBRIDGE), "Sunday is 1"))
        here = f"in the day of week {written.shown(WEEKDAY)} Sunday is 0"
        yield Difference("numeric_weekday", here, others, written.listed(WEEKDAY))
