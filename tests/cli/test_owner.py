"""Root reads a database as the user to whom it belongs."""

import os
from pathlib import Path

import pytest

from scheduler.cli.owner import acting_as_owner
from tests.cli.conftest import DAEMON, root_only


def whoami() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), os.getgroups()


@root_only
def test_files_made_meanwhile_belong_to_the_owner(folder: Path) -> None:
    database = folder / "scheduler.db"
    database.touch()
    os.chown(folder, DAEMON, DAEMON)
    os.chown(database, DAEMON, DAEMON)
    before = whoami()
    with acting_as_owner(database):
        assert whoami() == (DAEMON, DAEMON, [DAEMON])
        (folder / "scheduler.db-wal").touch()
    assert whoami() == before
    status = (folder / "scheduler.db-wal").stat()
    assert (status.st_uid, status.st_gid) == (DAEMON, DAEMON)


@root_only
def test_a_database_that_is_not_there_yet_will_belong_to_its_folders_owner(folder: Path) -> None:
    os.chown(folder, DAEMON, DAEMON)
    with acting_as_owner(folder / "missing" / "scheduler.db"):
        assert os.geteuid() == DAEMON


@root_only
def test_root_is_root_again_after_an_error(folder: Path) -> None:
    os.chown(folder, DAEMON, DAEMON)
    before = whoami()
    with pytest.raises(PermissionError), acting_as_owner(folder):
        Path("/etc/shadow").read_bytes()
    assert whoami() == before


def test_anybody_else_stays_who_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)
    monkeypatch.setattr(os, "seteuid", lambda _: pytest.fail("nobody but root may"))
    with acting_as_owner(folder):
        pass
