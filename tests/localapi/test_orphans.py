"""What a command may do so that something of it goes on, or so that nobody learns how it ended; and that it
comes to nothing.
"""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from scheduler.localapi.runner import orphans, process, runner, subreaper
from scheduler.localapi.runner.process import EndCause
from scheduler.localapi.runner.run_results import describe_orphans
from scheduler.localapi.runner.workspace import Workspace
from tests.localapi.support import Served, alive, eventually, serving
from tests.localapi.test_restart import doomed, lines, read

CHAIN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(150):
    if os.fork():
        time.sleep(60)
        os._exit(0)
print(os.getpid(), flush=True)
time.sleep(60)
"""
"""150 processes, each the only child of the one before it, that ignore SIGTERM; for a minute."""

HYDRA = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
places, end = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_APPEND), time.monotonic() + 20
def is_taken(place):
    try:
        fcntl.lockf(places, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 10**9 + place)
    except OSError:
        return True
os.setsid() if os.fork() == 0 else time.sleep(600)
while time.monotonic() < end:
    os.write(places, b".")
    time.sleep(0.001)
    if os.fork() == 0 and all(map(is_taken, range(40))):
        os._exit(0)
"""
"""Forty processes that ignore SIGTERM.

Whenever one dies, its lock is free, and the others have a new one in its place; for 20 s.
"""

NAMELESS = ("env", "-i", sys.executable, "-S", "-c")
"""A script without the environment by which processes could be found."""


async def ended(served: Served, **values: object) -> dict[str, Any]:
    created = await served.create(**values)
    await served.start_run(created["id"])
    return await served.finished(created["id"])


def output(folder: Path, automation: dict[str, Any]) -> str:
    return Workspace(folder / "runs" / automation["last_task_run_id"]).output.read_text()


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


# ---------------------------------------------------------------- processes


def test_a_long_line_of_descendants_ends_to_the_last_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=(*NAMELESS, CHAIN), timeout=8.0, grace=0.2) as served:
            last = output(tmp_path, await ended(served))
            assert not alive(int(last))

    asyncio.run(story())


def test_what_starts_others_faster_than_it_is_killed_ends(tmp_path: Path) -> None:
    async def story() -> None:
        trace = tmp_path / "trace"
        async with serving(
            tmp_path, command=(*NAMELESS, HYDRA, str(trace)), timeout=4.0, grace=0.2
        ) as served:
            assert (await ended(served))["last_run_status"] == "failed"
            size = trace.stat().st_size
            assert size > 500, "they were there"
            await asyncio.sleep(0.3)
            assert trace.stat().st_size == size

    asyncio.run(story())


def test_what_left_the_group_is_told_to_end_before_it_is_killed(tmp_path: Path) -> None:
    async def story() -> None:
        away = f"trap 'echo tidied >> {tmp_path}/told; exit' TERM; echo up; while :; do sleep 0.02; done"
        async with serving(
            tmp_path, command=shell(f'setsid sh -c "{away}" & sleep 600'), timeout=4.0, grace=30.0
        ) as served:
            assert output(tmp_path, await ended(served)) == "up\n"
            assert read(tmp_path / "told") == "tidied\n"

    asyncio.run(story())


def test_what_has_lost_its_parent_and_ended_takes_no_process_number_for_long(tmp_path: Path) -> None:
    async def story() -> None:
        count = "wc -w < /proc/$PPID/task/$PPID/children"
        script = (
            f"for each in $(seq 40); do (true &); done; for each in $(seq 100); do [ $({count}) = 1 ] && "
            "exit; sleep 0.1; done; exit 1"
        )
        async with serving(tmp_path, command=shell(script)) as served:
            assert (await ended(served))["last_error"] is None

    asyncio.run(story())


STARTED = "for each in $(jobs -p); do until grep -qx sleep /proc/$each/comm; do :; done; done; "
"""Waits until the processes in the background are what they are to be."""


