"""What is removed of a run after its time, whatever its command has made of it, and what is not: all else."""

import asyncio
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from scheduler.localapi.runner import retention
from scheduler.localapi.runner.workspace import Workspace
from tests.localapi.support import Clock, Served, alive, eventually, serving
from tests.localapi.test_restart import lines


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_INTERVAL", 0.05)


async def run_once(served: Served) -> str:
    """The id of a run that has ended."""
    created = await served.create()
    await served.start_run(created["id"])
    ended: dict[str, Any] = await served.finished(created["id"])
    assert ended["last_error"] is None
    run_id: str = ended["last_task_run_id"]
    return run_id


async def kept(folder: Path) -> set[str]:
    return set(Workspace.list_names(folder / "runs"))


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def test_outputs_are_kept_for_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else in that folder is removed, and nothing of a run that is going on, however long it does."""

    async def story() -> None:
        clock = Clock()
        script = shell("[ ! -e $HOME/wait ] || { echo x > file; sleep 600; }; echo x > file")
        monkeypatch.setenv("HOME", str(tmp_path))
        async with serving(tmp_path, clock, command=script, retention=3600.0, grace=0.2) as served:
            (tmp_path / "wait").touch()
            going_on = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
            await eventually(
                lambda: asyncio.to_thread((tmp_path / "runs" / going_on / "work" / "file").exists), bool
            )
            (tmp_path / "wait").unlink()
            old = await run_once(served)
            (tmp_path / "runs" / "notes").mkdir()
            clock.instant += timedelta(minutes=50)
            newer = await run_once(served)
            assert await kept(tmp_path) == {going_on, old, newer, "notes"}
            clock.instant += timedelta(minutes=20)
            await eventually(lambda: kept(tmp_path), lambda names: old not in names)
            assert newer in await kept(tmp_path)
            clock.instant += timedelta(minutes=60)
            await eventually(lambda: kept(tmp_path), lambda names: newer not in names)
            assert await kept(tmp_path) == {going_on, "notes"}

    asyncio.run(story())


def test_the_folder_of_a_run_that_a_restored_database_does_not_know_goes_by_its_own_age(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        clock = Clock()
        script = shell(f"[ ! -e {tmp_path}/wait ] || sleep 600")
        async with serving(tmp_path, clock, command=script, retention=3600.0, grace=0.2) as served:
            ended = await run_once(served)
            (tmp_path / "wait").touch()
            going_on = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
            await eventually(lambda: kept(tmp_path), lambda names: going_on in names)
            old, newer = (str(uuid.uuid4()) for _ in range(2))
            ages = {ended: 7200, going_on: 7200, newer: 3000, "notes": 7200, old: 3600}
            for name, age in ages.items():
                (tmp_path / "runs" / name).mkdir(exist_ok=True)
                changed_at = clock.instant.timestamp() - age
                os.utime(tmp_path / "runs" / name, (changed_at, changed_at))
            await eventually(lambda: kept(tmp_path), lambda names: old not in names)
            assert await kept(tmp_path) == {ended, going_on, newer, "notes"}

    asyncio.run(story())


@pytest.mark.parametrize(
    "script",
    [
        "mkdir -p sealed/deep; touch sealed/deep/file; chmod -R a-w sealed",
        "mkdir -p hidden/deep; touch hidden/deep/file; chmod 000 hidden/deep hidden",
        "mkdir -p $(printf 'd/%.0s' $(seq 1500))",
        "mkfifo pipe; ln -s / root; ln -s nowhere lost; touch -- -rf '  ' \"$(printf 'a\\nb')\"",
    ],
)
def test_whatever_a_command_has_made_goes(tmp_path: Path, script: str) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=shell(script), retention=0.001) as served:
            await run_once(served)
            await eventually(lambda: kept(tmp_path), lambda names: not names)

    asyncio.run(story())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file, neither of which may change."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("precious")
    (folder / "file").chmod(0o444)
    folder.chmod(0o555)
    yield folder
    assert (folder.stat().st_mode & 0o777, (folder / "file").stat().st_mode & 0o777) == (0o555, 0o444)
    assert (folder / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "script",
    [
        "ln -s {elsewhere} link; ln -s {elsewhere}/file another",
        "ln {elsewhere}/file hard",
        'run=$(dirname "$OUTPUT_FILE"); mv "$run" "$run.moved" && ln -s {elsewhere} "$run"',
    ],
)
def test_nothing_goes_that_is_somewhere_else(tmp_path: Path, elsewhere: Path, script: str) -> None:
    async def story() -> None:
        async with serving(
            tmp_path, command=shell(script.format(elsewhere=elsewhere)), retention=0.001
        ) as served:
            run_id = await run_once(served)
            await eventually(lambda: kept(tmp_path), lambda names: run_id not in names)

    asyncio.run(story())


def test_what_is_mounted_in_a_folder_is_left_alone_and_told(tmp_path: Path, elsewhere: Path) -> None:
    mounted: list[Path] = []

    async def story() -> None:
        with capture_logs() as told:
            async with serving(tmp_path, command=("mkdir", "point"), retention=3600.0) as served:
                point = tmp_path / "runs" / await run_once(served) / "work" / "point"
                mount = await asyncio.create_subprocess_exec("mount", "--bind", elsewhere, point)
                if await mount.wait():
                    pytest.skip("a bind mount needs root, and a kernel that allows it")
                mounted.append(point)
                served.clock.instant += timedelta(hours=2)
                kept_back = await eventually(lambda: entries(told), bool)
        assert kept_back[0]["log_level"] == "warning"
        assert kept_back[0]["error"] == f"[Errno 16] Device or resource busy: '{point}'"

    try:
        asyncio.run(story())
    finally:
        for point in mounted:
            subprocess.run(["umount", point], check=True)


async def entries(told: list[Any]) -> list[Any]:
    return [entry for entry in told if entry["event"] == "workspace.kept"]


def test_one_that_cannot_be_removed_is_told_and_tried_again_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, spoiled = Workspace.remove, list[str]()

    async def busy(self: Workspace) -> None:
        if self.folder.name in spoiled:
            raise OSError("busy")
        await remove(self)

    monkeypatch.setattr(Workspace, "remove", busy)

    async def story() -> None:
        with capture_logs() as told:
            async with serving(tmp_path, command=("true",), retention=3600.0) as served:
                runs = [await run_once(served) for _ in range(3)]
                spoiled.append(runs[1])
                served.clock.instant += timedelta(hours=2)
                await eventually(lambda: kept(tmp_path), lambda names: names == set(spoiled))
                await eventually(
                    lambda: entries(told), bool
                )  # the folder is read in no order: it may be tried last
                spoiled.clear()
                await eventually(lambda: kept(tmp_path), lambda names: not names)
        expected = {
            "event": "workspace.kept",
            "task_run_id": runs[1],
            "error": "busy",
            "log_level": "warning",
        }
        assert expected in await entries(told)

    asyncio.run(story())


def test_closing_does_not_wait_until_all_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rm").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    (programs / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    async def story() -> None:
        async with serving(tmp_path, command=(str(shutil.which("true")),), retention=0.001) as served:
            await run_once(served)
            (removing,) = await eventually(lambda: lines(tmp_path / "pid"), bool)
        assert not alive(int(removing))

    asyncio.run(story())


# ---------------------------------------------------------------- clones


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `clone_url` is where `git` makes a file, and that takes no time."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\ntouch cloned\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return "https://git.test/{repository}.git"


def left_of(folder: Path, run_id: str) -> set[str]:
    """Return the paths in a run's folder. `os.walk` passes over paths that are removed meanwhile."""
    root = folder / "runs" / run_id
    return {
        str(Path(parent, name).relative_to(root))
        for parent, folders, files in os.walk(root)
        for name in (*folders, *files)
    }


