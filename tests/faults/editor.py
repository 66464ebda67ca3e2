"""The people who work with the automations meanwhile: they make, edit, rename, disable, enable and delete
some of them.
"""

import asyncio
import random
import sqlite3
from datetime import timedelta
from typing import Any

import httpx

from tests.e2e.stand import now
from tests.faults.site import Site

ZONES = (
    *(
        "UTC",
        "America/New_York",
        "America/Sao_Paulo",
        "Europe/London",
        "Europe/Berlin",
        "Africa/Cairo",
        "Asia/Kolkata",
        "Asia/Kathmandu",
    ),
    *("Asia/Tokyo", "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Apia"),
)
EACH_MINUTE = "* * * * *"
CRONS = (
    EACH_MINUTE,
    EACH_MINUTE,
    "*/2 * * * *",
    "1-59/2 * * * *",
    "*/5 * * * *",
    "0 * * * *",
    "*/3 0-11 * * *",
    "* 12-23 * * 1-5",
)
KINDS = ("plain", "all", "none", "forbid", "queue", "jitter")
"""The first word of a name, by which the configuration gives out policies."""


class Editor:
    """Keeps ``count`` automations that nobody edits, and edits others. All of it goes to the API directly."""

    def __init__(self, site: Site, draw: random.Random) -> None:
        self._site = site
        self._draw = draw
        self._mine: dict[str, bool] = {}  # those that are edited, and whether they are enabled
        self._made = 0

    async def furnish(self, count: int) -> None:
        """Make the automations that are left alone, one in two of them due every minute, and a few that are
        not.
        """
        async with self._site.client() as client:
            for number in range(count):
                cron = EACH_MINUTE if number % 2 == 0 else CRONS[number % len(CRONS)]
                await self._make(client, KINDS[number % len(KINDS)], cron)
            for kind in KINDS[:3]:
                self._mine[await self._make(client, kind, EACH_MINUTE)] = True

    async def work(self) -> None:
        """Edit for ever, every few seconds."""
        while True:
            await asyncio.sleep(self._draw.uniform(2, 15))
            try:
                async with self._site.client() as client:
                    await self._edit(client)
            except (httpx.TransportError, sqlite3.OperationalError):
                continue  # the API or the ledger is away, and so whether it was done is not known here
            self._site.told["edits"] += 1

    async def _edit(self, client: httpx.AsyncClient) -> None:
        which = self._draw.choice(sorted(self._mine))
        match self._draw.choice(("cron", "cron", "zone", "name", "switch", "switch", "make", "delete")):
            case "cron":
                await self._patch(client, which, cron_expression=self._draw.choice(CRONS))
            case "zone":
                await self._patch(client, which, timezone=self._draw.choice(ZONES))
            case "name":
                await self._patch(client, which, name=self._name(self._draw.choice(KINDS)))
            case "switch":
                self._mine[which] = not self._mine[which]
                await self._patch(client, which, enabled=self._mine[which])
            case "make" if len(self._mine) < 8:
                self._mine[await self._make(client, self._draw.choice(KINDS), self._draw.choice(CRONS))] = (
                    True
                )
            case "delete" if len(self._mine) > 3:
                await self._delete(client, which)
            case _:
                pass

    async def _delete(self, client: httpx.AsyncClient, which: str) -> None:
        """Of one that is deleted while an attempt is in doubt nobody can find out anything; so wait until
        none can be.
        """
        if self._mine[which] or self._is_open(which):
            return
        await client.delete(f"/{which}/")
        del self._mine[which]

    def _is_open(self, which: str) -> bool:
        since = f"{now() - timedelta(minutes=2):%Y-%m-%dT%H:%M:%SZ}"
        return bool(
            self._site.rows(
                "SELECT 1 FROM occurrence WHERE automation_id = ? AND (outcome IS NULL OR scheduled_for > ?)",
                which,
                since,
            )
        )

    async def _make(self, client: httpx.AsyncClient, kind: str, cron: str) -> str:
        body = {
            "name": self._name(kind),
            "prompt": "go",
            "repository": "acme/app",
            "cron_expression": cron,
            "timezone": ZONES[self._made % len(ZONES)],
        }
        response = await client.post("/", json=body)
        response.raise_for_status()
        made: str = response.json()["id"]
        return made

    async def _patch(self, client: httpx.AsyncClient, which: str, **fields: Any) -> None:
        (await client.patch(f"/{which}/", json=fields)).raise_for_status()

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind} {self._made:03}"
