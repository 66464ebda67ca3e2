"""Many runs started while many clients read and write: none is lost or doubled, and they are carried out in
the order of acceptance.
"""

import asyncio
from pathlib import Path

from tests.localapi.support import COLLECTION, Served, eventually, serving

STARTS = 60
CLIENTS = 10


async def busy(served: Served, done: asyncio.Event) -> int:
    """Create, read, change and delete, over and over; how many times."""
    rounds = 0
    while not done.is_set():
        created = await served.create(name=f"busy {rounds}")
        place = f"{COLLECTION}{created['id']}/"
        assert (await served.client.get(COLLECTION, params={"offset": rounds})).status_code == 200
        assert (await served.client.patch(place, json={"name": "changed"})).json()["name"] == "changed"
        assert (await served.client.delete(place)).status_code == 204
        assert (await served.client.get(place)).status_code == 404
        rounds += 1
    return rounds


def test_every_run_is_carried_out_once_and_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(
            tmp_path, command=("sh", "-c", f"(cat; echo) >> {tmp_path}/carried_out"), max_parallel=1
        ) as served:
            automations = [await served.create(prompt=str(number)) for number in range(STARTS)]
            done = asyncio.Event()
            clients = [asyncio.create_task(busy(served, done)) for _ in range(CLIENTS)]
            answers = await asyncio.gather(*(served.start_run(each["id"]) for each in automations))
            done.set()
            assert min(await asyncio.gather(*clients)) > 0
            runs = await eventually(
                lambda: served.api.runs.list_runs(limit=1000),
                lambda runs: all(run["finished_at"] for run in runs),
            )
            assert {run["id"] for run in runs} == {answer["last_task_run_id"] for answer in answers}
            assert len(runs) == STARTS
            numbers = {each["id"]: number for number, each in enumerate(automations)}
            accepted = [numbers[run["automation_id"]] for run in reversed(runs)]
            assert list(map(int, (tmp_path / "carried_out").read_text().split())) == accepted

    asyncio.run(story())
