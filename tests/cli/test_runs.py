"""`scheduler runs`."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler.database import Database
from scheduler.localapi.automation_search import find_named
from scheduler.localapi.early_ends import EarlyCause
from scheduler.localapi.runs import QueuedRun, RunQueue, RunResult
from scheduler.localapi.schema import open_database
from scheduler.localapi.store import AutomationRef, Store
from tests.cli.conftest import Scheduler
from tests.localapi.support import eventually

NOW = datetime(2026, 11, 23, 19, 20, tzinfo=UTC)
AUTOMATION: dict[str, Any] = {
    "name": "nightly\x1b[31m",
    "prompt": "do it",
    "repository": "acme/app",
    "github_integration": None,
    "cron_expression": "0 0 * * *",
    "timezone": "UTC",
    "template_id": None,
    "enabled": True,
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "api.db"
    monkeypatch.setenv("SCHEDULER_API__DATABASE", f"sqlite:///{path}")
    return path


def within(path: Path, use: Callable[[Database], Awaitable[Any]]) -> Any:
    async def used() -> Any:
        database = open_database(path)
        try:
            return await use(database)
        finally:
            database.close()

    return asyncio.run(used())


def begin(path: Path, name: str = AUTOMATION["name"], *, at: datetime = NOW) -> str:
    """Begin a run, and return its id."""

    async def use(database: Database) -> str:
        store = Store(database, lambda: at)
        automation = await store.create(1, {**AUTOMATION, "name": name})
        await store.start_run(AutomationRef(1, automation["id"]), None)
        taken = await RunQueue(database, lambda: at).take(["agent", "two words"])
        assert taken is not None
        return taken.id

    run_id: str = within(path, use)
    return run_id


def end(path: Path, run_id: str, how: RunResult) -> None:
    async def use(database: Database) -> None:
        queue = RunQueue(database, lambda: NOW.replace(second=7))
        run = await queue.get_run(run_id)
        assert run is not None
        taken = QueuedRun(
            *(run[name] for name in ("id", "automation_id", "task_id", "name", "repository", "prompt"))
        )
        await queue.finish(taken, how, NOW.replace(second=7))

    within(path, use)


def show(scheduler: Scheduler, text: str) -> dict[str, Any]:
    """Return the run that `runs show` finds."""
    run: dict[str, Any] = json.loads(scheduler("runs", "show", text, "--json").out)
    return run


def print_output(path: Path, run_id: str, content: bytes) -> None:
    folder = path.with_name("api.db.runs") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output").open("ab") as file:
        file.write(content)


def test_runs_are_listed_the_newest_first(scheduler: Scheduler, path: Path) -> None:
    first, second = begin(path), begin(path)
    listed = [json.loads(line) for line in scheduler("runs", "list", "--json").out.splitlines()]
    assert [run["id"] for run in listed] == [second, first]
    assert "prompt" not in listed[0]
    limited = scheduler("runs", "list", "--json", "--limit", "1").out.splitlines()
    assert [json.loads(line)["id"] for line in limited] == [second]
    chosen = scheduler(
        "runs", "list", "--json", "--automation", listed[1]["automation_id"].upper()
    ).out.splitlines()
    assert [json.loads(line)["id"] for line in chosen] == [first]


def test_runs_are_chosen_by_their_automation_and_their_status(scheduler: Scheduler, path: Path) -> None:
    nightly, daily, failed = (
        begin(path, "nightly-report"),
        begin(path, "daily [x]"),
        begin(path, "nightly-tests"),
    )
    end(path, failed, RunResult("failed", 1, "broken"))

    def chosen(*options: str) -> list[str]:
        return [
            json.loads(line)["id"] for line in scheduler("runs", "list", "--json", *options).out.splitlines()
        ]

    assert chosen("--status", "failed") == [failed]
    assert chosen("--status", "running") == [daily, nightly]
    assert chosen("--automation", "nightly-*") == [failed, nightly]
    assert chosen("--automation", "daily [x]") == [daily], "a name that looks like a pattern"
    assert chosen("--automation", "[!n]*") == [daily]
    assert chosen("--automation", "nightly-*", "--status", "running") == [nightly]
    assert chosen("--automation", "nobody") == []

    async def rename(database: Database) -> None:
        run = await RunQueue(database, lambda: NOW).get_run(nightly)
        assert run is not None
        await Store(database, lambda: NOW).update(AutomationRef(1, run["automation_id"]), {"name": "weekly"})

    within(path, rename)
    assert chosen("--automation", "weekly") == chosen("--automation", "nightly-report") == [nightly]
    assert scheduler("runs", "list", "--status", "lost").status == 2


def test_the_table_of_runs_shows_how_they_ended_and_lets_no_name_take_hold_of_the_terminal(
    scheduler: Scheduler, path: Path
) -> None:
    end(path, begin(path), RunResult("failed", 3, "broken"))
    title, row = scheduler("runs", "list").out.splitlines()
    assert title.split() == [
        "run",
        "automation",
        "status",
        "created",
        "in",
        "UTC",
        "UTC",
        "took",
        "exit",
        "error",
    ]
    assert row.split()[1:3] == [r"nightly\x1b[31m", "failed"]
    assert row.split()[-4:] == ["7", "s", "3", "broken"]
    sheet = scheduler("runs", "show", row.split()[0][:8]).out
    assert (
        "started     Mon 2026-11-23 19:20:00 UTC (2026-11-23T19:20:00Z)\nfinished    Mon 2026-11-23 "
        "19:20:07 UTC"
    ) in sheet
    assert "\ntook        7 s\n" in sheet
    assert "2026-11-23T19:20:00Z" in row


def test_a_run_is_found_by_the_beginning_of_its_id_and_the_newest_run_by_its_automations_name(
    scheduler: Scheduler, path: Path
) -> None:
    runs = [begin(path, "nightly")]
    automation_id = show(scheduler, runs[0])["automation_id"]
    within(
        path,
        lambda database: Store(database, lambda: NOW.replace(second=1)).start_run(
            AutomationRef(1, automation_id), None
        ),
    )
    runs += [
        run["id"]
        for run in map(json.loads, scheduler("runs", "list", "--json").out.splitlines())
        if run["id"] not in runs
    ]
    assert scheduler("runs", "show", runs[0][:8]).out == scheduler("runs", "show", runs[0]).out
    assert scheduler("runs", "show", runs[0][:13].upper()).out.startswith(f"run         {runs[0]}\n")
    assert scheduler("runs", "show", "nightly").out.startswith(f"run         {runs[1]}\n")
    unknown = scheduler("runs", "show", "0123abcd")
    assert (unknown.status, unknown.err) == (
        1,
        "error: there is no run '0123abcd'; see `scheduler runs list`\n",
    )


def test_a_name_precedes_the_beginning_of_an_id_and_is_no_pattern_when_an_automation_is_called_so(
    scheduler: Scheduler, path: Path
) -> None:
    other = begin(path, "nightly")
    called_so = begin(path, other[:4])
    assert scheduler("runs", "show", other[:4]).out.startswith(f"run         {called_so}\n")
    brackets = begin(path, "report [eu]")
    begin(path, "report e")
    assert scheduler("runs", "show", "report [eu]").out.startswith(f"run         {brackets}\n")


def test_a_beginning_that_several_runs_share_lists_them(scheduler: Scheduler, path: Path) -> None:
    first, second = begin(path, "nightly"), begin(path, "weekly")
    alike = [f"5f0e7c3{number}-0000-4000-8000-00000000000f" for number in range(2)]

    def rename(connection: sqlite3.Connection) -> None:
        connection.executemany("UPDATE runs SET id = ? WHERE id = ?", [(alike[0], first), (alike[1], second)])

    within(path, lambda database: database.write(rename))
    for command in (("show",), ("cancel",)):
        done = scheduler("runs", *command, "5f0e7c3")
        assert (done.status, done.out) == (1, "")
        assert (
            done.err.splitlines()[0]
            == "error: there are 2 runs whose ids begin with '5f0e7c3'; give the id of one"
        )
        assert [line.split()[:2] for line in done.err.splitlines()[1:]] == [
            [alike[0], "nightly"],
            [alike[1], "weekly"],
        ]


def test_the_runs_of_an_automation_are_chosen_by_the_beginning_of_its_id(
    scheduler: Scheduler, path: Path
) -> None:
    run_id = begin(path, "nightly")
    begin(path, "weekly")
    automation_id = json.loads(scheduler("runs", "show", run_id, "--json").out)["automation_id"]
    listed = scheduler("runs", "list", "--automation", automation_id[:8], "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [run_id]


def test_no_runs_are_an_empty_answer(scheduler: Scheduler, path: Path) -> None:
    within(path, lambda database: database.read(lambda _: None))
    done = scheduler("runs", "list")
    assert (done.status, done.out, done.err) == (0, "", "no runs\n")


def test_a_run_is_shown_with_its_output(scheduler: Scheduler, path: Path) -> None:
    run_id = begin(path)
    print_output(path, run_id, b"line one\nline two\n")
    end(path, run_id, RunResult("failed", -9, "out of time"))
    shown = scheduler("runs", "show", run_id).out
    for piece in (
        run_id,
        r"nightly\x1b[31m",
        "acme/app",
        "failed, ended by signal 9",
        "agent 'two words'",
        "out of time",
    ):
        assert piece in shown
    assert shown.endswith("\n\nline one\nline two\n")


def test_a_run_as_json_has_everything(scheduler: Scheduler, path: Path) -> None:
    run_id = begin(path)
    print_output(path, run_id, b"caf\xc3\xa9 \xff")
    end(path, run_id, RunResult("success", 0))
    run = json.loads(scheduler("runs", "show", run_id, "--json").out)
    expected = {
        "status": "success",
        "exit_status": 0,
        "prompt": "do it",
        "output": "caf\u00e9 \ufffd",
        "command": ["agent", "two words"],
    }
    assert {name: run[name] for name in expected} == expected


def test_a_run_without_output_yet_is_shown(scheduler: Scheduler, path: Path) -> None:
    assert "running" in scheduler("runs", "show", begin(path)).out


def test_a_run_whose_output_is_gone_is_told_from_a_run_without_output(
    scheduler: Scheduler, path: Path
) -> None:
    """The output of a run is not in a backup: after a restore it was shown as empty."""
    run_id = begin(path)
    assert scheduler("runs", "show", run_id).err == "", "its folder may be made just now"
    end(path, run_id, RunResult("success", 0))
    is_gone = (
        f"the output is gone: there is no folder {path}.runs/{run_id}. [api.runner] retention "
        "removes old outputs. "
        "A backup has no outputs: copy the folder from the old installation"
    )
    shown, as_json = scheduler("runs", "show", run_id), scheduler("runs", "show", run_id, "--json")
    assert (shown.status, as_json.status, json.loads(as_json.out)["output"]) == (0, 0, "")
    assert shown.err.startswith(is_gone)
    assert as_json.err.startswith(is_gone)
    print_output(path, run_id, b"")
    assert scheduler("runs", "show", run_id).err == ""


def test_a_run_that_is_not_there_is_an_answer_of_no(scheduler: Scheduler, path: Path) -> None:
    begin(path)
    done = scheduler("runs", "show", "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f")
    assert (done.status, done.out) == (1, "")


@pytest.mark.parametrize("arguments", [("show", "../../etc/passwd"), ("show", "1"), ("cancel", "nightly")])
def test_what_means_no_run_is_an_answer_of_no(
    scheduler: Scheduler, path: Path, arguments: tuple[str, ...]
) -> None:
    begin(path, "nightly")
    done = scheduler("runs", *arguments)
    assert (done.status, done.out) == (1, "")
    advice = (
        "the beginning of an id has 4 characters or more"
        if arguments[1] == "1"
        else "see `scheduler runs list`"
    )
    assert f"there is no run {arguments[1]!r}; {advice}" in done.err


def test_a_name_like_that_of_an_automation_gets_a_suggestion(scheduler: Scheduler, path: Path) -> None:
    begin(path, "nightly")
    for command in (("show", "nightli"), ("cancel", "--automation", "nightli")):
        assert scheduler("runs", *command).err.endswith("; did you mean 'nightly'?\n")


def test_following_prints_the_output_as_it_comes_until_the_run_ends(path: Path) -> None:
    run_id = begin(path)
    print_output(path, run_id, b"first\n")
    command = [sys.executable, "-m", "scheduler", "runs", "show", run_id, "--follow"]
    environment = {**os.environ, "SCHEDULER_CONFIG": "/dev/null"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    while process.stdout.readline() not in {b"first\n", b""}:
        pass
    assert process.poll() is None
    print_output(path, run_id, b"second\n")
    assert process.stdout.readline() == b"second\n"
    print_output(path, run_id, b"last, without an end of line")
    end(path, run_id, RunResult("success", 0))
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, b"last, without an end of line", b"")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (
            RunResult("failed", 3, "The command ended with exit status 3.\x1b[2J"),
            "The command ended with exit status 3.\\x1b[2J",
        ),
        (RunResult("failed", None, None), ""),
    ],
)
def test_following_a_run_that_failed_ends_with_1_and_showing_the_run_does_not(
    scheduler: Scheduler, path: Path, how: RunResult, why: str
) -> None:
    run_id = begin(path)
    print_output(path, run_id, b"all\n")
    end(path, run_id, how)
    followed, shown = scheduler("runs", "show", run_id, "--follow"), scheduler("runs", "show", run_id)
    assert (followed.status, followed.out, shown.status) == (1, shown.out, 0)
    assert followed.err.strip() == f"error: the run failed: {why}".strip()


def test_following_a_run_that_has_ended_is_showing_it(scheduler: Scheduler, path: Path) -> None:
    run_id = begin(path)
    print_output(path, run_id, b"all\n")
    end(path, run_id, RunResult("success", 0))
    assert scheduler("runs", "show", run_id, "--follow").out == scheduler("runs", "show", run_id).out


def test_a_name_that_several_automations_have_lists_them_instead_of_showing_the_newest_run_of_any(
    scheduler: Scheduler, path: Path
) -> None:
    runs = {
        run["automation_id"]: run["id"]
        for run in map(partial(show, scheduler), [begin(path, "nightly"), begin(path, "nightly")])
    }
    (idle,) = queue_runs(path, ["idle"])

    def candidates() -> list[str]:
        done = scheduler("runs", "show", "nightly")
        title, *lines = done.err.splitlines()
        assert (done.status, done.out, title) == (
            1,
            "",
            "error: there are 2 automations called 'nightly'; give the id of one",
        )
        assert all(
            "  nightly  newest run running, created Mon 2026-11-23 19:20 UTC" in line for line in lines
        )
        return [line.split()[0] for line in lines]

    assert sorted(candidates()) == sorted(runs)
    for automation_id, run_id in runs.items():
        assert (
            show(scheduler, automation_id)["id"]
            == show(scheduler, automation_id[:23].upper())["id"]
            == run_id
        )
        end(path, run_id, RunResult("success", 0))
    within(
        path,
        lambda database: database.write(
            lambda connection: connection.execute("DELETE FROM automations WHERE name = 'nightly'").rowcount
        ),
    )
    for run in runs.values():
        assert show(scheduler, run)["status"] == "success"
    assert scheduler("runs", "show", "nightly").err.startswith(
        "error: there are 2 automations called 'nightly'; "
    ), "deleted ones"
    within(
        path,
        lambda database: database.write(lambda connection: connection.execute("DELETE FROM runs").rowcount),
    )
    assert scheduler("runs", "show", idle).err == (
        f"error: the automation '{idle}' has no run yet; start one with `scheduler automations run {idle}`\n"
    )


def test_a_run_that_is_carried_out_is_cancelled_by_the_server_and_waited_for(path: Path) -> None:
    run_id = begin(path)
    command = [sys.executable, "-m", "scheduler", "runs", "cancel", run_id]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SCHEDULER_CONFIG": "/dev/null"},
    )

    async def cancelled(database: Database) -> None:
        await eventually(RunQueue(database, lambda: NOW).list_cancellations, lambda found: found == [run_id])

    within(path, cancelled)
    assert process.poll() is None
    end(path, run_id, RunResult("failed", -15, "The run was cancelled."))
    assert process.communicate(timeout=30) == (f"failed: {run_id}: The run was cancelled.\n".encode(), b"")
    assert process.returncode == 0


def test_cancelling_says_when_nobody_is_there_to_do_it(
    scheduler: Scheduler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.cli.cancellation.CANCEL_TIMEOUT", 0.3)
    done = scheduler("runs", "cancel", begin(path))
    assert done.status == 3
    assert "runs: `scheduler serve` starts it" in done.err


def test_to_cancel_a_run_that_has_ended_is_no_failure_and_one_that_is_not_there_is_one(
    scheduler: Scheduler, path: Path
) -> None:
    run_id = begin(path)
    end(path, run_id, RunResult("success", 0))
    done = scheduler("runs", "cancel", run_id)
    assert (done.status, done.out, done.err) == (0, f"has ended already: {run_id}: success\n", "")
    unknown = "0192c4e8-5f0e-7c3a-9d1b-2f6a3c4d5e6f"
    done = scheduler("runs", "cancel", unknown, run_id)
    assert (done.status, done.out) == (1, f"has ended already: {run_id}: success\n")
    assert done.err == f"error: there is no run {unknown}; see `scheduler runs list`\n"


def queue_runs(path: Path, names: Sequence[str]) -> list[str]:
    """Automations with these names, each with a run that waits; their ids."""

    async def use(database: Database) -> list[str]:
        store = Store(database, lambda: NOW)
        ids = [(await store.create(1, {**AUTOMATION, "name": name}))["id"] for name in names]
        for automation_id in ids:
            await store.start_run(AutomationRef(1, automation_id), None)
        return ids

    ids: list[str] = within(path, use)
    return ids


@pytest.fixture
def server(path: Path) -> Iterator[None]:
    """What ends runs that are not to begin, as the server does: in another thread, on a database of its
    own.
    """
    stop = threading.Event()

    async def end_runs(database: Database) -> None:
        queue = RunQueue(database, lambda: NOW)
        while not stop.is_set():
            await queue.end_early(dict.fromkeys(EarlyCause, "ended"))
            await asyncio.sleep(0.01)

    thread = threading.Thread(target=within, args=(path, end_runs))
    thread.start()
    yield
    stop.set()
    thread.join()


def left(path: Path) -> list[str]:
    runs = within(path, lambda database: RunQueue(database, lambda: NOW).list_runs())
    return sorted(run["name"] for run in runs if run["status"] == "queued")


@pytest.mark.usefixtures("server")
def test_runs_are_cancelled_by_automation_all_at_once_and_several_by_their_ids(
    scheduler: Scheduler, path: Path
) -> None:
    first, *_ = queue_runs(path, ["a", "a", "b", "c", "d", "e"])
    done = scheduler("runs", "cancel", "--automation", "b")
    assert (done.status, done.out, left(path)) == (
        0,
        "cancelled 1 run: 1 waiting\n",
        ["a", "a", "c", "d", "e"],
    )
    done = scheduler("runs", "cancel", "--automation", first.upper())
    assert (done.status, left(path)) == (0, ["a", "c", "d", "e"])
    listed = [json.loads(line) for line in scheduler("runs", "list", "--json").out.splitlines()]
    ids = [run["id"] for run in listed if run["name"] in {"c", "d"}]
    done = scheduler("runs", "cancel", *ids)
    assert (done.status, done.out, left(path)) == (
        0,
        "".join(f"failed: {run_id}: ended\n" for run_id in ids),
        ["a", "e"],
    )
    done = scheduler("runs", "cancel", "--all")
    assert (done.status, done.out, left(path)) == (0, "cancelled 2 runs: 2 waiting\n", [])
    done = scheduler("runs", "cancel", "--all", "--yes")
    assert (done.status, done.out, done.err) == (0, "nothing to cancel: no run waits or is in progress\n", "")


def test_an_automation_whose_runs_are_to_be_cancelled_has_to_be_clear(
    scheduler: Scheduler, path: Path
) -> None:
    first, second = queue_runs(path, ["a", "a"])
    done = scheduler("runs", "cancel", "--automation", "a")
    assert done.status == 1
    assert all(each in done.err for each in ("there are 2 automations called 'a'", first, second))
    done = scheduler("runs", "cancel", "--automation", "b")
    assert (done.status, "there is no automation 'b' in the embedded API" in done.err) == (1, True)
    for wrong in ((), ("--all", "--automation", "a"), ("--all", first)):
        assert scheduler("runs", "cancel", *wrong).status == 2
    assert left(path) == ["a", "a"]


def test_runs_of_a_deleted_automation_that_have_not_ended_are_found_by_its_name(
    scheduler: Scheduler, path: Path
) -> None:
    run_id = begin(path)
    within(
        path,
        lambda database: database.write(
            lambda connection: connection.execute("DELETE FROM automations WHERE id > ''").rowcount
        ),
    )
    named = within(path, lambda database: database.browse(partial(find_named, text="nightly\x1b[31m")))
    listed = json.loads(scheduler("runs", "show", run_id, "--json").out)
    assert [found.id for found in named] == [listed["automation_id"]]


def test_an_automation_whose_waiting_run_shows_an_earlier_name_is_one_automation(
    scheduler: Scheduler, path: Path
) -> None:
    run_id = begin(path)
    automation_id = json.loads(scheduler("runs", "show", run_id, "--json").out)["automation_id"]
    within(
        path,
        lambda database: database.write(
            lambda connection: connection.execute("UPDATE automations SET name = 'renamed'").rowcount
        ),
    )
    named = within(path, lambda database: database.browse(partial(find_named, text=automation_id)))
    assert [found.id for found in named] == [automation_id]
    assert json.loads(scheduler("runs", "show", automation_id, "--json").out)["id"] == run_id


def test_the_shell_completes_runs(path: Path, complete: Callable[[str], list[str]]) -> None:
    assert complete("scheduler runs show ") == []  # no database, and no error
    run_id = begin(path)
    assert complete(f"scheduler runs show {run_id[:2]}") == [run_id]
    assert complete(f"scheduler runs cancel {run_id[:2]}") == [run_id]
    assert complete("scheduler runs show zz") == []
