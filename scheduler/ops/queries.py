"""The parameters of a request, read strictly: a misspelt or out-of-range parameter is an error.

An answer reports all problems of a query together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from starlette.datastructures import QueryParams

from scheduler.core.instants import from_text
from scheduler.core.model import MAX_NAME, Outcome, RunStatus
from scheduler.core.occurrence_query import DEFAULT_LIMIT, OccurrenceQuery
from scheduler.core.status import AUTOMATION_STATES

_Parsers = Mapping[str, Callable[[str], object]]
_C = TypeVar("_C", bound=str)

MAX_RECORDS: Final = 1_000
"""Limit for the records in one answer."""
FAILING: Final = "failing"
"""The last result of automations whose newest finished run failed or was lost."""
OPEN: Final = "open"
"""The value in place of an outcome for an occurrence without an outcome."""
_MAX_UNKNOWN: Final = 10
"""Limit for reported unknown parameters. More reports would not help the caller."""
_MAX_OFFSET: Final = 1_000_000
_DEFAULT_SPAN: Final = timedelta(hours=24)
_MAX_SPAN: Final = timedelta(days=366)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class BadQuery(ValueError):
    """An invalid query. ``problems`` contains the problem of each parameter."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name} {problem}" for name, problem in problems.items()))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class UpcomingQuery:
    """A choice of coming fires, the next first: ``limit`` fires after the first ``offset``.

    ``span`` begins now. ``automation`` is as in `OccurrenceQuery`.
    """

    automation: str | None = None
    span: timedelta = _DEFAULT_SPAN
    limit: int = DEFAULT_LIMIT
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationQuery:
    """A choice of automations, by name: ``limit`` automations after the first ``offset``.

    ``state`` is one of `AUTOMATION_STATES`. ``automation`` is as in `OccurrenceQuery`. ``result`` is
    `FAILING`, or None for any last result.
    """

    target: str | None = None
    automation: str | None = None
    state: str | None = None
    result: str | None = None
    limit: int = DEFAULT_LIMIT
    offset: int = 0


def parse_automation_query(parameters: QueryParams) -> AutomationQuery:
    """Read the parameters of ``/automations``. Raise `BadQuery`."""
    state, result = partial(_choose, choices=AUTOMATION_STATES), partial(_choose, choices=(FAILING,))
    return AutomationQuery(**_parse(parameters, {**_NAMES, "state": state, "result": result, **_PAGING}))


def parse_paging_query(parameters: QueryParams) -> OccurrenceQuery:
    """Read the parameters of the page of one automation, which only has paging. Raise `BadQuery`."""
    return OccurrenceQuery(**_parse(parameters, _PAGING))


def parse_occurrence_query(parameters: QueryParams) -> OccurrenceQuery:
    """Read the parameters of ``/api/v1/occurrences``. Raise `BadQuery`."""
    parsers: _Parsers = {
        **_NAMES,
        "since": _parse_instant,
        "until": _parse_instant,
        "outcome": partial(_choose, choices=(*Outcome, OPEN)),
        "run_status": partial(_choose, choices=tuple(RunStatus)),
        **_PAGING,
    }
    values = _parse(parameters, parsers)
    if values.get("outcome") == OPEN:
        values |= {"outcome": None, "only_open": True}
    return OccurrenceQuery(**values)


def parse_upcoming_query(parameters: QueryParams) -> UpcomingQuery:
    """Read the parameters of ``/api/v1/upcoming``. Raise `BadQuery`."""
    return UpcomingQuery(**_parse(parameters, {"automation": _parse_name, "span": _parse_span, **_PAGING}))


def _parse(parameters: QueryParams, parsers: _Parsers) -> dict[str, Any]:
    """Return the value of each given parameter. Raise `BadQuery` with the problems of all parameters."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    given = [name for name in parsers if name in parameters]
    for name in given:
        try:
            values[name] = _parse_single(parameters.getlist(name), parsers[name])
        except ValueError as error:
            problems[name] = str(error)
    unknown = (name for name in parameters if name not in parsers)
    for name in islice(unknown, _MAX_UNKNOWN):
        problems[name[:MAX_NAME]] = f"is not known here; known are {', '.join(sorted(parsers))}"
    if problems:
        raise BadQuery(problems)
    return values


def _parse_single(texts: Sequence[str], parse: Callable[[str], object]) -> object:
    if len(texts) > 1:
        raise ValueError(f"is given {len(texts)} times")
    return parse(texts[0])


def _parse_number(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"should be a whole number from {least} to {most}, not {text[:MAX_NAME]!r}")
    return int(text)


def _parse_name(text: str) -> str:
    if not 0 < len(text) <= MAX_NAME:
        raise ValueError(f"should be a name of 1 to {MAX_NAME} characters")
    return text


def _parse_instant(text: str) -> datetime:
    try:
        return from_text(text)
    except (ValueError, OverflowError):
        hint = "; a + in an address is written %2B" if " " in text else ""
        need = "should be an instant such as 2026-11-23T19:20:00Z"
        raise ValueError(f"{need}, not {text[:MAX_NAME]!r}{hint}") from None


def _choose(text: str, choices: Sequence[_C]) -> _C:
    for choice in choices:
        if text == choice:
            return choice
    one_of = "one of " if len(choices) > 1 else ""
    raise ValueError(f"should be {one_of}{', '.join(choices)}, not {text[:MAX_NAME]!r}")


def _parse_span(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,8})([smhd])", text, re.ASCII)
    span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < span <= _MAX_SPAN:
        need = f"should be a duration such as 90m or 24h, at most {_MAX_SPAN.days}d"
        raise ValueError(f"{need}, not {text[:MAX_NAME]!r}")
    return span


_PAGING: Final[_Parsers] = {
    "limit": partial(_parse_number, least=1, most=MAX_RECORDS),
    "offset": partial(_parse_number, least=0, most=_MAX_OFFSET),
}
_NAMES: Final[_Parsers] = {"target": _parse_name, "automation": _parse_name}
