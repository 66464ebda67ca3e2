"""The parameters of a request, read strictly: a misspelt or out-of-range parameter is an error.

An answer reports all problems of a query together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from starlette.datastructures import QueryParams

from scheduler.core.instants import from_text
from scheduler.core.model import MAX_NAME, Outcome, RunStatus
from scheduler.ops.gauges import AUTOMATION_STATES

_T = TypeVar("_T")
_D = TypeVar("_D")
_C = TypeVar("_C", bound=str)

MAX_RECORDS: Final = 1_000
"""Limit for the records in one answer."""
_DEFAULT_LIMIT: Final = 100
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
class OccurrenceQuery:
    """A choice of occurrences, the newest first: ``limit`` occurrences after the first ``offset``.

    ``automation`` is an id, a name or a pattern for the name. ``since`` is inclusive and ``until`` exclusive;
    both compare with the scheduled instant. ``run_status`` is the status of the run that an occurrence
    started.
    """

    target: str | None = None
    automation: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = None
    run_status: RunStatus | None = None
    only_open: bool = False
    limit: int = _DEFAULT_LIMIT
    offset: int = 0

    def extend_by_one(self) -> "OccurrenceQuery":
        """Return this query with one more record, which shows whether another page follows."""
        return replace(self, limit=self.limit + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpcomingQuery:
    """A choice of coming fires, the next first: ``limit`` fires after the first ``offset``.

    ``span`` begins now. ``automation`` is as in `OccurrenceQuery`.
    """

    automation: str | None = None
    span: timedelta = _DEFAULT_SPAN
    limit: int = _DEFAULT_LIMIT
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationQuery:
    """A choice of automations, by name: ``limit`` automations after the first ``offset``.

    ``state`` is one of `AUTOMATION_STATES`. ``automation`` is as in `OccurrenceQuery`. ``only_failing``
    chooses automations whose newest finished run failed or was lost.
    """

    target: str | None = None
    automation: str | None = None
    state: str | None = None
    only_failing: bool = False
    limit: int = _DEFAULT_LIMIT
    offset: int = 0


def parse_automation_query(parameters: QueryParams) -> AutomationQuery:
    """Read the parameters of ``/automations``. Raise `BadQuery`."""
    reader = _Reader(parameters)
    query = AutomationQuery(
        target=reader.read("target", _parse_name, None),
        automation=reader.read("automation", _parse_name, None),
        state=reader.read("state", partial(_choose, choices=AUTOMATION_STATES), None),
        only_failing=reader.read("result", partial(_choose, choices=(FAILING,)), "") == FAILING,
        limit=reader.read("limit", _parse_limit, _DEFAULT_LIMIT),
        offset=reader.read("offset", _parse_offset, 0),
    )
    reader.end()
    return query


def parse_paging_query(parameters: QueryParams) -> OccurrenceQuery:
    """Read the parameters of the page of one automation, which only has paging. Raise `BadQuery`."""
    reader = _Reader(parameters)
    query = OccurrenceQuery(
        limit=reader.read("limit", _parse_limit, _DEFAULT_LIMIT),
        offset=reader.read("offset", _parse_offset, 0),
    )
    reader.end()
    return query


def parse_occurrence_query(parameters: QueryParams) -> OccurrenceQuery:
    """Read the parameters of ``/api/v1/occurrences``. Raise `BadQuery`."""
    reader = _Reader(parameters)
    outcome = reader.read("outcome", partial(_choose, choices=(*Outcome, OPEN)), None)
    query = OccurrenceQuery(
        target=reader.read("target", _parse_name, None),
        automation=reader.read("automation", _parse_name, None),
        since=reader.read("since", _parse_instant, None),
        until=reader.read("until", _parse_instant, None),
        outcome=outcome if isinstance(outcome, Outcome) else None,
        run_status=reader.read("run_status", partial(_choose, choices=tuple(RunStatus)), None),
        only_open=outcome == OPEN,
        limit=reader.read("limit", _parse_limit, _DEFAULT_LIMIT),
        offset=reader.read("offset", _parse_offset, 0),
    )
    reader.end()
    return query


def parse_upcoming_query(parameters: QueryParams) -> UpcomingQuery:
    """Read the parameters of ``/api/v1/upcoming``. Raise `BadQuery`."""
    reader = _Reader(parameters)
    query = UpcomingQuery(
        automation=reader.read("automation", _parse_name, None),
        span=reader.read("span", _parse_span, _DEFAULT_SPAN),
        limit=reader.read("limit", _parse_limit, _DEFAULT_LIMIT),
        offset=reader.read("offset", _parse_offset, 0),
    )
    reader.end()
    return query


class _Reader:
    """A reader of single parameters that collects all problems until the end."""

    def __init__(self, parameters: QueryParams) -> None:
        self._parameters = parameters
        self._known: list[str] = []
        self._problems: dict[str, str] = {}

    def read(self, name: str, convert: Callable[[str], _T], default: _D) -> _T | _D:
        self._known.append(name)
        texts = self._parameters.getlist(name)
        if len(texts) > 1:
            self._problems[name] = f"is given {len(texts)} times"
        elif texts:
            try:
                return convert(texts[0])
            except ValueError as error:
                self._problems[name] = str(error)
        return default

    def end(self) -> None:
        """Raise `BadQuery` if a parameter was invalid or is unknown."""
        unknown = (name for name in self._parameters if name not in self._known)
        for name in islice(unknown, _MAX_UNKNOWN):
            self._problems[name[:MAX_NAME]] = f"is not known here; known are {', '.join(sorted(self._known))}"
        if self._problems:
            raise BadQuery(self._problems)


def _parse_limit(text: str) -> int:
    return _parse_number(text, 1, MAX_RECORDS)


def _parse_offset(text: str) -> int:
    return _parse_number(text, 0, _MAX_OFFSET)


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
        raise ValueError(
            f"should be an instant such as 2026-11-23T19:20:00Z, not {text[:MAX_NAME]!r}{hint}"
        ) from None


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
        raise ValueError(
            f"should be a duration such as 90m or 24h, at most {_MAX_SPAN.days}d, not {text[:MAX_NAME]!r}"
        )
    return span
