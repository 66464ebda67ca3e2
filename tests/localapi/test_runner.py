"""Runs carried out by real commands: what a command is given, how its end is judged, and that nothing of it
is left.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from scheduler.core.instants import to_text
from scheduler.localapi.runner import process
from scheduler.localapi.runner.workspace import Workspace
from tests.localapi.support import VALID, Served, alive, eventually, serving

PYTHON = sys.executable


async def run_once(served: Served, **values: object) -> dict[str, Any]:
    created = await served.create(**values)
    await served.start_run(created["id"])
    return await served.finished(created["id"])


def output(folder: Path, automation: dict[str, Any]) -> bytes:
    return Workspace(folder / "runs" / automation["last_task_run_id"]).output.read_bytes()


def test_the_prompt_is_the_standard_input_with_a_newline_at_its_end_and_what_is_printed_is_kept(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        prompt = "Räum auf.\n" + "x" * 1_000_000
        async with serving(tmp_path, command=shell('cat; cat "$PROMPT_FILE"')) as served:
            ended = await run_once(served, prompt=prompt)
            assert (ended["last_run_status"], ended["last_error"]) == ("success", None)
            assert ended["prompt"] == prompt
            assert output(tmp_path, ended).decode() == f"{prompt}\n" * 2


def test_a_script_that_reads_line_by_line_reads_the_last_line_of_the_prompt(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell('while read -r line; do echo "<$line>"; done')) as served:
            assert output(tmp_path, await run_once(served, prompt="one\ntwo")) == b"<one>\n<two>\n"

    asyncio.run(story())


def test_a_command_that_reads_nothing_is_no_hindrance(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("true",)) as served:
            assert (await run_once(served, prompt="x" * 1_000_000))["last_run_status"] == "success"

    asyncio.run(story())


def test_what_goes_to_standard_error_is_kept_in_its_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("sh", "-c", "echo one; echo two >&2; echo three")) as served:
            assert output(tmp_path, await run_once(served)) == b"one\ntwo\nthree\n"

    asyncio.run(story())


def test_no_shell_comes_between(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("echo", "$HOME; *", "`id`")) as served:
            assert output(tmp_path, await run_once(served)) == b"$HOME; * `id`\n"

    asyncio.run(story())


def test_a_command_sees_what_it_may_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_daemon")
        monkeypatch.setenv("SECRET_OF_THE_DAEMON", "s")
        monkeypatch.setenv("AGENT_TOKEN", "t")
        facts = (
            "dict(os.environ), os.getcwd(), os.listdir(), os.getsid(0) == os.getpid(), "
            "open(os.environ['PROMPT_FILE']).read()"
        )
        program = f"import json, os; print(json.dumps([{facts}]))"
        allowed = ("PATH", "AGENT_TOKEN", "NOT_SET", "POSTHOG_PERSONAL_API_KEY")
        async with serving(tmp_path, command=(PYTHON, "-c", program), environment=allowed) as served:
            ended = await run_once(served, name="Näme", repository="Acme/Widgets")
            environment, folder, files, leads_a_session, prompt = json.loads(output(tmp_path, ended))
            environment.pop("LC_CTYPE", None)  # Python sets it for itself
            assert environment == {
                "PATH": os.environ["PATH"],
                "AGENT_TOKEN": "t",
                "AUTOMATION_ID": ended["id"],
                "AUTOMATION_NAME": "Näme",
                "REPOSITORY": "acme/widgets",
                "TASK_ID": ended["last_task_id"],
                "TASK_RUN_ID": ended["last_task_run_id"],
                "PROMPT_FILE": str(tmp_path / "runs" / ended["last_task_run_id"] / "prompt"),
                "OUTPUT_FILE": str(tmp_path / "runs" / ended["last_task_run_id"] / "output"),
            }
            assert prompt == f"{VALID['prompt']}\n"
            assert folder == str(tmp_path / "runs" / ended["last_task_run_id"] / "work")
            assert files == []
            assert leads_a_session

    asyncio.run(story())


def test_only_the_owner_may_look_into_a_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("cat",)) as served:
            workspace = Workspace(tmp_path / "runs" / (await run_once(served))["last_task_run_id"])
            assert [
                oct(path.stat().st_mode)[-3:]
                for path in (workspace.folder, workspace.work, workspace.prompt, workspace.output)
            ] == [
                "700",
                "700",
                "600",
                "600",
            ]

    asyncio.run(story())


@pytest.mark.parametrize(("config", "mode"), [({}, "644"), ({"umask": 0o027}, "640")])
def test_clone_and_command_have_a_umask_of_their_own_and_the_servers_files_keep_their_modes(
    tmp_path: Path, config: dict[str, Any], mode: str
) -> None:
    async def story() -> None:
        git("init", "-q", "--bare", str(tmp_path / "acme" / "widgets.git"))
        url = f"{tmp_path}/{{repository}}.git"
        async with serving(
            tmp_path, command=shell("cat > made"), clone_url=url, clone_retention=3600.0, **config
        ) as served:
            ended = await run_once(served)
            assert ended["last_error"] is None
            workspace = Workspace(tmp_path / "runs" / ended["last_task_run_id"])
            files = (
                workspace.work / "made",
                workspace.work / ".git" / "config",
                workspace.prompt,
                workspace.output,
                workspace.folder,
            )
            assert [oct(path.stat().st_mode)[-3:] for path in files] == [mode, mode, "600", "600", "700"]

    before = os.umask(0o077)  # the server's
    try:
        asyncio.run(story())
    finally:
        os.umask(before)


def git(*arguments: str) -> None:
    subprocess.run(("git", *arguments), check=True, capture_output=True)


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@pytest.mark.parametrize(
    ("command", "exit_status", "error"),
    [
        ((), None, "No command is configured to carry out runs; set `command` in [api.runner]."),
        (shell("exit 3"), 3, "The command ended with exit status 3."),
        (
            shell("echo a; echo b; echo; exit 1"),
            1,
            "The command ended with exit status 1. The last line of its output: b",
        ),
        (shell("kill -SEGV $$"), -11, "The command was killed by SIGSEGV, so it crashed."),
        (shell("kill -ABRT $$"), -6, "The command was killed by SIGABRT."),
        (shell("kill -40 $$"), -40, "The command was killed by signal 40."),
        (
            shell(r"printf 'ok\n\377\000\033\033[1;31mred\033[0m'; exit 1"),
            1,
            "The command ended with exit status 1. The last line of its output: ���red",
        ),
        (
            shell(r"printf '\033]0;title\007end\n\033[2K\033[0m\n'; exit 1"),
            1,
            "The command ended with exit status 1. The last line of its output: end",
        ),
        (
            shell("yes x | head -c 100000 | tr -d '\\n'; exit 1"),
            1,
            f"The command ended with exit status 1. The last line of its output: {'x' * 199}…",
        ),
        (
            ("no-such-program",),
            None,
            "The command 'no-such-program' could not be started: No such file or directory.",
        ),
        (
            ("/etc/passwd",),
            None,
            (
                "The command '/etc/passwd' could not be started: Permission denied. '/etc/passwd' is "
                "not executable: chmod +x."
            ),
        ),
    ],
)
def test_a_run_that_fails_says_why(
    tmp_path: Path, command: tuple[str, ...], exit_status: int | None, error: str
) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=command) as served:
            before = await served.create(name="other")
            ended = await run_once(served)
            assert (ended["last_run_status"], ended["last_error"]) == ("failed", error)
            (run,) = await served.api.runs.list_runs()
            assert (run["status"], run["exit_status"], run["error"]) == ("failed", exit_status, error)
            assert (run["command"], run["finished_at"]) == (list(command), ended["updated_at"])
            assert await served.show(before["id"]) == before

    asyncio.run(story())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_file_that_is_no_program_is_no_command_on_any_loop(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def story() -> None:
        program = tmp_path / "agent"
        program.write_bytes(b"\x7fELF, not really")
        program.chmod(0o700)
        async with serving(tmp_path, command=(str(program),)) as served:
            assert (await run_once(served))[
                "last_error"
            ] == f"The command {str(program)!r} could not be started: Exec format error."

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (
            b"#!/bin/sh\r\nexit 0\r\n",
            0o700,
            (
                "The first line of {path} ends with CR LF, as on Windows: save the file with LF at the "
                "ends of lines."
            ),
        ),
        (
            b"#!/usr/bin/env sh\r\n",
            0o700,
            (
                "The first line of {path} ends with CR LF, as on Windows: save the file with LF at the "
                "ends of lines."
            ),
        ),
        (
            b"#! /no/such/python\t-u\n",
            0o700,
            "The interpreter '/no/such/python', which the first line of {path} names, is not there.",
        ),
        (
            b"#!/etc/passwd\n",
            0o700,
            "The interpreter '/etc/passwd', which the first line of {path} names, is not executable.",
        ),
        (
            b"#!/no/\x00such\x1b\n",
            0o700,
            "The interpreter '/no/\\x00such\\x1b', which the first line of {path} names, is not there.",
        ),
        (
            b"exit 0\n",
            0o700,
            (
                "{path} is no program for this machine, and its first line names no interpreter, such "
                "as #!/bin/sh."
            ),
        ),
        (b"#!/bin/sh\n", 0o600, "{path} is not executable: chmod +x."),
    ],
)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_script_that_cannot_start_is_explained_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, mode: int, why: str, *, by_path: bool
) -> None:
    """Also where the script is found in ``PATH``, behind a folder that is not there."""
    program = tmp_path / "bin" / "agent"
    program.parent.mkdir()
    program.write_bytes(content)
    program.chmod(mode)
    monkeypatch.setenv("PATH", f"{tmp_path / 'nowhere'}:{program.parent}:/usr/bin:/bin")

    async def story() -> None:
        async with serving(tmp_path, command=(str(program) if by_path else "agent",)) as served:
            error = (await run_once(served))["last_error"]
            assert f" {why.format(path=repr(str(program)))}" in error

    asyncio.run(story())


def test_a_folder_that_cannot_be_made_fails_the_run_and_not_the_runner(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "runs").write_text("in the way")
        async with serving(tmp_path, command=("cat",)) as served:
            assert "could not be prepared: File exists." in (await run_once(served))["last_error"]
            (tmp_path / "runs").unlink()
            assert (await run_once(served))["last_run_status"] == "success"

    asyncio.run(story())


def test_a_success_does_not_move_updated_at_and_a_failure_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell('test "$(cat)" = good')) as served:
            for prompt, moves in (("good", False), ("bad", True)):
                created = await served.create(prompt=prompt)
                started = await served.start_run(created["id"])
                assert started["updated_at"] == started["last_run_at"] > created["updated_at"]
                assert ((await served.finished(created["id"]))["updated_at"] > started["updated_at"]) is moves

    asyncio.run(story())


def test_a_new_run_clears_the_error_of_the_last_one_and_an_older_one_shows_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell('test "$(cat)" = good'), max_parallel=1) as served:
            failed = await run_once(served, prompt="bad")
            assert failed["last_error"] is not None
            first = await served.start_run(failed["id"])  # with the bad prompt
            assert (first["last_run_status"], first["last_error"]) == ("running", None)
            await served.client.patch(
                f"/api/projects/1/task_automations/{failed['id']}/", json={"prompt": "good"}
            )
            second = await served.start_run(failed["id"])
            assert (await served.finished(failed["id"])) == second | {"last_run_status": "success"}
            assert [run["status"] for run in await served.api.runs.list_runs()] == [
                "success",
                "failed",
                "failed",
            ]

    asyncio.run(story())


def pids(folder: Path, automation: dict[str, Any]) -> list[int]:
    return [
        int(line) for line in output(folder, automation).splitlines() if not line.startswith(b"[scheduler: ")
    ]


HANGS = shell("sleep 600 & echo $!; echo $$; wait")
IGNORES_SIGTERM = shell("trap '' TERM; sleep 600 & echo $!; echo $$; while :; do wait; done")


@pytest.mark.parametrize("command", [HANGS, IGNORES_SIGTERM])
def test_a_command_that_hangs_is_ended_with_all_its_children(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=command, timeout=1.5, grace=0.5) as served:
            ended = await run_once(served)
            assert ended["last_run_status"] == "failed"
            assert ended["last_error"].startswith(
                "The command was still going after 1.5 s, its time limit, and was ended."
            )
            processes = pids(tmp_path, ended)
            assert len(processes) == 2
            await eventually(lambda: gone(processes), bool)

    asyncio.run(story())


async def gone(processes: list[int]) -> bool:
    return not any(map(alive, processes))


def test_sigterm_comes_first_and_leaves_time_to_tidy_up(tmp_path: Path) -> None:
    async def story() -> None:
        tidy = shell("trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.05; done")
        async with serving(tmp_path, command=tidy, timeout=1.5, grace=30) as served:
            ended = await run_once(served)
            assert output(tmp_path, ended).endswith(b"tidied\n")
            assert ended["last_run_status"] == "failed"  # in time it was not

    asyncio.run(story())


@pytest.mark.parametrize(
    "script",
    [
        "sleep 600 & echo $!",
        "setsid sleep 600 & echo $!",
        # no trace of the run in its environment, but in its parent's
        "setsid sh -c 'env -i sleep 600 & echo $!; wait' & sleep 0.5",
        "(setsid env -i sh -c 'echo $$; exec sleep 600' &) & sleep 0.5",  # nor there: its parents are gone
        "(trap '' TERM; setsid env -i sh -c 'echo $$; exec sleep 600' &) & sleep 0.5",
    ],
)
def test_what_a_command_leaves_in_the_background_ends_with_it(tmp_path: Path, script: str) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell(script), grace=0.2) as served:
            ended = await run_once(served)
            assert ended["last_run_status"] == "success"
            await eventually(lambda: gone(pids(tmp_path, ended)), bool)

    asyncio.run(story())


def test_a_command_whose_watcher_is_killed_ends_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        script = "setsid sleep 600 & echo $!; echo $$; sleep 0.5; kill -KILL $PPID; sleep 600"
        async with serving(tmp_path, command=shell(script), grace=0.2) as served:
            ended = await run_once(served)
            assert ended["last_error"].startswith(
                "The command was ended because the process that watched over it was killed."
            )
            processes = pids(tmp_path, ended)
            assert len(processes) == 2
            await eventually(lambda: gone(processes), bool)

    asyncio.run(story())


def test_an_output_is_kept_up_to_its_limit_and_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        script = "echo begin; head -c 3000000 /dev/zero; echo; echo the end; exit 1"
        async with serving(tmp_path, command=shell(script), output_limit=2**20) as served:
            ended = await run_once(served)
            assert ended["last_error"].endswith("The last line of its output: the end")
            content = output(tmp_path, ended)
            assert content.startswith(b"begin\n\0")
            assert content.endswith(b"\0\nthe end\n")
            assert 2**20 < len(content) < 2**20 + 20_000

    asyncio.run(story())


def test_a_command_ends_though_what_it_left_prints_on_and_cannot_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's process would: here one that hears of nothing, since the subreaper is made to send
    nothing.
    """
    lazy, source = tmp_path / "subreaper.py", process._SUBREAPER.read_text()
    for text, other in (("os.kill(process, number)", "pass"), ("KILL_TIMEOUT = 5.0", "KILL_TIMEOUT = 0.1")):
        assert text in source
        source = source.replace(text, other)
    lazy.write_text(source)
    monkeypatch.setattr(process, "_SUBREAPER", lazy)

    async def story() -> None:
        async with serving(tmp_path, command=shell("setsid sleep 5 & echo done"), grace=0.1) as served:
            assert (await run_once(served))["last_run_status"] == "success"

    asyncio.run(story())


