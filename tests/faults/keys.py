"""Faults of keys: the daemon's key is rotated while attempts that the old key sent are unknown."""

import signal
from abc import abstractmethod

from tests.e2e.proxy import Lose, Request, pass_on
from tests.e2e.stand import until
from tests.faults.fault import Fault, Violation
from tests.faults.network import Forward
from tests.faults.site import PATIENCE, Site


class KeyRotation(Fault):
    """Each run that the old key asks for is started and its answer lost, until the daemon has a new key; then
    the old one is revoked.
    """

    lane = "process"
    errors = frozenset({"target.held"})  # what the old key asked for last may come when that key is revoked

    async def begin(self, site: Site) -> None:
        old = site.key.encode()

        async def lose_answers_to_the_old_key(request: Request, forward: Forward) -> bytes:
            answered = await forward()
            if request.is_run and old in request.raw:
                site.told[f"{self.name()}: answers lost"] += 1
                raise Lose
            return answered

        site.proxy.rule = lose_answers_to_the_old_key

    async def end(self, site: Site) -> None:
        old, new = site.key_id, await site.create_key()
        await self.hand_over(site)

        async def is_in_use() -> bool:
            return bool(
                site.rows(
                    "SELECT 1 FROM keys WHERE id = ? AND last_used_at IS NOT NULL",
                    new,
                    database=site.api_database,
                )
            )

        await until(is_in_use, seconds=PATIENCE, what="the new key to be used")
        site.proxy.rule = pass_on
        status, said = await site.told_by("keys", "revoke", old)
        if status != 0:
            raise Violation(f"keys revoke: {status} {said}")

    @abstractmethod
    async def hand_over(self, site: Site) -> None:
        """Have the daemon take up the key that its file now holds."""


class KeyRotationByReload(KeyRotation):
    """A key in a `key_file`, taken up by SIGHUP."""

    async def hand_over(self, site: Site) -> None:
        await site.up()
        site.processes["run"].send_signal(signal.SIGHUP)


class KeyRotationByRestart(KeyRotation):
    """A credential, taken up by the restart that `docs/run.md` prescribes."""

    async def hand_over(self, site: Site) -> None:
        site.told["stops of the daemon"] += 1
        await site.terminated()
        await site.start_daemon(ready=False)


KEYS: tuple[type[Fault], ...] = (KeyRotationByReload, KeyRotationByRestart)
