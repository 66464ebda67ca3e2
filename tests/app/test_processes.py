"""`run` and `serve` as processes: exit statuses, signals, a second daemon, and what reaches the log."""

import asyncio
import json
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.core.instants import to_text
from scheduler.database.lock_file import locate_lock_file
from scheduler.ledger.lock import LedgerLock
from scheduler.ledger.wake import locate_wake_file
from tests.app.conftest import Within
from tests.fault_server import Visit, fault_server, response
from tests.fault_server import until as until_async
from tests.operated import KEY, Place, page, place, until
from tests.ports import free_port
from tests.upstream.support import AUTOMATION


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_told_to_stop_exits_with_0(here: Place, number: signal.Signals) -> None:
    daemon = here.start("run")
    daemon.told(
        "snapshot.failed"
    )  # nobody serves the API; that keeps no daemon from running, nor from stopping
    status, ready = until(lambda: page(here.server_port, "/readyz"), "the pages")
    assert (status, ready["ready"]) == (503, False)
    daemon.signal(number)
    assert daemon.ended() == 0
    assert [line["event"] for line in daemon.log] == [
        "daemon.started",
        "snapshot.failed",
        "daemon.stopping",
        "daemon.stopped",
    ]
    assert daemon.events("daemon.stopping")[0]["reason"] == number.name
    assert len(daemon.log) == len(daemon.text.splitlines()), "nothing but the log is printed"


def test_serve_exits_with_0_when_it_is_told_to_stop(here: Place) -> None:
    serving = here.start("serve")
    until(lambda: page(here.api_port, "/healthz")[0] == 200, "the API")
    assert serving.text == f"serving the API at http://127.0.0.1:{here.api_port}/api/projects/\n"
    assert serving.stop() == 0
    assert serving.out == "", "standard output is the log"


def _newer_ledger(here: Place) -> None:
    with sqlite3.connect(here.ledger) as connection:
        connection.execute("PRAGMA application_id = 1413567308")
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def _overwritten_ledger(here: Place) -> None:
    here.ledger.write_text("This is no database. " * 100)


def _no_target(here: Place) -> None:
    here.file.write_text("")


REFUSED: list[tuple[str, Callable[[Place], object], str]] = [
    ("run", lambda here: here.write("[lgo]"), "is no known setting"),
    ("run", lambda here: here.file.unlink(), "scheduler.toml"),
    ("run", _no_target, "no target is configured"),
    ("run", lambda here: (here.folder / "key").unlink(), "key is not there"),
    ("run", lambda here: (here.folder / "key").write_text(f"{KEY} {KEY}"), "key there and nothing else"),
    ("run", _newer_ledger, "was written by a newer version of the scheduler"),
    ("run", _overwritten_ledger, "is damaged or no SQLite database"),
]


@pytest.mark.parametrize(
    ("command", "spoil", "message"), REFUSED, ids=[f"{command}: {message}" for command, _, message in REFUSED]
)
def test_what_has_to_be_mended_first_is_exit_status_2_and_one_message(
    here: Place,
    command: str,
    spoil: Callable[[Place], object],
    message: str,
    within: Within,
) -> None:
    spoil(here)
    before = here.ledger.read_bytes() if here.ledger.exists() else None
    status, out, err = within(command, "--config", str(here.file))
    assert (status, out, err[:7]) == (2, "", "error: ")
    assert message in err
    assert KEY not in err
    assert (here.ledger.read_bytes() if here.ledger.exists() else None) == before, (
        "a ledger that is refused is left as it is"
    )


@pytest.mark.parametrize(("command", "section"), [("run", "server"), ("serve", "api")])
def test_an_address_in_use_is_exit_status_2_and_named(
    here: Place, command: str, section: str, within: Within
) -> None:
    port = here.server_port if section == "server" else here.api_port
    with socket.create_server(("127.0.0.1", port)):
        status, _, err = within(command, "--config", str(here.file))
    assert status == 2
    assert err.startswith(f"error: cannot listen on 127.0.0.1:{port} ([{section}] listen): ")


