"""Limit and offset, and the links. The expected answers are those of Django REST framework's
LimitOffsetPagination.
"""

import pytest

from scheduler.localapi.http.paging import PageRequest

URL = "http://api.test/api/projects/1/task_automations/"


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, PageRequest(100, 0)),
        ({"limit": "5", "offset": "7"}, PageRequest(5, 7)),
        ({"limit": "0"}, PageRequest(100, 0)),
        ({"limit": "-1", "offset": "-1"}, PageRequest(100, 0)),
        ({"limit": "", "offset": ""}, PageRequest(100, 0)),
        ({"limit": "many", "offset": "1.5"}, PageRequest(100, 0)),
        ({"limit": " 1_0 ", "offset": "٣"}, PageRequest(10, 3)),
        ({"limit": "10001"}, PageRequest(10_000, 0)),
        ({"limit": "9" * 30, "offset": "9" * 30}, PageRequest(10_000, int("9" * 30))),
        ({"limit": "9" * 5000}, PageRequest(100, 0)),
    ],
)
def test_a_number_that_makes_no_sense_counts_as_not_said(query: dict[str, str], page: PageRequest) -> None:
    assert PageRequest.parse(query, 10_000) == page


@pytest.mark.parametrize(
    ("page", "query", "after", "before"),
    [
        (PageRequest(100, 0), "", None, None),
        (PageRequest(4, 0), "limit=4", "limit=4&offset=4", None),
        (PageRequest(5, 5), "limit=5&offset=5", None, "limit=5"),
        (PageRequest(3, 2), "offset=2&limit=3", "limit=3&offset=5", "limit=3"),
        (PageRequest(3, 6), "offset=6&limit=3", "limit=3&offset=9", "limit=3&offset=3"),
        (
            PageRequest(2, 4),
            "z=1&limit=2&offset=4&a=%C3%A9&a=&limit=9",
            "a=%C3%A9&a=&limit=2&offset=6&z=1",
            "a=%C3%A9&a=&limit=2&offset=2&z=1",
        ),
        (PageRequest(2, 99), "limit=2&offset=99", None, "limit=2&offset=97"),
    ],
)
def test_links_keep_the_query_and_lead_to_the_pages_beside(
    page: PageRequest, query: str, after: str | None, before: str | None
) -> None:
    url = f"{URL}?{query}" if query else URL
    shown = len(range(10)[page.offset : page.offset + page.limit])
    assert page.make_next_link(url, count=10, row_count=shown) == (after and f"{URL}?{after}")
    assert page.make_previous_link(url) == (before and f"{URL}?{before}")
