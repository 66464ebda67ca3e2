"""Pages of automations: their order, their size, and the way from one to the next."""

import asyncio
from pathlib import Path
from typing import Any

from tests.localapi.support import COLLECTION, Served, serving

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
            expected = sorted(sorted(created, key=lambda shown: shown["created_at"], reverse=True), key=lambda shown: shown["name"])
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
            scope = {"type": "http", "method": "GET", "path": COLLECTION, "query_string": b"limit=1&x=\xff\xc3\xa9"}
            scope["headers"] = [(b"host", b"api.test"), (b"authorization", served.client.headers["authorization"].encode())]
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
