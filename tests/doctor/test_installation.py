"""A whole installation, as processes of their own: healthy, with one fault after the other put in, and left
as it was by all that.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scheduler.cli.doctor_inputs import examine_installation
from scheduler.cli.group import Source
from scheduler.doctor.checks import run_checks
from scheduler.localapi.keys import Scope
from tests.cli.conftest import DAEMON, folder, root_only
from tests.e2e.stand import Stand, until

__all__ = ["folder"]  # a fixture
Finding = dict[str, str]
NEW = {
    "name": "nightly",
    "prompt": "Tidy up.",
    "repository": "acme/app",
    "cron_expression": "0 3 1 1 *",
    "timezone": "Europe/Vienna",
}


async def checked(stand: Stand) -> list[Finding]:
    """What the command says is not well enough."""
    lines = (await stand.command("check", "--json", check=False)).splitlines()
    return bad([json.loads(line) for line in lines])


async def examined_here(stand: Stand) -> list[Finding]:
    """The same without a command, which takes a second to load."""
    return bad(
        [asdict(each) for each in run_checks(await examine_installation(Source(stand.file), lambda _: None))]
    )


def bad(found: list[Finding]) -> list[Finding]:
    assert {"configuration", "zone data"} <= {each["check"] for each in found}
    here = [
        each for each in found if each["subject"] != "this machine"
    ]  # whose clock may be kept right, or not
    return [each for each in here if each["status"] in {"warning", "fault"}]


def on(folder: Path, story: Callable[[Stand], Awaitable[None]]) -> None:
    """Play a story on a stand on which the API and the daemon run, and there is one automation."""

    async def main() -> None:
        stand = Stand(folder)
        try:
            await stand.start_api()
            async with stand.client() as client:
                (await client.post("/", json=NEW)).raise_for_status()
            await stand.start_daemon()
            await story(stand)
        finally:
            await stand.close()

    asyncio.run(main())


def of_the_api(stand: Stand) -> list[Any]:
    tables = ("automations", "runs", "idempotent_answers")
    return [stand.rows(f"SELECT * FROM {table}", database=stand.api_database) for table in tables]


def of_the_ledger(stand: Stand) -> dict[str, tuple[str, int, int]]:
    """Its files by content, owner and mode. What SQLite keeps in shared memory is made anew by whoever comes,
    and is nothing.
    """
    files = [
        each
        for each in stand.folder.glob("scheduler.db*")
        if each.is_file() and not each.name.endswith("-shm")
    ]
    return {
        each.name: (hashlib.sha256(each.read_bytes()).hexdigest(), each.stat().st_uid, each.stat().st_mode)
        for each in files
    }


def test_a_healthy_installation_is_found_healthy_and_left_as_it_is(tmp_path: Path) -> None:
    async def story(stand: Stand) -> None:
        before = of_the_api(stand)
        assert await checked(stand) == []
        assert of_the_api(stand) == before
        assert before[1] == []  # no run

        await stand.kill("run")
        left = of_the_ledger(stand)
        assert "scheduler.db-wal" in left
        assert await examined_here(stand) == []
        assert of_the_ledger(stand) == left

        await stand.start_daemon()  # which can open it
        await stand.stop("run")
        ledger = of_the_ledger(stand)
        assert set(ledger) == {"scheduler.db", "scheduler.db.lock"}
        assert await examined_here(stand) == []
        assert of_the_ledger(stand) == ledger

        damage(stand.ledger)
        assert [(each["check"], each["status"]) for each in await examined_here(stand)] == [
            ("ledger", "fault")
        ]

    on(tmp_path, story)


def damage(path: Path) -> None:
    """Overwrite a page."""
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)


@root_only
def test_root_leaves_a_ledger_of_another_user_to_that_user(folder: Path) -> None:
    async def story(stand: Stand) -> None:
        await stand.stop("run")
        await left_alone(stand)
        await stand.start_daemon()
        await stand.kill("run")
        await left_alone(stand)

    on(folder, story)


async def left_alone(stand: Stand) -> None:
    """Given to another user, it is that user's still when root has looked."""
    for each in files_of(stand):
        os.chown(each, DAEMON, DAEMON)
    ledger = of_the_ledger(stand)
    assert await examined_here(stand) == []
    assert of_the_ledger(stand) == ledger
    assert {each.stat().st_uid for each in files_of(stand)} == {DAEMON}