ALL: Final = {"prompt", "output", "work", "work/cloned"}


def test_the_clone_of_a_successful_run_goes_at_once_and_its_output_stays_and_the_clone_of_a_failed_run_stays(
    tmp_path: Path, clone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_INTERVAL", 3600.0)

    async def story() -> None:
        async with serving(tmp_path, command=("sh", "-c", "exit $(cat)"), clone_url=clone) as served:
            ids = {}
            for status in ("0", "1"):
                created = await served.create(prompt=status)
                await served.start_run(created["id"])
                ids[status] = (await served.finished(created["id"]))["last_task_run_id"]
            look = partial(asyncio.to_thread, left_of, tmp_path, ids["0"])
            await eventually(look, lambda left: left == {"prompt", "output"})
            assert left_of(tmp_path, ids["1"]) == ALL

    asyncio.run(story())


def test_the_clones_of_successful_runs_are_kept_for_their_own_time(tmp_path: Path, clone: str) -> None:
    async def story() -> None:
        async with serving(
            tmp_path, command=("true",), clone_url=clone, clone_retention=7200.0, retention=86400.0
        ) as served:
            old = await run_once(served)
            served.clock.instant += timedelta(hours=1)
            newer = await run_once(served)
            served.clock.instant += timedelta(hours=1, minutes=1)
            await eventually(
                partial(asyncio.to_thread, left_of, tmp_path, old), lambda left: left == {"prompt", "output"}
            )
            assert left_of(tmp_path, newer) == ALL

    asyncio.run(story())


def test_a_clone_that_a_server_left_before_it_could_remove_it_goes_with_the_next(
    tmp_path: Path, clone: str
) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("true",), clone_url=clone, clone_retention=3600.0) as served:
            run_id = await run_once(served)
        assert left_of(tmp_path, run_id) == ALL
        async with serving(tmp_path, served.clock, command=("true",), clone_url=clone) as served:
            await eventually(
                partial(asyncio.to_thread, left_of, tmp_path, run_id),
                lambda left: left == {"prompt", "output"},
            )

    asyncio.run(story())


