"""Where an expression means something else in another cron.

Expressions are carried from one scheduler to another, and most of what goes wrong then is known: each rule here looks for one such thing.
What is said of Debian's cron 3.0pl1, croniter, cronsim and APScheduler 3 was tried on them, and the tests do so again; of systemd 252
it was tried with ``systemd-analyze calendar``; Quartz, EventBridge, Kubernetes (robfig/cron 3) and GitHub Actions are quoted from their
documents.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from scheduler.core.changes import ClockChange, Effect
from scheduler.core.cron import Schedule
from scheduler.core.difference import (
    APSCHEDULER,
    CRONITER,
    CRONSIM,
    DEBIAN,
    EVENTBRIDGE,
    GITHUB,
    KUBERNETES,
    QUARTZ,
    SYSTEMD,
    Difference,
    Elsewhere,
    refused,
)
from scheduler.core.spellings import of_items, of_numbers
from scheduler.core.written import DATE, FIELDS, MONTH, WEEKDAY, Written


def differences(schedule: Schedule, changes: Iterable[ClockChange] = ()) -> Sequence[Difference]:
    """What means something else in another cron; none where all agree.

    Each is told by itself, as if the rest of the expression meant the same everywhere. ``changes`` are the clock changes ahead, if what
    others do at them is wanted too.
    """
    written = Written.of(schedule.expression)
    return [*(found for rule in _RULES for found in rule(written)), *_at_changes(schedule, written, list(changes))]


_BOTH_REFUSED: Final = refused(QUARTZ, EVENTBRIDGE, why=", since one of the two must be ?")


# ---------------------------------------------------------------- both day fields


def _day_fields(written: Written) -> Iterator[Difference]:
    date, weekday = written.fields[DATE], written.fields[WEEKDAY]
    if written.days.either:
        yield Difference(
            "day_fields_or",
            f"a day need match only one of day of month {written.shown(DATE)} and day of week {weekday}",
            (Elsewhere((APSCHEDULER, SYSTEMD), "both must match"), _BOTH_REFUSED),
            f"two automations, {written.having(WEEKDAY, '*')} and {written.having(DATE, '*')}; a day that matches both has both",
        )
    elif _restricts(date) and _restricts(weekday) and "*/" in (date[:2], weekday[:2]) and _plain(written):
        yield Difference(
            "day_fields_and",
            f"a day must match both day of month {written.shown(DATE)} and day of week {weekday}, since one of them begins with *",
            (Elsewhere((CRONITER,), "one of them is enough"), _BOTH_REFUSED),
        )


def _star_in_list(written: Written) -> Iterator[Difference]:
    for field, other in ((DATE, WEEKDAY), (WEEKDAY, DATE)):
        text = written.fields[field]
        if "*" in text.split(",") and text[0] != "*" and _restricts(written.fields[other]) and _plain(written):
            yield Difference(
                "star_in_list",
                f"the {FIELDS[field]} {text} does not begin with *, so one of the day fields is enough, and every day matches",
                (Elsewhere((CRONITER, APSCHEDULER), f"the {FIELDS[other]} {written.shown(other)} must match"),),
                written.same(" ".join([*written.fields[:DATE], "*", written.fields[MONTH], "*"])),
            )


def _ignored_field(written: Written) -> Iterator[Difference]:
    days = written.days
    if _plain(written) or (days.by_date and days.by_week):
        return
    ignored, by = (DATE, WEEKDAY) if days.nth else (WEEKDAY, DATE)
    if _restricts(written.fields[ignored]) and written.fields[ignored][0] != "*":
        cronsim = days.nth and not re.search(r"l\d", written.fields[WEEKDAY])
        yield Difference(
            "ignored_field",
            f"the {FIELDS[ignored]} {written.shown(ignored)} is ignored beside the {FIELDS[by]} {written.shown(by)}",
            (*([Elsewhere((CRONSIM,), "one of them is enough")] if cronsim else []), _BOTH_REFUSED),
            written.same(written.having(ignored, "*")),
        )


def _restricts(field: str) -> bool:
    return field != "?" and "*" not in field.split(",")


def _plain(written: Written) -> bool:
    """Whether neither ``#`` nor ``W`` nor an ``L`` with a weekday is there, beside which croniter ignores the other day field."""
    return not (written.days.nth or written.days.nearest)


# ---------------------------------------------------------------- signs that not all crons have


