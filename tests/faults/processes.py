"""Faults of processes: killed, stopped, frozen, doubled, renamed, and told to reload in a storm."""

import asyncio
import shlex
import signal
from http import HTTPStatus

from scheduler.database.lock_file import read_holder as lock_holder
from scheduler.ledger.lock import is_locked
from tests.e2e.stand import until
from tests.faults.fault import Fault, Violation
from tests.faults.site import PATIENCE, Site


class Kill(Fault):
    """kill -9 of the daemon, which is started again some time later."""

    lane = "process"
    lasts = (0.0, 8.0)

    async def begin(self, site: Site) -> None:
        site.told["kills of the daemon"] += 1
        await site.kill("run")

    async def end(self, site: Site) -> None:
        await site.start_daemon(ready=False)


class KillTwice(Kill):
    """kill -9 of a daemon that is just starting."""

    lasts = (0.5, 4.0)

    async def begin(self, site: Site) -> None:
        await super().begin(site)
        await site.start_daemon(ready=False)
        await asyncio.sleep(self.draw.uniform(0.3, 4.0))
        await super().begin(site)


class Terminate(Fault):
    """SIGTERM, with whatever is in flight, and a start some time later."""

    lane = "process"
    lasts = (0.0, 8.0)

    async def begin(self, site: Site) -> None:
        site.told["stops of the daemon"] += 1
        await site.terminated()

    async def end(self, site: Site) -> None:
        await site.start_daemon(ready=False)


class Freeze(Fault):
    """SIGSTOP of the daemon, for longer than an attempt may be sent after it was written."""

    lane = "process"
    lasts = (1.0, 14.0)

    async def begin(self, site: Site) -> None:
        site.processes["run"].send_signal(signal.SIGSTOP)

    async def end(self, site: Site) -> None:
        site.processes["run"].send_signal(signal.SIGCONT)


class FreezeApi(Fault):
    """SIGSTOP of the API: what reached it meanwhile it carries out later, whoever still waits for it."""

    lane = "process"
    lasts = (1.0, 5.0)

    async def begin(self, site: Site) -> None:
        site.processes["serve"].send_signal(signal.SIGSTOP)

    async def end(self, site: Site) -> None:
        site.processes["serve"].send_signal(signal.SIGCONT)


class KillApi(Fault):
    """kill -9 of the API, which is back some time later."""

    lane = "process"
    lasts = (0.0, 10.0)

    async def begin(self, site: Site) -> None:
        site.told["kills of the API"] += 1
        await site.kill("serve")

    async def end(self, site: Site) -> None:
        await site.start("serve")
        await until(
            lambda: site.answers(site.api_port, "/healthz"), seconds=PATIENCE, what="the API to be back"
        )


class TerminateApi(KillApi):
    """SIGTERM to the API, which is back some time later."""

    async def begin(self, site: Site) -> None:
        site.told["stops of the API"] += 1
        await site.terminated("serve")


class SecondDaemon(Fault):
    """A second daemon on the same ledger: it fires nothing, is not ready, names the holder, and takes over
    when that is killed.
    """

    lane = "process"
    lasts = (1.0, 10.0)

    async def begin(self, site: Site) -> None:
        first = f"process {site.processes['run'].pid},"

        async def holds() -> bool:
            return first in lock_holder(site.ledger) and is_locked(site.ledger)

        # While its disk is full a daemon is up without the lock. Whichever of two daemons has the lock first
        # may fire.
        await until(holds, seconds=PATIENCE, what=f"the lock to be held by {first}")
        self._second = await site.start_second()

        async def waits() -> bool:
            status, page = await site.page(self._second.port, "/readyz")
            return status == HTTPStatus.SERVICE_UNAVAILABLE and any(
                first in missing for missing in page["missing"]
            )

        await until(waits, seconds=PATIENCE, what=f"the second daemon not to be ready and to name {first}")

    async def end(self, site: Site) -> None:
        if fired := await site.found("SELECT * FROM occurrence WHERE node = ?", self._second.node):
            raise Violation(f"a daemon without the lock has claimed: {fired}")
        site.told["kills of the daemon"] += 1
        await site.kill("run")
        site.succeed(self._second)


class Rename(Fault):
    """Between two starts the host and the target get other names. The new name is refused until the ledger's
    is changed as it says.
    """

    lane = "process"
    lasts = (0.0, 2.0)

    async def begin(self, site: Site) -> None:
        site.told["stops of the daemon"] += 1
        await site.terminated()
        old, site.target_name = site.target_name, f"target-{self.draw.randrange(10**6)}"
        site.node = f"host-{self.draw.randrange(10**6)}"
        site.write_configuration()
        said = ""

        async def refused() -> bool:
            nonlocal said
            status, said = await site.told_by("run")
            return status == _WRONG

        await until(refused, seconds=PATIENCE, what="the new name of the target to be refused")
        rename = ["target", "rename", old, site.target_name]
        advised = shlex.split(said.partition("`")[2].partition("`")[0])
        if advised[-len(rename) - 2 : -2] != rename or advised[-2] != "--config":
            raise Violation(f"a target's new name is refused without the command that renames it: {said}")
        await until(lambda: _done(site, *rename), seconds=PATIENCE, what="the target to be renamed")

    async def end(self, site: Site) -> None:
        await site.start_daemon(ready=False)


async def _done(site: Site, *command: str) -> bool:
    status, said = await site.told_by(*command)
    if status not in {0, _UNREACHABLE}:
        raise Violation(f"{' '.join(command)}: {status} {said}")
    return status == 0


class ReloadStorm(Fault):
    """SIGHUP again and again while the configuration is rewritten, now and then into one that is broken or
    that needs a restart.
    """

    lane = "process"
    errors = frozenset({"config.reloaded"})
    lasts = (3.0, 10.0)

    async def begin(self, site: Site) -> None:
        await site.up()
        self._storm = asyncio.create_task(self._blow(site))

    async def end(self, site: Site) -> None:
        self._storm.cancel()
        await asyncio.wait([self._storm])
        site.rewrite()
        site.processes["run"].send_signal(signal.SIGHUP)
        await until(
            lambda: _is_reloaded(site), seconds=PATIENCE, what="the good configuration to be taken up"
        )

    async def _blow(self, site: Site) -> None:
        while True:
            site.told["SIGHUPs"] += 1
            self._rewrite(site)
            site.processes["run"].send_signal(signal.SIGHUP)
            await asyncio.sleep(self.draw.choice((0.0, 0.01, 0.1, 0.5)))

    def _rewrite(self, site: Site) -> None:
        poll, flying = self.draw.choice(("1s", "5s", "20s")), self.draw.choice(("1", "8", "64"))
        more = self.draw.choice(("", "", "[lgo]\n", "[schedule", "max_in_flight = 7\n"))
        site.rewrite(more, poll_interval=f'"{poll}"\nfresh_for = "2s"', max_in_flight=flying)


async def _is_reloaded(site: Site) -> bool:
    return "\nscheduler_config_last_reload_successful 1.0\n" in await site.metrics()


_WRONG = 2
_UNREACHABLE = 3

PROCESSES: tuple[type[Fault], ...] = (
    *(
        Kill,
        KillTwice,
        Terminate,
        Freeze,
        FreezeApi,
        KillApi,
        TerminateApi,
        SecondDaemon,
        Rename,
        ReloadStorm,
    ),
)
