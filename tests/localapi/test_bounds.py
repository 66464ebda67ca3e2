"""No request takes long at the cost of others: pages end, keys have a length, and what takes long is done on
another thread.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.database import Database
from scheduler.localapi import store
from scheduler.localapi.http import endpoint, views
from scheduler.localapi.http.bodies import parse_body
from scheduler.localapi.http.json_codec import encode
from scheduler.localapi.keys import Scope
from tests.localapi.support import COLLECTION, VALID, Served, serving

LONG = "p" * 100_000


def told(tmp_path: Path, story: Callable[[Served], Any], **config: Any) -> Any:
    async def main() -> Any:
        async with serving(tmp_path, **config) as served:
            return await story(served)

    return asyncio.run(main())


async def follow(served: Served, query: str) -> list[dict[str, Any]]:
    """The bodies of a page and of all that its links lead to."""
    bodies, url = [], f"{COLLECTION}{query}"
    while url:
        answer = await served.client.get(url)
        assert answer.status_code == 200
        bodies.append(answer.json())
        url = bodies[-1]["next"]
    return bodies


def test_a_page_has_at_most_so_many_automations_and_its_links_lead_to_the_rest(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        names = [(await served.create(name=f"n{number}"))["name"] for number in range(7)]
        pages = await follow(served, "?limit=1000000")
        assert [[each["name"] for each in page["results"]] for page in pages] == [
            names[:3],
            names[3:6],
            names[6:],
        ]
        assert [page["count"] for page in pages] == [7, 7, 7]
        assert pages[0]["next"] == f"http://api.test{COLLECTION}?limit=3&offset=3"

    told(tmp_path, story, max_page=3)


def test_a_page_of_long_prompts_ends_early_and_its_links_lead_to_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE_CHARACTERS", 250_000)

    async def story(served: Served) -> None:
        for name in "abcde":
            await served.create(name=name, prompt=LONG)
        await served.create(name="f", prompt=LONG * 3)
        pages = await follow(served, "?limit=5")
        assert ["".join(each["name"] for each in page["results"]) for page in pages] == ["ab", "cd", "e", "f"]
        assert pages[0]["next"] == f"http://api.test{COLLECTION}?limit=5&offset=2"

    told(tmp_path, story)


def test_an_idempotency_key_has_a_length(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        created = await served.create()
        await served.start_run(created["id"], **{"Idempotency-Key": "k" * 255})
        refused = await served.client.post(
            f"{COLLECTION}{created['id']}/run/", headers={"Idempotency-Key": "k" * 256}
        )
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
        assert len(await served.api.runs.list_runs()) == 1

    told(tmp_path, story)


@pytest.mark.parametrize(("prompt", "thread"), [("short", "MainThread"), (LONG, "long-work_0")])
def test_a_large_body_is_parsed_and_a_large_answer_made_on_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, thread: str
) -> None:
    threads: list[str] = []

    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        def carry_out(*arguments: Any) -> Any:
            threads.append(threading.current_thread().name)
            return function(*arguments)

        return carry_out

    monkeypatch.setattr(views, "parse_body", note(parse_body))
    monkeypatch.setattr(endpoint, "encode", note(encode))

    async def story(served: Served) -> None:
        created = await served.create(prompt=prompt)
        place = f"{COLLECTION}{created['id']}/"
        await served.client.get(place)
        await served.client.get(COLLECTION)
        await served.client.patch(place, json={"prompt": prompt})
        await served.start_run(created["id"])

    told(tmp_path, story)
    assert threads == [thread] * 7  # bodies: two; answers: five


def test_a_large_answer_is_the_same_as_a_small_one(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        created = await served.create(prompt=LONG + "\u2028é")
        for indent in ("", "; indent=2"):
            answer = await served.client.get(COLLECTION, headers={"Accept": f"application/json{indent}"})
            assert answer.json()["results"] == [created]
            assert b"\\u2028\xc3\xa9" in answer.content
            assert (b'{\n  "count": 1' in answer.content) == bool(indent)

    told(tmp_path, story)


@pytest.mark.parametrize(("limit", "way"), [(1000, "read"), (1001, "browse")])
def test_a_page_that_is_larger_than_usual_is_read_where_no_other_request_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, way: str
) -> None:
    async def story(served: Served) -> None:
        await served.create()
        used: list[str] = []
        for name in ("read", "browse"):
            method = getattr(Database, name)

            def note(
                self: Database, *arguments: Any, name: str = name, method: Any = method, **keywords: Any
            ) -> Any:
                used.append(name)
                return method(self, *arguments, **keywords)

            monkeypatch.setattr(Database, name, note)
        assert (await served.client.get(COLLECTION, params={"limit": limit})).json()["count"] == 1
        assert used[0] == "read", "the key"
        assert ("browse" in used) == (way == "browse"), "the page; the runner may read meanwhile"

    told(tmp_path, story)


def test_a_costly_request_of_one_client_leaves_the_loop_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a body is being parsed, which is made to take until then, another client creates, lists and
    starts a run.
    """
    parsing, others_are_done = threading.Event(), threading.Event()

    def parse_slowly(raw: bytes, content_type: str) -> object:
        if len(raw) > len(LONG):
            parsing.set()
            assert others_are_done.wait(20)
        return parse_body(raw, content_type)

    monkeypatch.setattr(views, "parse_body", parse_slowly)

    async def story(served: Served) -> None:
        content = json.dumps({**VALID, "prompt": LONG}).encode()
        costly = asyncio.create_task(
            served.client.post(COLLECTION, content=content, headers={"Content-Type": "application/json"})
        )
        await asyncio.to_thread(parsing.wait, 20)
        other = await served.key(Scope.WRITE)
        created = await served.client.post(COLLECTION, json=VALID, headers=other)
        await served.start_run(created.json()["id"], **other)
        assert not costly.done()
        others_are_done.set()
        assert (await costly).status_code == 201

    told(tmp_path, story)
