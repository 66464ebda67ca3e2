"""Rules for ranges, steps and numbers whose spelling other crons read differently, or refuse.

Each function is one rule. `scheduler.core.cron.dialects` applies all rules.
"""

from collections.abc import Iterator
from typing import Final

from scheduler.core.cron.cron_text import CronText, FieldItem
from scheduler.core.cron.dialect_difference import Cron, DialectBehaviour, Difference, behave, refuse
from scheduler.core.cron.fields import DATE, MONTH, MONTHS, WEEKDAY, WEEKDAYS
from scheduler.core.cron.ranges import CRONITERS_RULES, RULES_VERSION


def _check_wrapping_step(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if not item.is_wrapping or item.step is None or item.step == 1:
        return
    here, others = (_find_value_after_wrap(item, rules) for rules in (RULES_VERSION, CRONITERS_RULES))
    if here != others:
        before = (value for value in item.find_values() if value >= item.to_number(item.low))
        last = _format_value(item, max(before))
        yield Difference(
            "wrapping_step",
            f"{item.description} keeps its step from the last value to the first: {here} comes after {last}",
            (behave(f"{others} comes after {last}", Cron.CRONITER),),
            written.expand_field(item.field),
        )


def _find_value_after_wrap(item: FieldItem, rules_version: int) -> str:
    """Return the first value of a range behind the last value of its field, for people."""
    behind = [value for value in item.find_values(rules_version) if value < item.to_number(item.low)]
    return _format_value(item, min(behind)) if behind else "nothing"


def _format_value(item: FieldItem, value: int) -> str:
    if item.field == MONTH:
        return MONTHS[value - 1]
    return WEEKDAYS[value] if item.field == WEEKDAY else str(value)


def _check_wrapping_range(item: FieldItem, written: CronText) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if item.is_wrapping:
        # APScheduler's week begins with Monday
        from_monday = item.field == WEEKDAY and item.is_named and (low - 1) % 7 <= (high - 1) % 7
        taken = from_monday or _is_read_as_name(item)
        nothing = behave("it stands for nothing", Cron.DEBIAN)
        others = (
            nothing if high >= item.cron_field.first else refuse(Cron.DEBIAN),
            refuse(Cron.CRONSIM, Cron.KUBERNETES, *([] if taken else [Cron.APSCHEDULER])),
        )
        here = f"{item.description} goes on from the last value to the first"
        instead = written.expand_field(item.field) or written.replace_item(item, "*")
        yield Difference("wrapping_range", here, others, instead)


def _check_sunday_first(item: FieldItem, written: CronText) -> Iterator[Difference]:
    low, high = item.ends or (0, 0)
    if item.field == WEEKDAY and item.is_named and low == 0 < high and not item.is_mixed:
        others = refuse(Cron.APSCHEDULER, why=", since the week begins with Monday")
        instead = written.expand_field(WEEKDAY) or written.replace_item(item, "*")
        yield Difference("sunday_first", f"{item.description} begins with Sunday", (others,), instead)


def _check_mixed_range(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if item.is_mixed and not (item.is_one_value and item.is_named):
        low_alone = behave(f"{item.low} alone is read", Cron.APSCHEDULER)
        others = (low_alone if item.is_named else refuse(Cron.APSCHEDULER),)
        here = f"{item.description} has a name at one end and a number at the other"
        yield Difference("mixed_range", here, others, written.expand_field(item.field))


def _is_read_as_name(item: FieldItem) -> bool:
    """Return whether APScheduler accepts the range, but reads only the name at its beginning."""
    return item.is_named and item.is_mixed


def _check_equal_range(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if item.is_one_value:
        here, others = (
            f"{item.description} is the one value {item.low}",
            tuple(_find_equal_range_dialects(item)),
        )
        yield Difference("equal_range", here, others, written.replace_item(item, item.low))


def _find_equal_range_dialects(item: FieldItem) -> Iterator[DialectBehaviour]:
    step = item.step or 1
    if set(range(item.cron_field.first, item.cron_field.last + 1, step)) != item.find_values():
        steps = f" in steps of {item.step}" if item.step else ""
        yield behave(f"it is the whole field{steps}", Cron.CRONITER)
    if item.ends == (7, 0):  # written as a wrapping range
        yield behave("it stands for nothing", Cron.DEBIAN)
        yield refuse(Cron.CRONSIM)
    elif (
        item.step
        and item.high != "l"
        and item.to_number(item.low) + item.step <= (7 if item.field == WEEKDAY else item.cron_field.last)
    ):
        yield behave(f"it goes on to the end in steps of {item.step}", Cron.CRONSIM)
    if item.step and not item.is_named and item.to_number(item.low) > 0:
        yield refuse(Cron.APSCHEDULER)


def _check_large_step(item: FieldItem, written: CronText) -> Iterator[Difference]:
    low, high = item.ends or (item.to_number(item.low), item.cron_field.last)
    if item.step is not None and not item.is_named and 0 <= high - low < item.step and item.low != item.high:
        here = f"{item.description} is the one value {low}, since the step goes beyond the range"
        others, instead = (refuse(Cron.APSCHEDULER),), written.replace_item(item, str(low))
        yield Difference("large_step", here, others, instead)


def _check_start_with_step(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if item.step is not None and item.high is None and item.low != "*":
        first = 0 if item.is_seven else item.to_number(item.low)
        text = f"{first}-{item.cron_field.last}/{item.step}" if first < item.cron_field.last else str(first)
        here = f"{item.description} goes on from {item.low} to the end in steps of {item.step}"
        others = (refuse(Cron.DEBIAN), *_find_seven_dialects(item, item.step))
        yield Difference("start_with_step", here, others, written.replace_item(item, text))


def _find_seven_dialects(item: FieldItem, step: int) -> Iterator[DialectBehaviour]:
    """Yield the behaviour of cronsim, whose week ends with Sunday as 7."""
    if item.is_seven and step < item.cron_field.size:
        yield behave("it is the one value 7", Cron.CRONSIM)
    elif (
        item.field == WEEKDAY
        and item.to_number(item.low) > 0
        and (7 - item.to_number(item.low)) % step == 0
        and not item.is_seven
    ):
        yield behave("it goes on to Sunday as 7", Cron.CRONSIM)


def _check_named_step(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if item.step is not None and item.step > 1 and item.is_named:
        others = (behave("a step after a name is not read", Cron.APSCHEDULER),)
        here = f"{item.description} takes steps of {item.step}"
        yield Difference("named_step", here, others, written.expand_field(item.field))


def _check_uneven_step(item: FieldItem, written: CronText) -> Iterator[Difference]:
    del written  # no other spelling is clearer
    size, step = item.cron_field.size, item.step
    if item.low == "*" and step is not None and step < size and size % step:
        after, interval = (
            f"after {item.cron_field.last + 1 - size % step}",
            f"{size % step} instead of {step}",
        )
        if item.field == DATE:
            after, interval = "with each month", f"not always {step}"
        here = f"{item.description} begins anew {after}: the interval there is {interval}, as in all crons"
        yield Difference("uneven_step", here)


def _check_stepped_weekday(item: FieldItem, written: CronText) -> Iterator[Difference]:
    if item.field == WEEKDAY and item.low == "*" and item.step is not None and 1 < item.step < len(WEEKDAYS):
        others = (behave("they begin with Monday", Cron.APSCHEDULER),)
        here = f"the steps of {item.description} begin with Sunday"
        yield Difference("stepped_weekday", here, others, written.expand_field(WEEKDAY))


_ITEM_RULES: Final = (
    _check_wrapping_step,
    _check_wrapping_range,
    _check_sunday_first,
    _check_mixed_range,
    _check_equal_range,
    _check_large_step,
    _check_start_with_step,
    _check_named_step,
    _check_stepped_weekday,
    _check_uneven_step,
)


def check_items(written: CronText) -> Iterator[Difference]:
    """Yield the differences of single items."""
    for item in written.iterate_items():
        for rule in _ITEM_RULES:
            yield from rule(item, written)


def check_weekday_numbers(written: CronText) -> Iterator[Difference]:
    """Yield the differences of weekdays written as numbers."""
    items = [
        item
        for item in written.iterate_items()
        if item.field == WEEKDAY and (item.low.isdecimal() or (item.high or "").isdecimal())
    ]
    read_as_numbers = {item for item in items if not _is_read_as_name(item)}
    if sevens := {item for item in items if 7 in {item.to_number(item.low), *(item.ends or ())}}:  # noqa: PLR2004 -- Sunday's other number
        refusing = [Cron.KUBERNETES, *([Cron.APSCHEDULER] if sevens & read_as_numbers else [])]
        instead = written.expand_field(WEEKDAY) or written.keep_if_equal(written.replace_field(WEEKDAY, "*"))
        saturday = behave("it is Saturday", Cron.QUARTZ, Cron.EVENTBRIDGE)
        yield Difference("seven_is_sunday", "7 is Sunday, as 0 is", (saturday, refuse(*refusing)), instead)
    elif items and written.days.weekdays:
        monday_first = [behave("Monday is 0", Cron.APSCHEDULER)] if read_as_numbers else []
        others = (*monday_first, behave("Sunday is 1", Cron.QUARTZ, Cron.EVENTBRIDGE))
        here = f"in the day of week {written.format_field(WEEKDAY)} Sunday is 0"
        yield Difference("numeric_weekday", here, others, written.expand_field(WEEKDAY))