def test_a_working_directory_without_a_clone_is_kept_like_an_output(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("touch", "report"), retention=3600.0) as served:
            run_id = await run_once(served)
            served.clock.instant += timedelta(minutes=50)
            other = await run_once(served)
            assert {"work/report"} < left_of(tmp_path, run_id) & left_of(tmp_path, other)
            served.clock.instant += timedelta(minutes=20)
            await eventually(lambda: kept(tmp_path), lambda names: names == {other})

    asyncio.run(story())


def test_the_folder_of_a_clone_that_was_replaced_by_a_link_leads_to_nothing_that_goes(
    tmp_path: Path, clone: str
) -> None:
    precious = tmp_path / "elsewhere" / "work"
    precious.mkdir(parents=True)

    async def story() -> None:
        script = f'run=$(dirname "$OUTPUT_FILE"); mv "$run" "$run.moved" && ln -s {precious.parent} "$run"'
        async with serving(tmp_path, command=shell(script), clone_url=clone, retention=3600.0) as served:
            run_id = await run_once(served)
            served.clock.instant += timedelta(hours=2)
            await eventually(lambda: kept(tmp_path), lambda names: run_id not in names)
            assert precious.exists()

    asyncio.run(story())


# ---------------------------------------------------------------- rows


def test_rows_of_runs_go_in_slices_when_they_are_old_and_not_before_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    remove, spoiled = Workspace.remove, list[str]()

    async def busy(self: Workspace) -> None:
        if self.folder.name in spoiled:
            raise OSError("busy")
        await remove(self)

    monkeypatch.setattr(Workspace, "remove", busy)

    async def rows(served: Served) -> set[str]:
        return {run["id"] for run in await served.api.runs.list_runs()}

    async def story() -> None:
        script = shell("[ ! -e $HOME/wait ] || { touch $HOME/begun; exec sleep 600; }")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "wait").touch()
        async with serving(tmp_path, command=script, row_retention=7200.0, grace=0.2) as served:
            going_on = (await served.start_run((await served.create())["id"]))["last_task_run_id"]
            await eventually(lambda: asyncio.to_thread((tmp_path / "begun").exists), bool)
            (tmp_path / "wait").unlink()
            runs = [await run_once(served) for _ in range(5)]
            spoiled.append(runs[3])
            served.clock.instant += timedelta(hours=1, minutes=59)
            newer = await run_once(served)
            served.clock.instant += timedelta(minutes=2)
            await eventually(lambda: rows(served), lambda left: left == {going_on, runs[3], newer})
            spoiled.clear()
            await eventually(lambda: rows(served), lambda left: left == {going_on, newer})

    asyncio.run(story())


def test_a_removal_that_is_cancelled_as_its_process_ends_is_cancelled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server never ended: that there was no process to kill any more took the place of the
    cancellation.
    """
    is_gone = subprocess.Popen(("true",))
    is_gone.wait()

    class Ended:
        pid = is_gone.pid
        returncode = None  # the event loop does not know yet

        async def communicate(self) -> None:
            raise asyncio.CancelledError

        async def wait(self) -> None:
            pass

    async def start(*_: str, **__: int) -> Ended:
        return Ended()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Workspace(tmp_path).remove())
