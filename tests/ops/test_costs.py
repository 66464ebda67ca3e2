"""Every parser of the daemon's pages takes time that is linear in its input, up to the input's limit."""

import contextlib
from collections.abc import Callable

import pytest
from starlette.datastructures import QueryParams

from scheduler.core.model import InvalidAutomation, to_canonical_id
from scheduler.ops.bounds import MAX_FIELD, MAX_TARGET
from scheduler.ops.hosts import _parse_address, _parse_host
from scheduler.ops.page.filters import read_form
from scheduler.ops.queries import (
    BadQuery,
    parse_automation_query,
    parse_occurrence_query,
    parse_paging_query,
    parse_upcoming_query,
)
from tests.costs import assert_linear
from tests.ops.page_client import asked as ask

NAMES = ("target", "automation", "since", "until", "outcome", "state", "span", "limit", "offset")
PIECES = ("&", "=", "%", "%41", "+", ";", "a", "9", "*", "[", "a=b&", "2026-", "é", "T", ":", "\0")


@pytest.mark.parametrize(
    "read", [parse_occurrence_query, parse_automation_query, parse_paging_query, parse_upcoming_query]
)
def test_each_query(read: Callable[[QueryParams], object]) -> None:
    def parse(query: str) -> None:
        with contextlib.suppress(BadQuery):
            read(QueryParams(query))

    for name in NAMES:
        assert_linear(parse, (*PIECES, f"{name}=1&"), MAX_TARGET, prefix=f"{name}=", count=20)


def test_a_form_and_the_addresses_that_are_made_of_it() -> None:
    def parse(query: str) -> None:
        read_form(QueryParams(query), parse_occurrence_query, limit=50).make_link("/occurrences", offset=50)

    assert_linear(parse, PIECES, MAX_TARGET)


def test_a_host() -> None:
    def parse(text: str) -> None:
        _parse_address(_parse_host(text) or text)

    for prefix in ("", "[", "1."):
        assert_linear(
            parse,
            ("a", ".", ":", "[", "]", "1", "1.", "::", "ffff:", "%", "@", " "),
            MAX_FIELD,
            prefix=prefix,
        )


def test_an_id_in_a_path() -> None:
    def parse(text: str) -> None:
        with contextlib.suppress(InvalidAutomation):
            to_canonical_id(text)

    assert_linear(parse, ("a", "-", "{", "}", "urn:uuid:", "0", " "), MAX_TARGET)


def test_what_is_not_known_in_a_query_is_told_of_a_few_parameters() -> None:
    answer = ask("/api/v1/occurrences?" + "&".join(f"x{number}=" for number in range(1000)))
    assert answer.status_code == 400
    assert len(answer.json()["problems"]) == 10
