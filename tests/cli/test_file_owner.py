"""Root reads a database as the user to whom it belongs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler.cli.file_owner import act_as_owner, describe_denial
from tests.cli.conftest import DAEMON, Scheduler, root_only

STRANGER = DAEMON + 1


def whoami() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), os.getgroups()


@root_only
def test_files_made_meanwhile_belong_to_the_owner(folder: Path) -> None:
    database = folder / "scheduler.db"
    database.touch()
    os.chown(folder, DAEMON, DAEMON)
    os.chown(database, DAEMON, DAEMON)
    before = whoami()
    with act_as_owner(database):
        assert whoami() == (DAEMON, DAEMON, [DAEMON])
        (folder / "scheduler.db-wal").touch()
    assert whoami() == before
    status = (folder / "scheduler.db-wal").stat()
    assert (status.st_uid, status.st_gid) == (DAEMON, DAEMON)


@root_only
def test_a_database_that_is_not_there_yet_will_belong_to_its_folders_owner(folder: Path) -> None:
    os.chown(folder, DAEMON, DAEMON)
    with act_as_owner(folder / "missing" / "scheduler.db"):
        assert os.geteuid() == DAEMON


@root_only
def test_root_is_root_again_after_an_error(folder: Path) -> None:
    os.chown(folder, DAEMON, DAEMON)
    before = whoami()
    with pytest.raises(PermissionError), act_as_owner(folder):
        Path("/etc/shadow").read_bytes()
    assert whoami() == before


def test_anybody_else_stays_who_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)
    monkeypatch.setattr(os, "seteuid", lambda _: pytest.fail("nobody but root may"))
    with act_as_owner(folder):
        pass


@contextmanager
def acting_as_stranger() -> Iterator[None]:
    """Be a user without rights of its own, in this process."""
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


COMMANDS = [
    ("history",),
    ("next",),
    ("why", "x", "03:00"),
    ("fire", "x", "03:00"),
    ("pause", "--all"),
    ("audit", "--since", "1h"),
    ("runs", "list"),
    ("keys", "list"),
    ("keys", "create"),
    ("backup", "/tmp/no-backup"),
    ("target", "rename", "a", "b"),
]


@root_only
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_that_may_not_use_a_file_says_whose_it_is_and_what_to_do(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for name, file in {"LEDGER__URL": "scheduler.db", "API__DATABASE": "api.db"}.items():
        monkeypatch.setenv(f"SCHEDULER_{name}", f"sqlite:///{folder}/{file}")
    monkeypatch.setenv("SCHEDULER_CONFIG", "/dev/null")
    monkeypatch.setenv("SCHEDULER_TARGET__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCHEDULER_TARGET__PROJECT_ID", "1")
    folder.chmod(0o700)
    os.chown(folder, DAEMON, DAEMON)
    with acting_as_stranger():
        done = scheduler(*command)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: {folder}: permission denied; it belongs to the user {DAEMON}. Run the command with "
        f"sudo, or as {DAEMON}\n"
    )


@root_only
def test_a_group_that_may_is_named(folder: Path) -> None:
    file = folder / "scheduler.db"
    file.touch()
    file.chmod(0o640)
    with acting_as_stranger():
        assert describe_denial(file).endswith(
            ": permission denied; it belongs to the user root. Run the command with sudo, or as "
            "root, or join the group root"
        )


@root_only
def test_a_schedule_needs_no_ledger(
    scheduler: Scheduler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{folder}/none/scheduler.db")
    monkeypatch.setenv("SCHEDULER_CONFIG", "/dev/null")
    folder.chmod(0o700)
    with acting_as_stranger():
        for command in (("next", "--cron", "0 9 * * *"), ("explain", "--cron", "0 9 * * *")):
            assert scheduler(*command).status == 0