def files_of(stand: Stand) -> list[Path]:
    return [stand.folder, stand.folder / "key", *stand.folder.glob("scheduler.db*")]


def test_each_fault_that_is_put_in_is_found_and_named_and_nothing_else(tmp_path: Path) -> None:
    async def story(stand: Stand) -> None:
        for put_in, expected in FAULTS.items():
            take_out = await put_in(stand)
            found = await examined_here(stand)
            await take_out()
            assert [(each["check"], each["status"]) for each in found] == expected, (put_in.__name__, found)
        assert await examined_here(stand) == []

    on(tmp_path, story)


Undo = Callable[[], Awaitable[None]]


async def a_key_that_may_only_read(stand: Stand) -> Undo:
    made = await stand.make_key(Scope.READ)
    (stand.folder / "key").write_text(made.text)
    return restored_key(stand)


async def a_wrong_key(stand: Stand) -> Undo:
    (stand.folder / "key").write_text("phx_" + "0" * 16 + "x" * 43)
    return restored_key(stand)


async def a_key_for_all_to_read(stand: Stand) -> Undo:
    (stand.folder / "key").chmod(0o644)

    async def undo() -> None:
        (stand.folder / "key").chmod(0o600)

    return undo


def restored_key(stand: Stand) -> Undo:
    async def undo() -> None:
        (stand.folder / "key").write_text(stand.key)

    return undo


async def another_project(stand: Stand) -> Undo:
    return await edited(stand, 'project_id = "1"', 'project_id = "2"')


async def an_override_of_nothing(stand: Stand) -> Undo:
    return await edited(stand, "[ledger]", '[[override]]\nautomation = "nigthly"\npaused = true\n[ledger]')


async def an_agent_that_there_is_not(stand: Stand) -> Undo:
    return await edited(stand, '["true"]', '["no-such-agent"]')


async def edited(stand: Stand, old: str, new: str) -> Undo:
    text = stand.file.read_text()
    assert old in text
    stand.file.write_text(text.replace(old, new))

    async def undo() -> None:
        stand.file.write_text(text)

    return undo


async def a_schedule_that_never_comes(stand: Stand) -> Undo:
    """Not the embedded API takes it, but the hosted one does."""
    set_schedule(stand, "0 0 31 2 *")

    async def undo() -> None:
        set_schedule(stand, NEW["cron_expression"])

    return undo


def set_schedule(stand: Stand, expression: str) -> None:
    with closing(sqlite3.connect(stand.api_database, isolation_level=None)) as connection:
        connection.execute("UPDATE automations SET cron_expression = ?", (expression,))


async def a_ledger_for_all_to_write(stand: Stand) -> Undo:
    mode = stand.ledger.stat().st_mode
    stand.ledger.chmod(0o666)

    async def undo() -> None:
        stand.ledger.chmod(mode)

    return undo


async def an_api_that_is_down(stand: Stand) -> Undo:
    await stand.stop("serve")

    async def undo() -> None:
        await stand.start_api()
        await until(lambda: stand.answers(stand.daemon_port, "/readyz"), what="the daemon to be ready again")

    return undo


FAULTS: dict[Callable[[Stand], Awaitable[Undo]], list[tuple[str, str]]] = {
    a_key_that_may_only_read: [("scopes", "fault")],
    a_wrong_key: [("reachability", "fault")],
    a_key_for_all_to_read: [("key", "warning")],
    an_override_of_nothing: [("configuration", "warning")],
    an_agent_that_there_is_not: [("embedded api", "fault")],
    a_ledger_for_all_to_write: [("ledger", "warning")],
    an_api_that_is_down: [("reachability", "fault")],
    # the daemon and the ledger still have the project from before
    another_project: [("reachability", "fault"), ("ledger", "fault"), ("daemon", "warning")],
    # the last: the daemon may record this schedule, which `check` then finds while the API cannot be read
    a_schedule_that_never_comes: [("schedules", "fault")],
}