@pytest.mark.parametrize(
    ("script", "printed", "error"),
    [
        (
            f"setsid sleep 600 & sleep 600 & {STARTED} printf done",
            "done\n[scheduler: the command left 2 processes running, ended now: sleep (2)]\n",
            None,
        ),
        (
            f"sleep 600 & {STARTED} echo words; exit 3",
            "words\n[scheduler: the command left a process running, ended now: sleep]\n",
            "The command ended with exit status 3. The last line of its output: words",
        ),
        ("sleep 0 & wait; echo done", "done\n", None),
    ],
)
def test_the_output_names_what_was_left_running_and_the_error_does_not(
    tmp_path: Path, script: str, printed: str, error: str | None
) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("bash", "-c", script)) as served:
            run = await ended(served)
            assert (output(tmp_path, run), run["last_error"]) == (printed, error)

    asyncio.run(story())


def test_a_name_of_what_was_left_running_forges_no_line(tmp_path: Path) -> None:
    program = tmp_path / "a\n\x1b[31m[b"
    program.symlink_to("/bin/sleep")

    async def story() -> None:
        async with serving(
            tmp_path,
            command=(
                "sh",
                "-c",
                '"$0" 600 & until [ "$(cat /proc/$!/comm)" != sh ]; do :; done',
                str(program),
            ),
        ) as served:
            text = output(tmp_path, await ended(served))
            assert text == "[scheduler: the command left a process running, ended now: a\\n\\x1b[31m[b]\n"

    asyncio.run(story())


def test_of_many_that_were_left_running_few_are_named() -> None:
    names = tuple(f"agent-{number}" for number in range(100))
    note = describe_orphans(
        "git clone", process.CommandResult(EndCause.ITSELF, 0, orphan_count=4321, orphan_names=names)
    )
    assert note == (
        "scheduler: git clone left 4,321 processes running, ended now: agent-0, agent-1, agent-2, "
        "agent-3, agent-4, …"
    )
    assert (
        describe_orphans(
            "the command", process.CommandResult(EndCause.TIMEOUT, -15, orphan_count=1, orphan_names=("sh",))
        )
        is None
    )
    assert describe_orphans("the command", process.CommandResult(EndCause.ITSELF, 0)) is None


# ---------------------------------------------------------------- the watcher


def test_a_command_that_stops_its_watcher_has_its_time_limit_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_END_TIMEOUT", 0.5)

    async def story() -> None:
        script = f"setsid sleep 600 & echo $PPID $$ $! > {tmp_path}/pids; kill -STOP $PPID; exec sleep 600"
        async with serving(tmp_path, command=shell(script), timeout=4.0, grace=0.2) as served:
            error = (await ended(served))["last_error"]
            assert error == "The command was still going after 4 s, its time limit, and was ended."
            assert not any(alive(int(each)) for each in await lines(tmp_path / "pids"))

    asyncio.run(story())


def test_the_watcher_heeds_nobody_but_the_server(tmp_path: Path) -> None:
    async def story() -> None:
        script = "kill -TERM $PPID; kill -INT $PPID; kill -HUP $PPID; sleep 0.2; echo alive"
        async with serving(tmp_path, command=shell(script)) as served:
            run = await ended(served)
            assert (run["last_error"], output(tmp_path, run)) == (None, "alive\n")

    asyncio.run(story())


def test_a_command_that_is_ended_since_its_server_was_killed_may_tidy_up_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRACE", "15")  # a busy machine takes its time

    async def story() -> None:
        tidy = f"head -c 200000 /dev/zero; echo tidied > {tmp_path}/told; exit"
        server = await doomed(
            tmp_path,
            1,
            "sh",
            "-c",
            f"trap '{tidy}' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.02; done",
        )
        await eventually(lambda: lines(tmp_path / "pid"), bool)
        server.send_signal(signal.SIGKILL)
        await server.wait()
        assert await eventually(lambda: lines(tmp_path / "told"), bool) == ["tidied"]

    asyncio.run(story())


# ---------------------------------------------------------------- how it ended


def test_a_command_that_ended_in_time_was_in_time_whatever_it_has_left(tmp_path: Path) -> None:
    async def story() -> None:
        script = "(trap '' TERM; exec sleep 600) & sleep 0.1; exit 0"
        async with serving(tmp_path, command=shell(script), timeout=4.0, grace=5.0) as served:
            assert (await ended(served))["last_error"] is None

    asyncio.run(story())


