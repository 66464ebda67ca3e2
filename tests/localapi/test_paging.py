"""Limit and offset, and the links. The expected answers are those of Django REST framework's LimitOffsetPagination."""

import pytest

from scheduler.localapi.paging import Page

URL = "http://api.test/api/projects/1/task_automations/"


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, Page(100, 0)),
        ({"limit": "5", "offset": "7"}, Page(5, 7)),
        ({"limit": "0"}, Page(100, 0)),
        ({"limit": "-1", "offset": "-1"}, Page(100, 0)),
        ({"limit": "", "offset": ""}, Page(100, 0)),
        ({"limit": "many", "offset": "1.5"}, Page(100, 0)),
        ({"limit": " 1_0 ", "offset": "٣"}, Page(10, 3)),
        ({"limit": "10001"}, Page(10_000, 0)),
        ({"limit": "9" * 30, "offset": "9" * 30}, Page(10_000, int("9" * 30))),
        ({"limit": "9" * 5000}, Page(100, 0)),
    ],
)
def test_a_number_that_makes_no_sense_counts_as_not_said(query: dict[str, str], page: Page) -> None:
    assert Page.asked(query) == page


@pytest.mark.parametrize(
    ("page", "query", "after", "before"),
    [
        (Page(100, 0), "", None, None),
        (Page(4, 0), "limit=4", "limit=4&offset=4", None),
        (Page(5, 5), "limit=5&offset=5", None, "limit=5"),
        (Page(3, 2), "offset=2&limit=3", "limit=3&offset=5", "limit=3"),
        (Page(3, 6), "offset=6&limit=3", "limit=3&offset=9", "limit=3&offset=3"),
        (Page(2, 4), "z=1&limit=2&offset=4&a=%C3%A9&a=&limit=9", "a=%C3%A9&a=&limit=2&offset=6&z=1", "a=%C3%A9&a=&limit=2&offset=2&z=1"),
        (Page(2, 99), "limit=2&offset=99", None, "limit=2&offset=97"),
    ],
)
def test_links_keep_the_query_and_lead_to_the_pages_beside(page: Page, query: str, after: str | None, before: str | None) -> None:
    url = f"{URL}?{query}" if query else URL
    shown = len(range(10)[page.offset : page.offset + page.limit])
    assert page.next_link(url, count=10, shown=shown) == (after and f"{URL}?{after}")
    assert page.previous_link(url) == (before and f"{URL}?{before}")