def test_a_second_daemon_names_the_first_is_not_ready_and_takes_over_when_that_is_killed(here: Place) -> None:
    first = here.start("run")
    first.told("daemon.started")
    until(locate_wake_file(here.ledger).exists, "the first daemon to listen")
    here.server_port = free_port()
    here.write()
    second = here.start("run")
    assert f"process {first.process.pid}," in second.told("daemon.waiting")["holder"]
    status, ready = here.ready()
    assert status == 503
    assert (
        f"the ledger is held by node {socket.gethostname()}, process {first.process.pid},"
        in ready["missing"][0]
    )
    assert not second.events("daemon.started")
    listening = locate_wake_file(here.ledger).stat().st_ctime_ns
    first.process.kill()
    second.told("daemon.started")
    until(
        lambda: (
            locate_wake_file(here.ledger).exists()
            and locate_wake_file(here.ledger).stat().st_ctime_ns != listening
        ),
        "the second daemon to listen in place of the first",
    )
    assert second.stop() == 0
    assert not locate_wake_file(here.ledger).exists()


@pytest.mark.parametrize("how", ["removed", "replaced, and locked by another"])
def test_a_daemon_that_lost_its_lock_file_exits_with_3_and_the_next_start_works(
    here: Place, how: str
) -> None:
    daemon = here.start("run")
    daemon.told("daemon.started")
    locate_lock_file(here.ledger).unlink()
    another = (
        LedgerLock.try_acquire(here.ledger, node="another", since=datetime(2026, 11, 23, tzinfo=UTC))
        if "locked" in how
        else None
    )
    assert daemon.ended() == 3
    (lost,) = daemon.events("ledger.failed")
    assert (
        "was removed or replaced while this daemon held it, and another daemon may fire too" in lost["error"]
    )
    *_, last = daemon.text.splitlines()
    assert last == f"error: {lost['error']}", "one message, and no traceback"
    again = here.start("run")
    if another is not None:
        assert "node another" in again.told("daemon.waiting")["holder"]
        another.release()
    again.told("daemon.started")
    assert again.stop() == 0


def test_a_daemon_that_still_waits_for_the_ledger_can_be_stopped(here: Place) -> None:
    lock = LedgerLock.try_acquire(here.ledger, node="another", since=datetime(2026, 11, 23, tzinfo=UTC))
    assert lock is not None
    daemon = here.start("run")
    assert "node another" in daemon.told("daemon.waiting")["holder"]
    assert daemon.stop() == 0
    lock.release()
    assert [line["event"] for line in daemon.log] == ["daemon.waiting", "daemon.stopping", "daemon.stopped"]


def test_the_second_signal_ends_a_daemon_that_still_waits_for_an_answer(here: Place) -> None:
    automation = {**AUTOMATION, "cron_expression": "* * * * *", "timezone": "UTC"}

    async def never_answers_a_run(visit: Visit) -> None:
        while request := await visit.request():
            if request.method == "POST":
                await visit.hang()
            await visit.send(
                response(
                    200, {"count": 1, "next": None, "previous": None, "results": [automation]}, {"Date": ""}
                )
            )

    async def main() -> None:
        async with fault_server(never_answers_a_run) as server:
            here.edit(f"http://127.0.0.1:{here.api_port}", server.url)
            await asyncio.to_thread(_came_due_meanwhile, here)
            daemon = here.start("run")
            await until_async(lambda: any(request.method == "POST" for request in server.received))
            daemon.signal(signal.SIGTERM)
            await asyncio.to_thread(daemon.told, "daemon.stopping")
            assert daemon.process.poll() is None, "the attempt in flight gets drain_timeout"
            daemon.signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.ended) == 0
            assert not daemon.events("daemon.stopped")

    asyncio.run(main())
    with closing(sqlite3.connect(here.ledger)) as connection:
        (left,) = connection.execute("SELECT count(*) FROM attempt WHERE result IS NULL").fetchone()
    assert left == 1, "the next start finds out what became of it"


