"""A repeated `run` under the same Idempotency-Key is answered as the first was, and starts nothing."""

import asyncio
from datetime import timedelta
from pathlib import Path

from scheduler.localapi.keys import Scope
from tests.localapi.support import COLLECTION, Clock, Served, serving


async def runs(served: Served, automation_id: str) -> int:
    return len(await served.api.runs.list_runs(automation=automation_id))


def test_the_first_answer_is_given_again_whatever_has_happened_since(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("true",)) as served:
            created = await served.create()
            first = await served.start_run(created["id"], **{"Idempotency-Key": "k"})
            await served.finished(created["id"])
            await served.client.patch(f"{COLLECTION}{created['id']}/", json={"name": "renamed"})
            assert await served.start_run(created["id"], **{"Idempotency-Key": "k"}) == first
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_without_a_key_or_with_an_empty_one_each_request_is_a_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            answers = [
                await served.start_run(created["id"], **headers)
                for headers in ({}, {}, {"Idempotency-Key": ""})
            ]
            assert (
                len({answer["last_task_run_id"] for answer in answers})
                == await runs(served, created["id"])
                == 3
            )

    asyncio.run(story())


def test_requests_at_the_same_time_start_one_run_and_are_all_answered_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            answers = await asyncio.gather(
                *(served.start_run(created["id"], **{"Idempotency-Key": "k"}) for _ in range(50))
            )
            assert all(answer == answers[0] for answer in answers)
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_an_answer_survives_a_restart_and_its_run_is_carried_out_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("cat",)) as served:
            key = await served.key(Scope.WRITE)
            created = await served.create()
            first = await served.start_run(created["id"], **key, **{"Idempotency-Key": "k"})
        async with serving(tmp_path, served.clock, command=("cat",)) as served:
            assert await served.start_run(created["id"], **key, **{"Idempotency-Key": "k"}) == first
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_a_key_is_for_one_automation(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            one, two = await served.create(), await served.create()
            for automation in (one, two):
                await served.start_run(automation["id"], **{"Idempotency-Key": "k"})
            assert (await runs(served, one["id"]), await runs(served, two["id"])) == (1, 1)

    asyncio.run(story())


def test_every_key_of_the_project_gets_the_first_answer_also_when_the_first_key_was_revoked(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            old = await served.api.keys.create([Scope.WRITE])
            first = await served.start_run(
                created["id"], Authorization=f"Bearer {old.text}", **{"Idempotency-Key": "k"}
            )
            new = await served.key(Scope.WRITE)
            assert await served.start_run(created["id"], **new, **{"Idempotency-Key": "k"}) == first
            assert await served.api.keys.revoke(old.key.id)
            assert await served.start_run(created["id"], **new, **{"Idempotency-Key": "k"}) == first
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_keys_of_one_project_at_the_same_time_start_one_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            keys = [await served.key(Scope.WRITE) for _ in range(10)]
            answers = await asyncio.gather(
                *(served.start_run(created["id"], **key, **{"Idempotency-Key": "k"}) for key in keys)
            )
            assert all(answer == answers[0] for answer in answers)
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_however_the_path_is_written_the_request_is_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            first = await served.start_run(created["id"], **{"Idempotency-Key": "k"})
            for project, automation_id, end in (
                ("@current", created["id"], "/"),
                ("1", created["id"].replace("-", ""), ""),
            ):
                path = f"/api/projects/{project}/task_automations/{automation_id}/run{end}"
                assert (await served.client.post(path, headers={"Idempotency-Key": "k"})).json() == first
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_an_answer_is_given_to_nobody_who_may_not_ask_for_it(tmp_path: Path) -> None:
    """Neither to a key that was revoked since, nor to one that may only read, nor to another project's."""

    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            path = f"{COLLECTION}{created['id']}/run/"
            old = await served.api.keys.create([Scope.WRITE])
            revoked = {"Authorization": f"Bearer {old.text}"}
            await served.start_run(created["id"], **revoked, **{"Idempotency-Key": "k"})
            await served.api.keys.revoke(old.key.id)
            reader, stranger = await served.key(Scope.READ), await served.key(Scope.WRITE, project_id=2)
            elsewhere = path.replace("/1/", "/@current/")
            for headers, asked, status in (
                (revoked, path, 401),
                (reader, path, 403),
                (stranger, path, 404),
                (stranger, elsewhere, 404),
            ):
                answer = await served.client.post(asked, headers={**headers, "Idempotency-Key": "k"})
                assert answer.status_code == status, answer.text
            assert await runs(served, created["id"]) == 1

    asyncio.run(story())


def test_only_a_success_is_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            created = await served.create()
            path = f"{COLLECTION}{created['id']}/run/"
            reader = await served.key(Scope.READ)
            assert (
                await served.client.post(path, headers={**reader, "Idempotency-Key": "k"})
            ).status_code == 403
            assert (await served.client.post(path, headers={"Idempotency-Key": "k"})).status_code == 200

    asyncio.run(story())


def test_after_seven_days_a_key_is_as_good_as_new_and_its_answer_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        clock = Clock()
        async with serving(tmp_path, clock) as served:
            created = await served.create()
            first = await served.start_run(created["id"], **{"Idempotency-Key": "k"})
            for number in range(5):
                await served.start_run(created["id"], **{"Idempotency-Key": f"old {number}"})
            clock.instant += timedelta(days=7) - timedelta(seconds=1)
            assert await served.start_run(created["id"], **{"Idempotency-Key": "k"}) == first
            clock.instant += timedelta(seconds=2)
            assert await served.start_run(created["id"], **{"Idempotency-Key": "k"}) != first
            kept = await served.api._database.read(
                lambda connection: connection.execute("SELECT count(*) FROM idempotent_answers").fetchone()[0]
            )
            assert kept == 1

    asyncio.run(story())
