"""Pages of automations: their order, their size, and the way from one to the next."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.localapi import page_bookmarks
from scheduler.localapi.page_bookmarks import PageBookmark, PageBookmarks
from scheduler.localapi.schema import open_database
from scheduler.localapi.store import AutomationRef, Store
from tests.localapi.support import COLLECTION, Clock, Served, serving

AUTOMATION: dict[str, Any] = {
    "name": "a",
    "prompt": "p",
    "repository": "a/b",
    "cron_expression": "0 3 * * *",
    "timezone": "UTC",
    "enabled": True,
}

BASE = f"http://api.test{COLLECTION}"


async def page(served: Served, query: str = "") -> dict[str, Any]:
    answer = await served.client.get(COLLECTION + query)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    assert list(body) == ["count", "next", "previous", "results"]
    return body


def test_the_order_is_by_name_then_the_newest_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = [await served.create(name=name) for name in ("b", "a", "B", "a", "ä", "10", "9")]
            expected = sorted(
                sorted(created, key=lambda shown: shown["created_at"], reverse=True),
                key=lambda shown: shown["name"],
            )
            assert [shown["name"] for shown in expected] == ["10", "9", "B", "a", "a", "b", "ä"]
            assert (await page(served))["results"] == expected
            assert (await page(served, "?limit=3&offset=2"))["results"] == expected[2:5]

    asyncio.run(story())


def test_the_links_lead_through_all_of_them_once_in_both_directions(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            ids = [(await served.create(name=f"{number:03}"))["id"] for number in range(230)]
            forth: list[str] = []
            back: list[str] = []
            body = await page(served)
            assert (body["count"], len(body["results"]), body["previous"]) == (230, 100, None)
            assert body["next"] == f"{BASE}?limit=100&offset=100"
            while True:
                forth += [shown["id"] for shown in body["results"]]
                if body["next"] is None:
                    break
                body = (await served.client.get(body["next"])).json()
            while True:
                back[:0] = [shown["id"] for shown in body["results"]]
                if body["previous"] is None:
                    break
                body = (await served.client.get(body["previous"])).json()
            assert forth == back == ids

    asyncio.run(story())


def test_beyond_the_end_there_is_nothing_but_a_way_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            assert await page(served) == {"count": 0, "next": None, "previous": None, "results": []}
            await served.create()
            assert await page(served, "?limit=2&offset=5") == {
                "count": 1,
                "next": None,
                "previous": f"{BASE}?limit=2&offset=3",
                "results": [],
            }
            huge = "9" * 30
            assert (await page(served, f"?limit={huge}&offset={huge}"))["results"] == []
            assert len((await page(served, f"?limit={huge}"))["results"]) == 1

    asyncio.run(story())


def test_the_count_follows_what_is_created_and_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = [(await served.create())["id"] for _ in range(3)]
            for left, automation_id in zip((2, 1, 0), created, strict=True):
                await served.client.delete(f"{COLLECTION}{automation_id}/")
                await served.client.delete(f"{COLLECTION}{automation_id}/")
                assert (await page(served, "?limit=1"))["count"] == left

    asyncio.run(story())


def test_a_link_holds_only_what_a_url_may_whatever_the_query_was(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            for _ in range(2):
                await served.create()
            scope = {
                "type": "http",
                "method": "GET",
                "path": COLLECTION,
                "query_string": b"limit=1&x=\xff\xc3\xa9",
            }
            scope["headers"] = [
                (b"host", b"api.test"),
                (b"authorization", served.client.headers["authorization"].encode()),
            ]
            sent: list[dict[str, Any]] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b""}

            async def send(message: Any) -> None:
                sent.append(message)

            await served.api.app(scope, receive, send)
            assert sent[0]["status"] == 200
            assert b'"next":"http://api.test' in sent[1]["body"]
            assert b"&offset=1&x=%EF%BF%BD%C3%A9" in sent[1]["body"]

    asyncio.run(story())


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_pages_are_those_of_the_order_of_this_moment_whatever_was_read_before(data: st.DataObject) -> None:
    """Where rows were found before is remembered; what comes, goes or is renamed, or is only changed, must
    not lead to another's page.
    """
    steps = data.draw(
        st.lists(
            st.one_of(
                st.tuples(
                    st.sampled_from(["create", "delete", "rename", "edit"]),
                    st.integers(0, 100),
                    st.sampled_from("abcd"),
                ),
                st.tuples(st.just("page"), st.integers(0, 12), st.integers(1, 5)),
            ),
            min_size=10,
            max_size=40,
        )
    )

    async def story(folder: str) -> None:
        database = open_database(Path(folder) / "api.db")
        store = Store(database, Clock())
        for name in "abcdabcdabcd":
            await store.create(1, AUTOMATION | {"name": name})
        await store.create(2, AUTOMATION)
        expected = (await store.read_page(1, limit=100, offset=0)).automations
        for kind, number, what in steps:
            chosen = (
                AutomationRef(1, expected[number % len(expected)]["id"])
                if expected
                else AutomationRef(1, "none")
            )
            if kind == "create":
                await store.create(1, AUTOMATION | {"name": what})
            elif kind == "delete":
                await store.delete(chosen)
            elif kind == "rename":
                await store.update(chosen, {"name": what})
            elif kind == "edit":
                await store.update(chosen, {"prompt": what})
            else:
                page = await store.read_page(1, limit=int(what), offset=number)
                assert (page.count, page.automations) == (
                    len(expected),
                    expected[number : number + int(what)],
                )
                continue
            every = (await store.read_page(1, limit=100, offset=0)).automations
            expected = sorted(
                every, key=lambda row: (row["name"], [-ord(digit) for digit in row["created_at"]], row["id"])
            )
            assert every == expected
        database.close()

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(page_bookmarks, "SPACING", 2)
        asyncio.run(story(folder))


def test_a_row_is_remembered_only_where_none_is_near() -> None:
    known = PageBookmarks()
    for offset in (0, 999, 1000, 1500, 2100, 5000, 3500):
        known.keep(1, 7, PageBookmark(offset, "n", "c", "i"))
    found = [known.find_before(1, 7, offset) for offset in (999, 1000, 2099, 2100, 4999, 9999)]
    assert [anchor.offset for anchor in found] == [0, 1000, 1000, 2100, 3500, 5000]
    assert known.find_before(2, 7, 9999).offset == 0
    assert known.find_before(1, 8, 9999).offset == 0, "another version"
    assert known.find_before(1, 7, 9999).offset == 0, "what was known of the one before is forgotten"


def test_behind_a_proxy_links_lead_to_where_clients_reach_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, public_url="https://automations.example.org/prefix") as served:
            for number in range(3):
                await served.create(name=str(number))
            page = (await served.client.get(COLLECTION, params={"limit": 1, "offset": 1, "x": "é"})).json()
            base = f"https://automations.example.org/prefix{COLLECTION}?limit=1"
            assert (page["next"], page["previous"]) == (f"{base}&offset=2&x=%C3%A9", f"{base}&x=%C3%A9")

    asyncio.run(story())
