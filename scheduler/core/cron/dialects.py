"""Differences between this project and other crons in the meaning of an expression.

Users move expressions from one scheduler to another, and most of the resulting errors are known. Each rule
here looks for one such error. The statements about Debian's cron 3.0pl1, croniter, cronsim and APScheduler 3
were tried on these programs, and the tests try them again. The statements about systemd 252 were tried with
``systemd-analyze calendar``. The statements about Quartz, EventBridge, Kubernetes (robfig/cron 3) and GitHub
Actions are quoted from their documentation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from scheduler.core.cron.clock_changes import ClockChange, Effect
from scheduler.core.cron.cron_text import CronText
from scheduler.core.cron.dialect_difference import Cron, DialectBehaviour, Difference, behave, refuse
from scheduler.core.cron.dialect_rules import check_items, check_weekday_numbers
from scheduler.core.cron.fields import DATE, FIELDS, MONTH, WEEKDAY
from scheduler.core.cron.schedule import Schedule


def find_differences(schedule: Schedule, changes: Iterable[ClockChange] = ()) -> Sequence[Difference]:
    """Return the differences from other crons, or none where all crons agree.

    Each difference is described alone, as if the rest of the expression meant the same in all crons.
    ``changes`` are the clock changes ahead, when the differences at clock changes are wanted too.
    """
    written = CronText.parse(schedule.expression)
    return [
        *(difference for rule in _RULES for difference in rule(written)),
        *_check_clock_changes(schedule, written, list(changes)),
    ]


_BOTH_REFUSED: Final = refuse(Cron.QUARTZ, Cron.EVENTBRIDGE, why=", since one of the two must be ?")


# ---------------------------------------------------------------- both day fields


def _check_day_fields(written: CronText) -> Iterator[Difference]:
    date, weekday = written.fields[DATE], written.fields[WEEKDAY]
    if written.days.either:
        yield Difference(
            "day_fields_or",
            f"a day need match only one of day of month {written.format_field(DATE)} and day of "
            f"week {weekday}",
            (behave("both must match", Cron.APSCHEDULER, Cron.SYSTEMD), _BOTH_REFUSED),
            f"two automations, {written.replace_field(WEEKDAY, '*')} and "
            f"{written.replace_field(DATE, '*')}; a day that matches both has both",
        )
    elif (
        all(map(_is_restricting, (date, weekday))) and "*/" in (date[:2], weekday[:2]) and _is_plain(written)
    ):
        yield Difference(
            "day_fields_and",
            f"a day must match both day of month {written.format_field(DATE)} and day of week "
            f"{weekday}, since one of them begins with *",
            (behave("one of them is enough", Cron.CRONITER), _BOTH_REFUSED),
        )


def _check_star_in_list(written: CronText) -> Iterator[Difference]:
    for field, other in ((DATE, WEEKDAY), (WEEKDAY, DATE)):
        text = written.fields[field]
        is_star_inside = "*" in text.split(",") and text[0] != "*"
        if is_star_inside and _is_restricting(written.fields[other]) and _is_plain(written):
            must_match = f"the {FIELDS[other].name} {written.format_field(other)} must match"
            yield Difference(
                "star_in_list",
                f"the {FIELDS[field].name} {text} does not begin with *, so one of the day fields is "
                "enough, and every day matches",
                (behave(must_match, Cron.CRONITER, Cron.APSCHEDULER),),
                written.keep_if_equal(" ".join([*written.fields[:DATE], "*", written.fields[MONTH], "*"])),
            )


def _check_full_day_field(written: CronText) -> Iterator[Difference]:
    """Find a day field with all values and without ``*``: every day matches, whatever the other field has."""
    for field, other in ((DATE, WEEKDAY), (WEEKDAY, DATE)):
        texts = written.fields[field], written.fields[other]
        if any("*" in text.split(",") or text[0] in "*?" for text in texts) or not _is_plain(written):
            return
        if _matches_every_day(written, field) and not _matches_every_day(written, other):
            names = [f"the {FIELDS[index].name} {written.format_field(index)}" for index in (field, other)]
            croniter = [Cron.CRONITER] if "*" in texts[1] else []
            yield Difference(
                "full_day_field",
                f"{names[0]} has every day, so the other day field decides nothing, and every day matches",
                (behave(f"{names[1]} must match", *croniter, Cron.APSCHEDULER, Cron.SYSTEMD), _BOTH_REFUSED),
                written.keep_if_equal(" ".join([*written.fields[:DATE], "*", written.fields[MONTH], "*"])),
            )


def _matches_every_day(written: CronText, field: int) -> bool:
    """Return whether a day field, alone and in all months, matches every day."""
    text = written.fields[field]
    days = CronText.parse(f"0 0 {text} * *" if field == DATE else f"0 0 * * {text}").days
    return not (days.by_date or days.by_week)


def _check_ignored_field(written: CronText) -> Iterator[Difference]:
    days = written.days
    if _is_plain(written) or (days.by_date and days.by_week):
        return
    ignored, by = (DATE, WEEKDAY) if days.nth else (WEEKDAY, DATE)
    if _is_restricting(written.fields[ignored]) and written.fields[ignored][0] != "*":
        is_read = days.nth and not re.search(r"l\d", written.fields[WEEKDAY])
        others = [behave("one of them is enough", Cron.CRONSIM)] if is_read else []
        beside = f"the {FIELDS[by].name} {written.format_field(by)}"
        yield Difference(
            "ignored_field",
            f"the {FIELDS[ignored].name} {written.format_field(ignored)} is ignored beside {beside}",
            (*others, _BOTH_REFUSED),
            written.keep_if_equal(written.replace_field(ignored, "*")),
        )


def _is_restricting(field: str) -> bool:
    return field != "?" and "*" not in field.split(",")


def _is_plain(written: CronText) -> bool:
    """Return whether no ``#``, ``W`` or ``L`` with a weekday makes croniter ignore the other day field."""
    return not (written.days.nth or written.days.nearest)


