"""`scheduler --version` shows the revision of a checkout, and only there."""

import subprocess
import sys
from pathlib import Path

import pytest

from scheduler import __version__
from scheduler.cli import revision
from scheduler.cli.revision import find_revision
from tests.cli.conftest import Scheduler

IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def git(folder: Path, *arguments: str) -> str:
    """Run git in this folder, without the settings of this machine, and return its output."""
    return subprocess.run(
        ["git", *IDENTITY, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Begin")
    return folder


def test_the_revision_of_a_branch_is_found(checkout: Path) -> None:
    assert find_revision(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_revision_of_a_packed_branch_is_found(checkout: Path) -> None:
    git(checkout, "branch", "other/main")  # its name ends as the name of the branch
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Continue")
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git" / "refs" / "heads" / "main").exists()
    assert find_revision(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_branch_that_moved_after_it_was_packed_has_its_new_revision(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Continue")
    assert find_revision(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_revision_without_a_branch_is_found(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "--detach")
    assert find_revision(checkout) == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("packed", [False, True])
def test_a_worktree_has_a_revision_of_its_own(checkout: Path, packed: bool) -> None:
    git(checkout, "worktree", "add", "-q", "-b", "topic", "../topic")
    topic = checkout.parent / "topic"
    git(topic, "commit", "-q", "--allow-empty", "-m", "Continue")
    if packed:
        git(checkout, "pack-refs", "--all")
    assert find_revision(topic) == git(topic, "rev-parse", "HEAD")
    assert find_revision(checkout) == git(checkout, "rev-parse", "HEAD") != find_revision(topic)


def test_a_repository_without_a_commit_has_no_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert find_revision(tmp_path) is None


@pytest.mark.parametrize(
    "text", [None, b"", b"ref: ", b"ref: refs/heads/main", b"0123", b"\xff", b"ref: refs\0"]
)
def test_an_unreadable_repository_has_no_revision(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "HEAD").write_bytes(text)
    assert find_revision(tmp_path) is None


def test_an_installed_program_shows_its_version(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "find_revision", lambda _checkout: None)
    assert scheduler("--version").out == f"scheduler {__version__}\n"


def test_a_program_in_a_checkout_shows_its_revision_too(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "find_revision", lambda _checkout: "0123456789abcdef" * 2 + "01234567")
    assert scheduler("--version").out == f"scheduler {__version__} (revision 0123456789ab)\n"


STATUS = """
import sys
from scheduler import cli

cli.run(["status", "--help"])
sys.exit("scheduler.cli.revision" in sys.modules)
"""


def test_only_the_version_reads_the_revision() -> None:
    assert subprocess.run([sys.executable, "-c", STATUS], check=False, capture_output=True).returncode == 0