@pytest.mark.parametrize("status", [0, 3])
def test_a_server_that_is_told_of_no_childs_end_learns_how_a_command_ended(
    tmp_path: Path, status: int
) -> None:
    """As one is that inherits SIGCHLD ignored."""

    async def story() -> None:
        async with serving(tmp_path, command=shell(f"exit {status}")) as served:
            await ended(served)
            (run,) = await served.api.runs.list_runs()
            assert run["exit_status"] == status

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        asyncio.run(story())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_run_at_which_something_unforeseen_happens_has_an_end_and_the_next_one_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once_unwell(*_: object) -> Any:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(runner, "execute", once_unwell)

    async def story() -> None:
        async with serving(tmp_path, command=("true",), max_parallel=1) as served:
            with capture_logs() as told:
                assert (await ended(served))[
                    "last_error"
                ] == "The run could not be carried out: can't start new thread"
            assert [entry["event"] for entry in told if entry["log_level"] == "error"] == ["command.lost"]
            assert (await ended(served))["last_error"] is None

    asyncio.run(story())


def test_a_name_that_the_locale_has_no_characters_for_is_passed_on(tmp_path: Path) -> None:
    story = f"""
import asyncio, pathlib, sys
from tests.localapi.test_orphans import ended, output
from tests.localapi.support import serving
async def story():
    assert sys.getfilesystemencoding() == "ascii"
    folder = pathlib.Path({str(tmp_path)!r})
    async with serving(folder, command=("printenv", "AUTOMATION_NAME")) as served:
        run = await ended(served, name="N\\u00e4me")
        assert run["last_error"] is None, run
        (file,) = folder.glob("runs/*/output")
        assert file.read_bytes() == "N\\u00e4me\\n".encode()
asyncio.run(story())
"""
    own = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", story], check=False, capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- whose processes


def test_only_the_runs_own_file_in_an_environment_makes_a_process_its_own(tmp_path: Path) -> None:
    own = tmp_path / "output"
    others: tuple[dict[str, str], ...] = (
        {"MY_OUTPUT_FILE": str(own)},
        {"OUTPUT_FILE": f"{own}.old"},
        {"X": f"OUTPUT_FILE={own}"},
        {},
    )
    processes = [
        subprocess.Popen(["sleep", "600"], env=given) for given in ({"OUTPUT_FILE": str(own)}, *others)
    ]
    try:
        assert orphans.find_processes(own) == {processes[0].pid}
        asyncio.run(orphans.end_processes(own, 5.0))
        assert processes[0].wait(5) == -signal.SIGTERM
        assert [each.poll() for each in processes[1:]] == [None] * len(others)
    finally:
        for each in processes:
            each.kill()
            each.wait()


def test_a_server_over_a_copy_of_the_database_leaves_the_runs_of_the_first_one_alone(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "copy").mkdir()
        flag = tmp_path / "flag"
        async with serving(tmp_path, command=shell(f"while [ ! -e {flag} ]; do sleep 0.02; done")) as first:
            created = await first.create()
            started = await first.start_run(created["id"])
            await eventually(lambda: asyncio.to_thread(prepared, tmp_path, started), bool)
            with (
                closing(sqlite3.connect(tmp_path / "api.db")) as whole,
                closing(sqlite3.connect(tmp_path / "copy" / "api.db")) as copy,
            ):
                whole.backup(copy)
            async with serving(tmp_path / "copy", command=("true",)) as second:
                (run,) = await second.api.runs.list_runs()
                assert run["status"] == "failed"
            flag.touch()
            assert (await first.finished(created["id"]))["last_error"] is None

    asyncio.run(story())


def prepared(folder: Path, automation: dict[str, Any]) -> bool:
    return Workspace(folder / "runs" / automation["last_task_run_id"]).output.exists()


def test_a_thread_that_ends_during_the_search_hides_no_child_of_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listdir = os.listdir

    def list_with_an_ended_thread(folder: str) -> list[str]:
        return ["999999999", *listdir(folder)]

    with subprocess.Popen(["sleep", "60"]) as child:
        monkeypatch.setattr(os, "listdir", list_with_an_ended_thread)
        assert child.pid in subreaper.list_children(os.getpid())
        child.kill()