def test_runs_are_carried_out_in_order_and_so_many_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        log = tmp_path / "log"
        # The first runs wait for one another, so three run at the same time, however slowly they start.
        wait = f"until [ $(grep -c + {log}) -ge 3 ]; do sleep 0.05; done"
        step = f'echo "+ $(cat)" >> {log}; {wait}; echo - >> {log}'
        async with serving(tmp_path, command=shell(step), max_parallel=3) as served:
            created = [await served.create(name=str(number), prompt=str(number)) for number in range(12)]
            for automation in created:
                await served.start_run(automation["id"])
            await asyncio.gather(*(served.finished(automation["id"]) for automation in created))
            lines = log.read_text().splitlines()
            running, most = 0, 0
            for line in lines:
                running += 1 if line[0] == "+" else -1
                most = max(most, running)
            assert most == 3
            runs = (await served.api.runs.list_runs())[::-1]
            assert [run["name"] for run in runs] == [str(number) for number in range(12)]
            assert [run["started_at"] for run in runs] == sorted(run["started_at"] for run in runs)

    asyncio.run(story())


def test_closing_ends_what_is_going_on_and_says_so_and_leaves_what_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=HANGS, max_parallel=1) as served:
            going, waiting = await served.create(), await served.create()
            started = await served.start_run(going["id"])
            await served.start_run(waiting["id"])
            await eventually(lambda: two_pids(tmp_path, started), bool)
            processes = pids(tmp_path, started)
        assert await gone(processes)
        async with serving(tmp_path, served.clock, command=("cat",)) as served:
            ended = await served.show(going["id"])
            assert ended["last_run_status"] == "failed"
            assert ended["last_error"].startswith(
                "The server was stopped while the command was going on, and ended it."
            )
            assert (await served.finished(waiting["id"]))["last_run_status"] == "success"

    asyncio.run(story())