# ---------------------------------------------------------------- signs unknown to some crons


def _check_date_signs(written: CronText) -> Iterator[Difference]:
    text = written.format_field(DATE)
    if "W" in text:
        others = refuse(Cron.DEBIAN, Cron.KUBERNETES, Cron.CRONSIM, Cron.APSCHEDULER)
        here = f"the day of month {text} is the weekday nearest to that date, within the month"
        yield Difference("nearest_weekday", here, (others,))
    elif "L" in text:
        others = refuse(
            Cron.DEBIAN, Cron.KUBERNETES, Cron.APSCHEDULER, *([Cron.CRONSIM] if "-" in text else [])
        )
        yield Difference("last_day", f"L in the day of month {text} is the last day of the month", (others,))


def _check_last_weekday(written: CronText) -> Iterator[Difference]:
    text = written.format_field(WEEKDAY)
    if "L" in text:
        yield Difference(
            "last_weekday",
            f"L in the day of week {text} is the last such weekday of the month, and stands before "
            "the number",
            (
                refuse(*([] if "#" in text else [Cron.DEBIAN]), Cron.KUBERNETES, Cron.APSCHEDULER),
                behave("L stands after the number", Cron.CRONSIM),
                behave(
                    "L stands after the number, which counts from Sunday as 1", Cron.QUARTZ, Cron.EVENTBRIDGE
                ),
            ),
        )


def _check_nth_weekday(written: CronText) -> Iterator[Difference]:
    text = written.format_field(WEEKDAY)
    if "#" not in text:
        return
    before = text.partition("#")[0]
    # Debian's cron has other behaviour for more than one value
    unread = [Cron.DEBIAN] if before.isalnum() and "L" not in before else []
    numbered = re.search(r"\d#", text)
    if before.isalpha() and "," not in text:
        unread.append(Cron.APSCHEDULER)
    not_read = behave("what comes after it is not read, and every week counts", *unread)
    counted = behave("the number before it counts from Sunday as 1", Cron.QUARTZ, Cron.EVENTBRIDGE)
    others = (
        *([not_read] if unread else []),
        refuse(Cron.KUBERNETES, *([Cron.APSCHEDULER] if numbered else [])),
        *([counted] if numbered else []),
    )
    yield Difference("nth_weekday", f"# in the day of week {text} says which one of the month", others)


def _check_question_mark(written: CronText) -> Iterator[Difference]:
    if "?" in written.fields:
        others = (refuse(Cron.DEBIAN, Cron.CRONSIM, Cron.APSCHEDULER),)
        instead = written.keep_if_equal(" ".join(written.fields).replace("?", "*"))
        yield Difference("question_mark", "? is the same as *", others, instead)


_RULES: Final = (
    _check_day_fields,
    _check_star_in_list,
    _check_full_day_field,
    _check_ignored_field,
    _check_date_signs,
    _check_last_weekday,
    _check_nth_weekday,
    _check_question_mark,
    check_items,
    check_weekday_numbers,
)


# ---------------------------------------------------------------- clock changes

_HERE: Final[dict[Effect, str]] = {
    "made_up": "it fires at the end of the gap",
    "not_fired": "it does not fire",
    "first_pass": "it fires the first time only",
    "both_passes": "it fires both times",
}
_LATER: Final = behave("it fires as much later as the clock goes ahead", Cron.APSCHEDULER)
_ELSEWHERE: Final[dict[Effect, tuple[DialectBehaviour, ...]]] = {
    "made_up": (
        _LATER,
        behave("it does not fire", Cron.KUBERNETES, Cron.EVENTBRIDGE_SCHEDULER, Cron.SYSTEMD),
    ),
    "not_fired": (_LATER, behave("it fires at the end of the gap", Cron.DEBIAN, Cron.CRONITER)),
    "first_pass": (behave("it fires both times", Cron.CRONITER, Cron.APSCHEDULER, Cron.KUBERNETES),),
    "both_passes": (
        behave("it fires the first time only", Cron.DEBIAN, Cron.EVENTBRIDGE_SCHEDULER, Cron.SYSTEMD),
    ),
}


def _check_clock_changes(
    schedule: Schedule, written: CronText, changes: Sequence[ClockChange]
) -> Iterator[Difference]:
    """Yield the differences at clock changes, and for the zone.

    For fixed times, the first change of each kind that affects a time is described. A schedule that follows
    the wall clock behaves alike in most crons.
    """
    fixed_times = not written.expression.wildcard
    touched = {change.is_ahead: change for change in reversed(changes) if change.times and fixed_times}
    if skips := touched.get(True):
        here = f"when the clock skips {skips.times[0]:%H:%M}, {_HERE[skips.effect]}"
        yield Difference("clock_skips", here, _ELSEWHERE[skips.effect])
    if repeats := touched.get(False):
        here = f"when the clock repeats {repeats.times[0]:%H:%M}, {_HERE[repeats.effect]}"
        yield Difference("clock_repeats", here, _ELSEWHERE[repeats.effect])
    if changes:
        others = (
            behave("they are UTC unless its timezone is set", Cron.GITHUB),
            behave("they are UTC", Cron.EVENTBRIDGE_RULES),
        )
        here = f"times are those of {schedule.timezone}, where the clock changes"
        yield Difference("utc_only", here, others)