def _came_due_meanwhile(here: Place) -> None:
    """Let a daemon see the automation, stop it, and make believe that minutes have passed since."""
    daemon = here.start("run")
    daemon.told("automation.added")
    assert daemon.stop() == 0
    earlier = to_text(datetime.now(UTC) - timedelta(minutes=3))
    with closing(sqlite3.connect(here.ledger, isolation_level=None)) as connection:
        for setting in (
            "target SET watermark",
            "automation SET effective_from",
            "definition SET effective_from",
        ):
            connection.execute(f"UPDATE {setting} = ?", (earlier,))


def test_sighup_takes_up_a_good_configuration_and_refuses_a_bad_one(here: Place) -> None:
    daemon = here.start("run")
    daemon.told("daemon.started")

    def reload(count: int) -> str | None:
        daemon.signal(signal.SIGHUP)
        error: str | None = daemon.told("config.reloaded", count).get("error")
        return error

    here.write("[lgo]")
    assert "is no known setting" in (reload(1) or "")
    here.write()
    here.edit("scheduler.db", "other.db")
    assert reload(2) == "a reload cannot change [ledger]; restart the daemon for that"
    here.write('[log]\nformat = "console"')
    assert reload(3) == "a reload cannot change [log] format; restart the daemon for that"
    (here.folder / "key").unlink()
    here.write()
    assert "key is not there" in (reload(4) or "")
    assert "\nscheduler_config_last_reload_successful 0.0\n" in here.metrics()
    (here.folder / "key").write_text(KEY)
    here.write('[log]\nlevel = "warning"')
    daemon.signal(signal.SIGHUP)
    until(
        lambda: "\nscheduler_config_last_reload_successful 1.0\n" in here.metrics(), "the reload that is good"
    )
    assert daemon.stop() == 0
    assert not daemon.events("daemon.stopped"), "that is below the level which is set now"


def test_a_sighup_while_the_daemon_starts_is_a_reload_and_not_the_end_of_it(here: Place) -> None:
    daemon = here.start("run")
    until(
        lambda: signal.SIGHUP in _blocked(daemon.process.pid),
        "the daemon to hold reloads back until it listens",
    )
    daemon.signal(signal.SIGHUP)
    assert daemon.told("config.reloaded").get("error") is None
    daemon.told("daemon.started")
    assert daemon.stop() == 0


def _blocked(process: int) -> set[int]:
    """The signals that wait until this process takes them."""
    text = Path(f"/proc/{process}/status").read_text()
    mask = int(next(line for line in text.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in range(1, 64) if mask >> (number - 1) & 1}


def test_a_folder_that_is_not_there_yet_is_told_and_waited_for(here: Place) -> None:
    here.edit(str(here.ledger), f"{here.folder}/late/scheduler.db")
    daemon = here.start("run")
    assert "check that its folder exists" in daemon.told("ledger.failed")["error"]
    assert any("cannot be written" in missing for missing in here.ready()[1]["missing"])
    (here.folder / "late").mkdir()
    daemon.told("daemon.started")
    assert daemon.events("ledger.recovered")
    assert daemon.stop() == 0


def test_the_key_is_nowhere_but_in_its_file(here: Place, within: Within) -> None:
    serving = here.start("serve")
    until(lambda: page(here.api_port, "/healthz")[0] == 200, "the API")
    here.write('[log]\nlevel = "debug"')
    daemon = here.start("run")
    assert "401" in daemon.told("target.held")["error"], "the key is no key of this API's"
    _, status, _ = within("status", "--json", "--config", str(here.file))
    assert json.loads(status)["targets"][0]["held"]
    assert [daemon.stop(), serving.stop()] == [0, 0]
    _, shown, _ = within("config", "show", "--config", str(here.file))
    told = [status, shown, *(each.text for each in here.running)]
    kept = [each.read_bytes() for each in here.folder.rglob("*") if each.is_file() and each.name != "key"]
    assert not [text for text in told if KEY in text]
    assert not [content for content in kept if KEY.encode() in content]
