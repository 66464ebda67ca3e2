"""Many schedules at once: a JSON line in, a JSON line out, in the same order.

An invalid line gets an error, and the other lines are answered.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from scheduler.cli.output import Json
from scheduler.core.cron.schedule import InvalidSchedule, Schedule
from scheduler.core.instants import END_OF_TIME, from_text, to_text, to_text_seconds
from scheduler.settings.models import ScheduleSettings

FIELDS: Final = ("cron", "timezone", "from", "count")
MAX_FIRES: Final = 10_000
"""Maximum number of fires for a line."""


class _BadLine(ValueError):
    """An invalid line; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class BatchDefaults:
    """The defaults for fields missing in a line, and the settings with the policies at clock changes."""

    after: datetime
    count: int
    settings: ScheduleSettings


def answer_lines(lines: Iterable[bytes], defaults: BatchDefaults) -> Iterator[Json]:
    """Yield an answer for each line, except blank lines."""
    return (_answer(number, text, defaults) for number, text in enumerate(lines, 1) if text.strip())


def _answer(number: int, text: bytes, defaults: BatchDefaults) -> Json:
    try:
        fields = _parse_object(text)
    except _BadLine as error:
        return {"line": number, "error": str(error)}
    echo = {
        "cron": None,
        "timezone": "UTC",
        "from": to_text(defaults.after),
        **{name: fields[name] for name in FIELDS[:3] if name in fields},
    }
    try:
        return {**echo, "fires": _list_fires(fields, defaults)}
    except (_BadLine, InvalidSchedule) as error:
        return {**echo, "error": str(error)}


def _parse_object(text: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        raise _BadLine("the line is nested too deep; write one flat JSON object") from None
    except ValueError as error:
        raise _BadLine(f"the line is not JSON: {_describe_reason(error)}") from None
    if not isinstance(value, dict):
        raise _BadLine(f"the line is no JSON object; write {_FORM}")
    return value


def _describe_reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


_FORM: Final = (
    '{"cron": "0 9 * * *", "timezone": "Europe/Berlin", "from": "2026-11-23T19:20:00Z", "count": 3}'
)


def _list_fires(fields: Mapping[str, object], defaults: BatchDefaults) -> list[str]:
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise _BadLine(f"unknown field {unknown[0]!r}; there are {', '.join(FIELDS)}")
    if "cron" not in fields:
        raise _BadLine(f"the field 'cron' is missing; write {_FORM}")
    timezone, settings = fields.get("timezone", "UTC"), defaults.settings
    schedule = Schedule.parse(
        fields["cron"], timezone, dst_gap=settings.dst_gap, dst_repeat=settings.dst_repeat
    )
    after = _parse_instant(fields["from"]) if "from" in fields else defaults.after
    count = _parse_count(fields["count"]) if "count" in fields else defaults.count
    return [*map(to_text_seconds, islice(schedule.iterate_between(after, END_OF_TIME), count))]


def _parse_instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise _BadLine("'from' is no text; write an instant as \"2026-11-23T19:20:00Z\"")
    try:
        return from_text(value)
    except (ValueError, OverflowError) as error:
        raise _BadLine(f"'from': {error}") from None


def _parse_count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_FIRES:
        return value
    raise _BadLine(f"'count' is not a whole number from 1 to {MAX_FIRES}")
