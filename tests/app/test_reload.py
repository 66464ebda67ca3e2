"""SIGHUP on a daemon that serves, on one whose ledger cannot be written, and on one that is not open yet."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.app import daemon as daemon_module
from scheduler.cli.recorded_policies import parse_settings
from scheduler.core.cron import zones
from scheduler.core.cron.schedule import read_versions
from scheduler.core.events import ConfigReloaded, DaemonStarted, DaemonWaiting
from scheduler.core.instants import from_text
from scheduler.core.policy import Concurrency
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.occurrence_records import RecordedPolicy
from scheduler.upstream.client import ApiClient
from scheduler.upstream.transport import PooledTransport
from tests.app.running_daemon import another, living
from tests.defaults import make_policies
from tests.fault_server import until
from tests.ledger.support import at
from tests.upstream.support import ID


@pytest.fixture
def zones_gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Makes all zone data unreadable from the next reload on, as in the middle of an upgrade."""
    yield lambda: monkeypatch.setattr(zones, "_find_copies", list)
    monkeypatch.undo()
    zones.reload_zones()


def test_what_evaluates_after_a_reload_is_recorded_and_signs_what_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch) as (life, _):
            monkeypatch.setattr(
                daemon_module, "read_versions", lambda: read_versions()._replace(tzdata="2099z")
            )
            life.write(schedule='dst_gap = "skip"')
            await life.reload()
            await until(lambda: len(life.rows("SELECT 1 FROM evaluation")) == 2)
            assert life.rows("SELECT tzdata, dst_gap FROM evaluation ORDER BY id")[1] == ("2099z", "skip")
            life.automations.append(another(8))
            await until(lambda: len(life.rows("SELECT 1 FROM definition")) == 2)
            assert life.rows("SELECT tzdata FROM definition ORDER BY id")[1] == ("2099z",)

    asyncio.run(main())


def test_the_policies_of_any_time_are_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch) as (life, _):
            before = life.daemon._clock.now()
            await life.reload()
            life.write(
                schedule='jitter = "7s"\n[[override]]\nautomation = "nightly*"\nconcurrency = "forbid"'
            )
            await life.reload()
            await until(lambda: len(life.rows("SELECT 1 FROM policy")) == 2)
            policies = [
                RecordedPolicy(from_text(since), *texts)
                for since, *texts in life.rows("SELECT since, schedule, overrides FROM policy")
            ]
            assert policies[0].since < before < policies[1].since
            recorded = [parse_settings(each) for each in policies]
            assert [each and each.find_policies(ID, "nightly report") for each in recorded] == [
                make_policies(),
                make_policies(jitter=timedelta(seconds=7), concurrency=Concurrency.FORBID),
            ]
            assert recorded[1] is not None
            assert recorded[1].find_policies(ID, "hourly") == make_policies(jitter=timedelta(seconds=7))

    asyncio.run(main())


def test_a_zone_that_is_gone_stops_nobody_while_the_ledger_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zones_gone: Callable[[], None]
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch, targets=("one", "two")) as (life, running):
            assert life.states() == [{"enabled": 1}, {"enabled": 1}]
            with life.locked():
                zones_gone()
                rotas = [target.context.timetable.schedule_heap for target in life.daemon._targets]
                await until(
                    lambda: max(rota.cursor for rota in rotas) < life.daemon._clock.now()
                )  # so there is something to evaluate
                await life.reload()
                assert life.states() == [{"invalid": 1}, {"invalid": 1}], (
                    "both, although nothing of it can be recorded yet"
                )
            await until(lambda: len(life.rows("SELECT 1 FROM definition WHERE invalid IS NOT NULL")) == 2)
            assert not running.done()

    asyncio.run(main())


def test_of_two_reloads_the_later_one_counts_for_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch, targets=("one", "two")) as (life, _):
            with life.locked():
                for most, gap in ((7, "skip"), (9, "after")):
                    life.write(
                        target=f"max_in_flight = {most}",
                        schedule=f'dst_gap = "{gap}"\nstart_within = "{most}m"',
                    )
                    await life.reload()
            await until(lambda: not [task for task in life.daemon._background if not task.done()])
            contexts = [target.context for target in life.daemon._targets]
            assert [context.settings.max_in_flight for context in contexts] == [9, 9]
            assert [context.upstream for context in contexts] == life.daemon._clients
            assert life.rows("SELECT dst_gap FROM evaluation ORDER BY id DESC LIMIT 1") == [("after",)]

    asyncio.run(main())


@pytest.mark.parametrize("fault", [RuntimeError("out of luck"), OSError(5, "I/O error")])
def test_a_fault_while_reading_is_told_and_what_was_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch) as (life, running):
            settings, clients = life.daemon._settings, life.daemon._clients

            def fails() -> None:
                raise fault

            life.daemon._load = fails  # type: ignore[assignment]  # it never gives anything
            await life.reload()
            assert [event.error for event in life.told(ConfigReloaded)] == [
                f"{type(fault).__name__}: {fault}"
            ]
            assert (life.daemon._settings, life.daemon._clients) == (settings, clients)
            assert not running.done()

    asyncio.run(main())


def test_a_reload_before_the_ledger_is_ours_counts_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        lock = LedgerLock.try_acquire(tmp_path / "ledger.db", node="other", since=at(0))
        assert lock is not None
        async with living(tmp_path, monkeypatch, started=False) as (life, _):
            await until(lambda: bool(life.told(DaemonWaiting)))
            life.write(target="max_in_flight = 7", schedule='dst_gap = "skip"')
            await life.reload()
            lock.release()
            await until(lambda: bool(life.told(DaemonStarted)))
            (context,) = [target.context for target in life.daemon._targets]
            assert (context.settings.max_in_flight, [context.upstream]) == (7, life.daemon._clients)
            assert life.rows("SELECT dst_gap FROM evaluation") == [("skip",)]

    asyncio.run(main())


def _connections(client: ApiClient) -> object:
    assert isinstance(client._transport, PooledTransport)
    return client._transport._opened


def test_clients_that_were_replaced_are_closed_and_nobody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with living(tmp_path, monkeypatch) as (life, _):
            (old,) = life.daemon._clients
            with old._count_use():
                await life.reload()
                await asyncio.sleep(0)
                assert _connections(old) is not None, "something is under way on it"
            await until(lambda: _connections(old) is None)
            (still_in_use,) = life.daemon._clients
            await until(lambda: _connections(still_in_use) is not None)
            for_ever = still_in_use._count_use()
            for_ever.__enter__()
            await life.reload()
        assert _connections(still_in_use) is None, "the daemon has ended"

    asyncio.run(main())