async def two_pids(folder: Path, automation: dict[str, Any]) -> bool:
    try:
        return output(folder, automation).count(b"\n") == 2
    except FileNotFoundError:
        return False


def test_a_run_keeps_the_prompt_that_it_was_accepted_with_also_when_its_automation_is_edited(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("cat",), max_parallel=0) as served:
            created = await served.create(prompt="as accepted")
            started = await served.start_run(created["id"])
            await served.client.patch(
                f"/api/projects/1/task_automations/{created['id']}/", json={"prompt": "edited"}
            )
        async with serving(tmp_path, served.clock, command=("cat",)) as served:

            async def run() -> Any:
                return await served.api.runs.get_run(started["last_task_run_id"])

            ended = await eventually(run, lambda shown: shown["status"] == "success")
            assert (ended["prompt"], ended["name"]) == ("as accepted", created["name"])
            assert output(tmp_path, started) == b"as accepted\n"

    asyncio.run(story())


def test_a_run_is_not_lost_while_the_database_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.localapi.runner.runner._RETRY_AFTER", 0.05)

    async def story() -> None:
        flag = tmp_path / "flag"
        async with serving(tmp_path, command=shell(f"while [ ! -e {flag} ]; do sleep 0.02; done")) as served:
            created = await served.create()
            started = await served.start_run(created["id"])
            await eventually(lambda: prepared(tmp_path, started), bool)
            (tmp_path / "api.db").rename(tmp_path / "moved.db")
            with capture_logs() as logged:
                flag.touch()
                await eventually(lambda: tried(logged), bool)
            ended_at = served.clock.instant
            served.clock.instant += timedelta(hours=1)
            (tmp_path / "moved.db").rename(tmp_path / "api.db")
            assert (await served.finished(created["id"]))["last_run_status"] == "success"
            run = await served.api.runs.get_run(started["last_task_run_id"])
            assert run is not None
            assert run["finished_at"] <= to_text(ended_at), (
                "when the run ended, not when that could be written"
            )

    async def prepared(folder: Path, automation: dict[str, Any]) -> bool:
        return Workspace(folder / "runs" / automation["last_task_run_id"]).output.exists()

    async def tried(logged: Sequence[Mapping[str, Any]]) -> bool:
        return any(entry["event"] == "database.unavailable" for entry in logged)

    asyncio.run(story())
