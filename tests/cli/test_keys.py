"""`scheduler keys`."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.localapi.keys import ApiKey, ApiKeys
from scheduler.localapi.schema import open_database
from tests.cli.conftest import DAEMON, Scheduler, root_only


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "api.db"
    monkeypatch.setenv("SCHEDULER_API__DATABASE", f"sqlite:///{path}")
    return path


def check(path: Path, text: str) -> ApiKey | None:
    """What the server would say to a key."""
    database = open_database(path)
    try:
        return asyncio.run(ApiKeys(database, lambda: datetime(2026, 1, 1, tzinfo=UTC)).check(text))
    finally:
        database.close()


def test_a_key_is_made_and_printed_once(scheduler: Scheduler, database: Path) -> None:
    done = scheduler("keys", "create", "--scopes", "task:write, task:read", "--project", "7", "--json")
    assert (done.status, done.err) == (0, "")
    made = json.loads(done.out)
    assert list(made) == ["id", "key", "scopes", "project_id"]
    assert (made["scopes"], made["project_id"]) == (["task:read", "task:write"], 7)
    found = check(database, made["key"])
    assert found is not None
    assert found.id == made["id"]
    assert made["key"] not in scheduler("keys", "list").out + scheduler("keys", "list", "--json").out


def test_the_database_that_the_first_key_makes_is_its_owners_alone(
    scheduler: Scheduler, database: Path
) -> None:
    before = os.umask(0o022)
    try:
        assert scheduler("keys", "create").status == 0
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert database.stat().st_mode & 0o777 == 0o600


def test_people_are_told_to_keep_it(scheduler: Scheduler, database: Path) -> None:
    done = scheduler("keys", "create")
    key = done.out.split()[1]
    assert check(database, key) is not None
    assert "not shown again" in done.out


def test_a_revoked_key_is_listed_as_such_and_no_longer_one(scheduler: Scheduler, database: Path) -> None:
    kept, ended = (json.loads(scheduler("keys", "create", "--json").out) for _ in range(2))
    assert scheduler("keys", "revoke", ended["id"]).out == f"revoked: {ended['id']}\n"
    again = scheduler("keys", "revoke", ended["id"])
    assert (again.status, again.out, again.err) == (0, f"was revoked already: {ended['id']}\n", "")
    listed = {
        key["id"]: key["revoked_at"]
        for key in map(json.loads, scheduler("keys", "list", "--json").out.splitlines())
    }
    assert listed[kept["id"]] is None
    assert listed[ended["id"]] is not None
    assert check(database, kept["key"]) is not None
    assert check(database, ended["key"]) is None


def test_a_key_that_is_not_there_cannot_be_revoked(scheduler: Scheduler, database: Path) -> None:
    scheduler("keys", "create")
    done = scheduler("keys", "revoke", "0000")
    assert (done.status, done.out) == (1, "")
    assert "'0000'" in done.err
    assert database.exists()


@pytest.mark.parametrize("scopes", ["", "task:red", "task:read,*"])
def test_a_scope_that_there_is_not_is_wrong_use(scheduler: Scheduler, database: Path, scopes: str) -> None:
    done = scheduler("keys", "create", "--scopes", scopes)
    assert (done.status, done.out) == (2, "")
    assert "task:read, task:write" in done.err
    assert database.exists()
    assert scheduler("keys", "list").out == ""


def test_looking_makes_no_database(scheduler: Scheduler, database: Path) -> None:
    done = scheduler("keys", "list")
    assert done.status == 3
    assert str(database) in done.err
    assert not database.exists()


def test_a_file_of_something_else_is_refused_and_left_alone(scheduler: Scheduler, database: Path) -> None:
    database.write_text("mine")
    assert scheduler("keys", "create").status == 2
    assert database.read_text() == "mine"


@root_only
def test_root_makes_no_file_that_the_servers_user_cannot_open(folder: Path) -> None:
    os.chown(folder, DAEMON, DAEMON)
    environment = {
        **os.environ,
        "SCHEDULER_API__DATABASE": f"sqlite:///{folder}/api.db",
        "SCHEDULER_CONFIG": "/dev/null",
    }
    command = [sys.executable, "-m", "scheduler", "keys"]
    subprocess.run([*command, "create"], check=True, capture_output=True, env=environment)
    subprocess.run([*command, "list"], check=True, capture_output=True, env=environment)
    owners = {file.name: file.stat().st_uid for file in folder.iterdir()}
    assert owners == {"api.db": DAEMON}
