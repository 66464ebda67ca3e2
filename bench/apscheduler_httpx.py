"""The comparison: APScheduler 3 with httpx, a job for each automation. ``python -m bench.apscheduler_httpx
PORT documented|tuned MINUTE``.

``documented`` takes all defaults, of the scheduler and of the client; ``tuned`` allows every job to be late
and httpx eight connections, beyond which its pool only gets slower.
"""

import asyncio
import sys
from datetime import UTC, datetime

import httpx
from apscheduler.schedulers.asyncio import AsyncIOScheduler


async def main(port: int, kind: str, minute: datetime) -> None:
    tuned = kind == "tuned"
    base_url = f"http://127.0.0.1:{port}/api/projects/1/task_automations"
    few = httpx.Limits(max_connections=8)
    async with (
        httpx.AsyncClient(base_url=base_url, limits=few, timeout=None)
        if tuned
        else httpx.AsyncClient(base_url=base_url) as client
    ):
        page = (await client.get("/?limit=100000")).json()
        scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None} if tuned else {})
        for automation in page["results"]:
            scheduler.add_job(
                client.post,
                "cron",
                args=[f"/{automation['id']}/run/"],
                hour=minute.hour,
                minute=minute.minute,
            )
        scheduler.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])))
