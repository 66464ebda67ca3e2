"""A fresh clone as the working directory, by the real git from a repository on disk; and what is said when
there is none.
"""

import asyncio
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scheduler.localapi.runner.execution import make_clone_argv
from scheduler.localapi.runner.workspace import Workspace
from tests.localapi.support import Served, eventually, serving

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is missing")


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository `acme/widgets` with one file, and a HOME in which git knows who it is."""
    home, bare, work = tmp_path / "home", tmp_path / "git" / "acme" / "widgets.git", tmp_path / "seed"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text(
        "[user]\nname = Agent\nemail = agent@example.org\n[init]\ndefaultBranch = main\n"
    )
    for command in (["init", "-q", "--bare", str(bare)], ["init", "-q", str(work)]):
        git(*command)
    (work / "README").write_text("hello\n")
    git("-C", str(work), "add", "README")
    git("-C", str(work), "commit", "-qm", "Begin")
    git("-C", str(work), "push", "-q", str(bare), "main")
    return bare


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def url(tmp_path: Path) -> str:
    return f"{tmp_path}/git/{{repository}}.git"


async def ended(served: Served, **values: object) -> dict[str, Any]:
    created = await served.create(**values)
    await served.start_run(created["id"])
    return await served.finished(created["id"])


def test_a_command_works_in_a_fresh_clone_and_can_push(tmp_path: Path, origin: Path) -> None:
    script = (
        'cat README && cat >> README && git commit -qam "As told" && git push -q origin '
        '"HEAD:agent/$TASK_RUN_ID"'
    )

    async def story() -> None:
        async with serving(tmp_path, command=("sh", "-euc", script), clone_url=url(tmp_path)) as served:
            runs = [await ended(served, prompt="and more", repository="Acme/Widgets") for _ in range(2)]
        assert [run["last_error"] for run in runs] == [None, None]
        for run in runs:
            assert Workspace(tmp_path / "runs" / run["last_task_run_id"]).output.read_bytes() == b"hello\n", (
                "each begins anew"
            )
            assert (
                git("-C", str(origin), "show", f"agent/{run['last_task_run_id']}:README")
                == "hello\nand more\n"
            )

    asyncio.run(story())


def with_submodules(*agent: str) -> tuple[str, ...]:
    """The command of the documents that fetches submodules, with another agent."""
    text = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    (recipe,) = [
        block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "with-submodules" in block
    ]
    command = tomllib.loads(recipe)["api"]["runner"]["command"]
    return (*command[: command.index("with-submodules") + 1], *agent)


def test_submodules_are_fetched_by_the_command_of_the_documents_alone(tmp_path: Path, origin: Path) -> None:
    git("config", "--file", str(tmp_path / "home" / ".gitconfig"), "protocol.file.allow", "always")
    seed = tmp_path / "seed"
    git("-C", str(seed), "submodule", "--quiet", "add", str(origin), "lib")
    git("-C", str(seed), "commit", "-qm", "Use it")
    git("-C", str(seed), "push", "-q", str(origin), "main")
    agent = ("sh", "-c", "ls lib; cat")

    async def story() -> None:
        for command, printed in (
            (agent, b"the prompt\n"),
            (with_submodules(*agent), b"README\nthe prompt\n"),
        ):
            async with serving(tmp_path, command=command, clone_url=url(tmp_path)) as served:
                run = await ended(served, prompt="the prompt")
                assert run["last_error"] is None
                assert Workspace(tmp_path / "runs" / run["last_task_run_id"]).output.read_bytes() == printed

    asyncio.run(story())


def test_the_clone_has_large_files_where_git_is_set_up_for_lfs(tmp_path: Path, origin: Path) -> None:
    """In place of git-lfs here: a filter that makes the content out of what is stored, as git-lfs does."""
    seed, settings = tmp_path / "seed", str(tmp_path / "home" / ".gitconfig")
    (seed / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (seed / "large.bin").write_text("pointer\n")
    git("-C", str(seed), "add", ".")
    git("-C", str(seed), "commit", "-qm", "A large file")
    git("-C", str(seed), "push", "-q", str(origin), "main")

    async def story() -> None:
        async with serving(tmp_path, command=("cat", "large.bin"), clone_url=url(tmp_path)) as served:
            for smudge, error in (("sed s/pointer/content/", None), ("false", "smudge filter lfs failed")):
                git("config", "--file", settings, "filter.lfs.smudge", smudge)
                git("config", "--file", settings, "filter.lfs.required", "true")
                run = await ended(served)
                if error is None:
                    assert (
                        Workspace(tmp_path / "runs" / run["last_task_run_id"]).output.read_bytes()
                        == b"content\n"
                    )
                else:
                    assert error in run["last_error"]

    asyncio.run(story())


@pytest.mark.usefixtures("origin")
def test_a_clone_that_fails_says_why_in_gits_own_words_and_starts_no_command(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(
            tmp_path, command=("touch", str(tmp_path / "started")), clone_url=url(tmp_path)
        ) as served:
            failed = await ended(served, repository="acme/gadgets")
            assert failed["last_run_status"] == "failed"
            assert (
                failed["last_error"]
                == (
                    "git clone ended with exit status 128. fatal: repository "
                    f"'{tmp_path}/git/acme/gadgets.git' does not exist"
                )[: len(failed["last_error"])]
            )
            assert not (tmp_path / "started").exists()
            (run,) = await served.api.runs.list_runs()
            assert run["exit_status"] == 128

    asyncio.run(story())


@pytest.mark.parametrize(
    "repository",
    ["../widgets", "acme/..", "acme/wid gets", "acme/widgets?x", "-acme/widgets", "acme/a#b", "acme/a@b"],
)
def test_a_repository_that_could_lead_elsewhere_is_not_cloned(tmp_path: Path, repository: str) -> None:
    async def story() -> None:
        async with serving(tmp_path, command=("true",), clone_url=url(tmp_path)) as served:
            error = (await ended(served, repository=repository))["last_error"]
            assert error == (
                f"The repository {repository!r} cannot be cloned: its name may have letters, digits, "
                "'.', '_' and '-' only."
            )

    asyncio.run(story())


@pytest.mark.parametrize("repository", ["a/b", "a.b/.github", "a_b/c-d", "a/b..c"])
def test_a_usual_name_is_put_into_the_url(repository: str) -> None:
    assert make_clone_argv("https://git.example/{repository}.git", repository) == (
        "git",
        "clone",
        "--quiet",
        "--",
        f"https://git.example/{repository}.git",
        ".",
    )


def test_no_git_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        async with serving(tmp_path, command=("true",), clone_url=url(tmp_path)) as served:
            assert (await ended(served))[
                "last_error"
            ] == "The command 'git' could not be started: No such file or directory."

    asyncio.run(story())


def fake_git(folder: Path, script: str) -> Path:
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program.parent


def test_a_clone_has_its_own_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setenv(
            "PATH", f"{fake_git(tmp_path, 'echo waiting >&2; exec sleep 600')}:{os.environ['PATH']}"
        )
        async with serving(tmp_path, command=("true",), clone_url=url(tmp_path), clone_timeout=0.5) as served:
            error = (await ended(served))["last_error"]
            assert error == "git clone was still going after 500 ms, its time limit, and was ended. waiting"

    asyncio.run(story())


def test_git_never_asks_and_sees_what_a_command_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setenv("SECRET_OF_THE_DAEMON", "s")
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
        git = fake_git(tmp_path, "env; [ -t 0 ] || read -r line || echo nothing to read")
        monkeypatch.setenv("PATH", f"{git}:{os.environ['PATH']}")
        for allowed, asks in ((("PATH",), "never"), (("PATH", "SSH_ASKPASS_REQUIRE"), "force")):
            async with serving(
                tmp_path, command=("true",), clone_url=url(tmp_path), environment=allowed
            ) as served:
                run = await ended(served)
                printed = Workspace(tmp_path / "runs" / run["last_task_run_id"]).output.read_text()
                assert {
                    "GIT_TERMINAL_PROMPT=0",
                    f"SSH_ASKPASS_REQUIRE={asks}",
                    "nothing to read",
                    "REPOSITORY=acme/widgets",
                } <= set(printed.splitlines())
                assert "SECRET" not in printed

    asyncio.run(story())


def test_the_ssh_command_of_the_users_own_configuration_is_used(tmp_path: Path, origin: Path) -> None:
    """In its place here: a command that connects to the repository on disk, as SSH would to one elsewhere."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/host\nexec git-upload-pack {origin}\n')
    ssh.chmod(0o755)
    git("config", "--file", str(tmp_path / "home" / ".gitconfig"), "core.sshCommand", str(ssh))
    git("config", "--file", str(tmp_path / "home" / ".gitconfig"), "ssh.variant", "simple")

    async def story() -> None:
        async with serving(
            tmp_path, command=("cat", "README"), clone_url="ssh://git@git.example/{repository}.git"
        ) as served:
            assert (await ended(served))["last_error"] is None
        assert (tmp_path / "host").read_text() == "git@git.example\n"

    asyncio.run(story())


def test_a_run_can_be_cancelled_while_it_clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setenv(
            "PATH", f"{fake_git(tmp_path, f'touch {tmp_path}/cloning; exec sleep 600')}:{os.environ['PATH']}"
        )
        async with serving(tmp_path, command=("true",), clone_url=url(tmp_path)) as served:
            created = await served.create()
            started = await served.start_run(created["id"])
            await eventually(lambda: asyncio.to_thread((tmp_path / "cloning").exists), bool)
            assert await served.api.runs.cancel(started["last_task_run_id"])
            assert (await served.finished(created["id"]))[
                "last_error"
            ] == "The run was cancelled, and git clone was ended."

    asyncio.run(story())