def _signs_of_date(written: Written) -> Iterator[Difference]:
    text = written.shown(DATE)
    if "W" in text:
        others = refused(DEBIAN, KUBERNETES, CRONSIM, APSCHEDULER)
        yield Difference("nearest_weekday", f"the day of month {text} is the weekday nearest to that date, within the month", (others,))
    elif "L" in text:
        others = refused(DEBIAN, KUBERNETES, APSCHEDULER, *([CRONSIM] if "-" in text else []))
        yield Difference("last_day", f"L in the day of month {text} is the last day of the month", (others,))


def _last_weekday(written: Written) -> Iterator[Difference]:
    text = written.shown(WEEKDAY)
    if "L" in text:
        yield Difference(
            "last_weekday",
            f"L in the day of week {text} is the last such weekday of the month, and stands before the number",
            (
                refused(*([] if "#" in text else [DEBIAN]), KUBERNETES, APSCHEDULER),
                Elsewhere((CRONSIM,), "L stands after the number"),
                Elsewhere((QUARTZ, EVENTBRIDGE), "L stands after the number, which counts from Sunday as 1"),
            ),
        )


def _nth_weekday(written: Written) -> Iterator[Difference]:
    text = written.shown(WEEKDAY)
    if "#" not in text:
        return
    before = text.partition("#")[0]
    unread = [DEBIAN] if before.isalnum() and "L" not in before else []  # what it makes of more than one value is another matter
    numbered = re.search(r"\d#", text)
    if before.isalpha() and "," not in text:
        unread.append(APSCHEDULER)
    others = (
        *([Elsewhere(tuple(unread), "what comes after it is not read, and every week counts")] if unread else []),
        refused(KUBERNETES, *([APSCHEDULER] if numbered else [])),
        *([Elsewhere((QUARTZ, EVENTBRIDGE), "the number before it counts from Sunday as 1")] if numbered else []),
    )
    yield Difference("nth_weekday", f"# in the day of week {text} says which one of the month", others)


def _question_mark(written: Written) -> Iterator[Difference]:
    if "?" in written.fields:
        instead = written.same(" ".join(written.fields).replace("?", "*"))
        yield Difference("question_mark", "? is the same as *", (refused(DEBIAN, CRONSIM, APSCHEDULER),), instead)


_RULES: Final = (
    _day_fields,
    _star_in_list,
    _ignored_field,
    _signs_of_date,
    _last_weekday,
    _nth_weekday,
    _question_mark,
    of_items,
    of_numbers,
)


# ---------------------------------------------------------------- clock changes

_HERE: Final[dict[Effect, str]] = {
    "made_up": "it fires at the end of the gap",
    "not_fired": "it does not fire",
    "first_pass": "it fires the first time only",
    "both_passes": "it fires both times",
}
_LATER: Final = Elsewhere((APSCHEDULER,), "it fires as much later as the clock goes ahead")
_ELSEWHERE: Final[dict[Effect, tuple[Elsewhere, ...]]] = {
    "made_up": (_LATER, Elsewhere((KUBERNETES, "EventBridge Scheduler", SYSTEMD), "it does not fire")),
    "not_fired": (_LATER, Elsewhere((DEBIAN, CRONITER), "it fires at the end of the gap")),
    "first_pass": (Elsewhere((CRONITER, APSCHEDULER, KUBERNETES), "it fires both times"),),
    "both_passes": (Elsewhere((DEBIAN, "EventBridge Scheduler", SYSTEMD), "it fires the first time only"),),
}


def _at_changes(schedule: Schedule, written: Written, changes: Sequence[ClockChange]) -> Iterator[Difference]:
    """Of fixed times, the first change of each kind that touches them; a schedule that follows the clock fares alike in most crons."""
    touched = {} if written.read.wildcard else {change.ahead: change for change in reversed(changes) if change.times}
    if skips := touched.get(True):
        here = f"when the clock skips {skips.times[0]:%H:%M}, {_HERE[skips.effect]}"
        yield Difference("clock_skips", here, _ELSEWHERE[skips.effect])
    if repeats := touched.get(False):
        here = f"when the clock repeats {repeats.times[0]:%H:%M}, {_HERE[repeats.effect]}"
        yield Difference("clock_repeats", here, _ELSEWHERE[repeats.effect])
    if changes:
        others = (Elsewhere((GITHUB,), "they are UTC unless its timezone is set"), Elsewhere(("EventBridge rules",), "they are UTC"))
        yield Difference("utc_only", f"times are those of {schedule.timezone}, where the clock changes", others)
