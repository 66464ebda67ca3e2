"""The six calls over HTTP: what they answer, who may make them, and in which order a request is judged."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scheduler.localapi.keys import Scope
from scheduler.localapi.store import FIELDS
from tests.localapi.support import COLLECTION, VALID, Served, serving

NOWHERE = "11111111-2222-4333-8444-555555555555"
NO_KEY = {"Authorization": ""}

NOT_AUTHENTICATED = (
    401,
    "authentication_error",
    "not_authenticated",
    "Authentication credentials were not provided.",
)
WRONG_KEY = (
    401,
    "authentication_error",
    "authentication_failed",
    "Personal API key found in request Authorization header is invalid.",
)
NEEDS_WRITE = (
    403,
    "authentication_error",
    "permission_denied",
    "API key missing required scope 'task:write'",
)
NEEDS_READ = (403, "authentication_error", "permission_denied", "API key missing required scope 'task:read'")
NOT_FOUND = (404, "invalid_request", "not_found", "Not found.")
NO_ENDPOINT = (404, "invalid_request", "not_found", "Endpoint not found.")
NOT_ACCEPTABLE = (406, "invalid_request", "not_acceptable", "Could not satisfy the request Accept header.")
UNSUPPORTED = (
    415,
    "invalid_request",
    "unsupported_media_type",
    'Unsupported media type "text/plain" in request.',
)


def not_allowed(method: str) -> tuple[int, str, str, str]:
    return (405, "invalid_request", "method_not_allowed", f'Method "{method}" not allowed.')


async def error(served: Served, method: str, path: str, **request: Any) -> tuple[int, str, str, str]:
    answer = await served.client.request(method, path, **request)
    body = answer.json()
    assert list(body) == ["type", "code", "detail", "attr"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["type"], body["code"], body["detail"]


def test_an_automation_is_created_shown_changed_and_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create(timezone="Europe/Zurich", github_integration=7)
            assert tuple(created) == FIELDS
            assert created == created | VALID | {
                "timezone": "Europe/Zurich",
                "github_integration": 7,
                "template_id": None,
                "enabled": True,
            }
            assert {
                name: created[name] for name in FIELDS if name.startswith("last_") and name != "last_task_id"
            } == dict.fromkeys(("last_run_at", "last_run_status", "last_task_run_id", "last_error"))
            assert UUID(created["id"]) != UUID(created["last_task_id"])
            assert re.fullmatch(r"2026-11-23T19:20:00\.\d{6}Z", created["created_at"])
            assert created["updated_at"] == created["created_at"]
            path = f"{COLLECTION}{created['id']}/"
            assert (await served.client.get(path)).json() == created

            changed = (await served.client.patch(path, json={"name": "Daily", "enabled": False})).json()
            assert changed == created | {
                "name": "Daily",
                "enabled": False,
                "updated_at": changed["updated_at"],
            }
            assert changed["updated_at"] > created["updated_at"]

            gone = await served.client.delete(path)
            assert (gone.status_code, gone.content) == (204, b"")
            assert await error(served, "GET", path) == NOT_FOUND
            assert await error(served, "DELETE", path) == NOT_FOUND

    asyncio.run(story())


def test_an_empty_change_still_moves_updated_at(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            changed = (await served.client.patch(f"{COLLECTION}{created['id']}/")).json()
            assert changed["updated_at"] > created["updated_at"]

    asyncio.run(story())


def test_a_form_creates_an_automation_with_its_box_not_ticked(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.client.post(COLLECTION, data=VALID)
            assert answer.status_code == 201
            assert answer.json() == answer.json() | VALID | {"enabled": False}

    asyncio.run(story())


def test_an_error_names_its_field(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            answer = await served.client.post(COLLECTION, json=VALID | {"timezone": "UTC+99"})
            assert (answer.status_code, answer.json()) == (
                400,
                {
                    "type": "validation_error",
                    "code": "invalid_input",
                    "detail": "'UTC+99' is not a valid IANA timezone.",
                    "attr": "timezone",
                },
            )

    asyncio.run(story())


@pytest.mark.parametrize(
    "spelling", [str, lambda text: text.replace("-", ""), str.upper, lambda text: f"{{{text}}}"]
)
def test_an_id_may_be_spelt_as_a_uuid_may(tmp_path: Path, spelling: Any) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            assert (await served.client.get(f"{COLLECTION}{spelling(created['id'])}/")).json() == created

    asyncio.run(story())


@pytest.mark.parametrize("path", ["", "{id}/", "{id}/run/"])
def test_each_route_is_there_with_its_slash_and_without(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            url = COLLECTION + path.format(id=created["id"])
            method = "POST" if "run" in path else "GET"
            for form in (url, url.rstrip("/")):
                assert (await served.client.request(method, form)).status_code == 200

    asyncio.run(story())


def test_current_is_the_keys_own_project_and_others_are_not_found(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            second = await served.key(Scope.WRITE, project_id=2)
            assert (await served.client.get("/api/projects/@current/task_automations/")).json()[
                "results"
            ] == [created]
            nothing: dict[str, object] = {"count": 0, "next": None, "previous": None, "results": []}
            assert (
                await served.client.get("/api/projects/@current/task_automations/", headers=second)
            ).json() == nothing
            for project in ("2", "01", "x", "@other", "-1"):
                assert await error(served, "GET", f"/api/projects/{project}/task_automations/") == NOT_FOUND
            for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "run/")):
                for project in ("1", "2", "@current"):
                    url = f"/api/projects/{project}/task_automations/{created['id']}/{path}"
                    assert await error(served, method, url, headers=second) == NOT_FOUND
            assert await served.show(created["id"]) == created

    asyncio.run(story())


ITEM = f"{COLLECTION}{NOWHERE}/"
CALLS = [
    ("GET", COLLECTION, NEEDS_READ, 200),
    ("POST", COLLECTION, NEEDS_WRITE, 400),
    ("GET", ITEM, NEEDS_READ, 404),
    ("PATCH", ITEM, NEEDS_WRITE, 404),
    ("DELETE", ITEM, NEEDS_WRITE, 404),
    ("POST", f"{ITEM}run/", NEEDS_WRITE, 404),
    ("OPTIONS", COLLECTION, NEEDS_READ, 200),
    ("OPTIONS", ITEM, NEEDS_READ, 200),
]


@pytest.mark.parametrize(("method", "path", "missing", "status"), CALLS)
def test_each_call_needs_a_key_with_its_scope(
    tmp_path: Path, method: str, path: str, missing: tuple[int, str, str, str], status: int
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            for header in ("", "Bearer", "Bearer ", "Token phx_x", "phx_x"):
                assert (
                    await error(served, method, path, headers={"Authorization": header}) == NOT_AUTHENTICATED
                )
            for text in (
                "x",
                "phx_x",
                "phx_" + "0" * 59,
                served.client.headers["authorization"][len("Bearer ") : -1] + "é",
            ):
                assert (
                    await error(served, method, path, headers={"Authorization": f"Bearer {text}".encode()})
                    == WRONG_KEY
                )
            reader, writer = await served.key(Scope.READ), await served.key(Scope.WRITE)
            if missing is NEEDS_WRITE:
                assert await error(served, method, path, headers=reader) == missing
            assert (await served.client.request(method, path, headers=writer)).status_code == status

    asyncio.run(story())


def test_a_refused_key_is_challenged(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            assert (await served.client.get(COLLECTION, headers=NO_KEY)).headers[
                "www-authenticate"
            ] == "Bearer"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        (COLLECTION, "GET, POST, HEAD, OPTIONS"),
        (ITEM, "GET, PATCH, DELETE, HEAD, OPTIONS"),
        (f"{ITEM}run/", "POST, OPTIONS"),
    ],
)
def test_a_method_that_a_route_does_not_have_is_not_allowed(tmp_path: Path, path: str, allow: str) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FIRE"} - set(allow.split(", ")):
                assert await error(served, method, path) == not_allowed(method)
                assert await error(served, method, path, headers=NO_KEY) == NOT_AUTHENTICATED
                assert (await served.client.request(method, path)).headers["allow"] == allow

    asyncio.run(story())


def test_a_request_is_judged_by_accept_key_method_scope_body_and_existence_in_this_order(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            reader = await served.key(Scope.READ)
            wrong: dict[str, Any] = {
                "content": b"{",
                "headers": {"Accept": "text/html", "Content-Type": "text/plain", **NO_KEY},
            }
            assert await error(served, "PATCH", ITEM, **wrong) == NOT_ACCEPTABLE
            del wrong["headers"]["Accept"]
            assert await error(served, "PATCH", ITEM, **wrong) == NOT_AUTHENTICATED
            wrong["headers"] |= reader
            assert await error(served, "PUT", ITEM, **wrong) == not_allowed("PUT")
            assert await error(served, "PATCH", ITEM, **wrong) == NEEDS_WRITE
            del wrong["headers"]["Authorization"]
            assert await error(served, "PATCH", ITEM, **wrong) == UNSUPPORTED
            wrong["headers"]["Content-Type"] = "application/json"
            assert (await error(served, "PATCH", ITEM, **wrong))[2] == "parse_error"
            wrong["content"] = b'{"name": ""}'
            assert (await error(served, "PATCH", ITEM, **wrong))[2] == "blank"
            elsewhere = "/api/projects/2/task_automations/"
            assert (await error(served, "POST", elsewhere, **wrong))[2] == "blank"
            assert await error(served, "POST", elsewhere, json=VALID) == NOT_FOUND
            wrong["content"] = b"{}"
            assert await error(served, "PATCH", ITEM, **wrong) == NOT_FOUND

    asyncio.run(story())


@pytest.mark.parametrize("path", [f"{ITEM}run/", f"{COLLECTION}no-uuid/run/"])
def test_run_never_reads_its_body(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            nonsense: dict[str, Any] = {"content": b"{", "headers": {"Content-Type": "text/plain"}}
            assert await error(served, "POST", path, **nonsense) == NOT_FOUND
            created = await served.create()
            answer = await served.client.post(f"{COLLECTION}{created['id']}/run/", **nonsense)
            assert answer.status_code == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    "path",
    ["/", "/api/projects/1/", "/api/projects/1/tasks/", f"{ITEM}walk/", f"{COLLECTION}a.b/", f"{ITEM}run//"],
)
def test_a_path_that_is_no_route_is_no_endpoint_with_or_without_a_key(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            assert await error(served, "GET", path) == NO_ENDPOINT
            assert await error(served, "POST", path, headers=NO_KEY) == NO_ENDPOINT

    asyncio.run(story())


def test_json_is_compact_in_utf_8_and_indented_when_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create(name="Zürich\u2028!")
            path = f"{COLLECTION}{created['id']}/"
            compact = (await served.client.get(path)).text
            assert '"name":"Zürich\\u2028!","prompt"' in compact
            indented = (await served.client.get(path, headers={"Accept": "application/json; indent=2"})).text
            assert indented.startswith('{\n  "id": ')
            assert json.loads(indented) == created

    asyncio.run(story())


@pytest.mark.parametrize(
    ("query", "status"), [("?format=json", 200), ("?format=", 200), ("?format=api", 404)]
)
def test_json_is_the_only_format(tmp_path: Path, query: str, status: int) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            assert (await served.client.get(COLLECTION + query)).status_code == status

    asyncio.run(story())


def test_head_is_get_without_its_body(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            for path, headers in (
                (COLLECTION, {}),
                (f"{COLLECTION}{created['id']}/", {}),
                (ITEM, {}),
                (COLLECTION, NO_KEY),
            ):
                shown, head = [
                    await served.client.request(method, path, headers=headers) for method in ("GET", "HEAD")
                ]
                assert (head.status_code, head.headers, head.content) == (
                    shown.status_code,
                    shown.headers,
                    b"",
                )
            run = await served.client.head(f"{ITEM}run/")
            assert (run.status_code, run.headers["allow"]) == (405, "POST, OPTIONS")

    asyncio.run(story())


def test_options_describes_what_the_key_may_post(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            described = (await served.client.options(COLLECTION)).json()
            assert described["name"] == "Task Automation List"
            assert described["parses"] == [
                "application/json",
                "application/x-www-form-urlencoded",
            ]
            fields = described["actions"]["POST"]
            assert tuple(fields) == FIELDS
            assert fields["name"] == {
                "type": "string",
                "required": True,
                "read_only": False,
                "label": "Name",
                "max_length": 255,
            }
            assert fields["enabled"] == {
                "type": "boolean",
                "required": False,
                "read_only": False,
                "label": "Enabled",
            }
            assert fields["last_run_at"] == {
                "type": "datetime",
                "required": False,
                "read_only": True,
                "label": "Last run at",
            }
            reader = await served.key(Scope.READ)
            assert "actions" not in (await served.client.options(COLLECTION, headers=reader)).json()
            assert "actions" not in (await served.client.options(ITEM)).json()

    asyncio.run(story())


def test_a_fault_of_ours_is_answered_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            monkeypatch.setattr("scheduler.localapi.http.views.PageRequest.parse", lambda *_: 1 / 0)
            assert await error(served, "GET", COLLECTION) == (
                500,
                "server_error",
                "error",
                "A server error occurred.",
            )

    asyncio.run(story())


def test_a_database_that_cannot_be_written_is_answered_as_unavailable(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            (tmp_path / "api.db").rename(tmp_path / "moved.db")
            answer = await served.client.post(COLLECTION, json=VALID)
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
                503,
                "unavailable",
                "1",
            )
            (tmp_path / "moved.db").rename(tmp_path / "api.db")
            assert (await served.client.post(COLLECTION, json=VALID)).status_code == 201

    asyncio.run(story())
