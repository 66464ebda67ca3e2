"""`scheduler config`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler.app.state_directory import prepare_folder
from scheduler.settings.load import load
from tests.cli.conftest import Scheduler


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.toml"


def test_show_tells_where_each_setting_came_from(
    scheduler: Scheduler, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[log]\nlevel = "debug"\n')
    monkeypatch.setenv("SCHEDULER_DAEMON__NODE", "n1")
    done = scheduler("config", "show", "--config", str(file), "--json")
    sources = {
        record["setting"]: (record["value"], record["source"])
        for record in map(json.loads, done.out.splitlines())
    }
    assert sources["log.level"] == ("debug", f"file {file}")
    assert sources["daemon.node"] == ("n1", "environment SCHEDULER_DAEMON__NODE")
    assert sources["ledger.retention"] == ("180d", "default")


def test_show_is_a_table_for_people(scheduler: Scheduler) -> None:
    lines = scheduler("config", "show").out.splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    (retention,) = [line for line in lines if line.startswith("ledger.retention")]
    assert retention.split() == ["ledger.retention", '"180d"', "default"]


def test_show_uses_what_lies_in_the_state_directory(scheduler: Scheduler, file: Path) -> None:
    file.write_text('[log]\nlevel = "error"\n')
    shown = scheduler("config", "show", "--state-dir", str(file.parent)).out.splitlines()
    assert ["log.level", '"error"', "file", str(file)] in [line.split() for line in shown]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_shows_no_key_wherever_it_was_put(scheduler: Scheduler, file: Path, form: list[str]) -> None:
    file.write_text('[api.runner]\ncommand = ["agent", "--key=phx_s3cret-s3cret_s3cret"]\n')
    done = scheduler("config", "show", "--config", str(file), *form)
    assert done.status == 0
    assert "agent" in done.out
    assert "s3cret" not in done.out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_shows_a_proxy_without_its_credentials(
    scheduler: Scheduler, file: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    file.write_text('[[target]]\nurl = "https://a.example"\nproject_id = 1\n')
    monkeypatch.setenv("SCHEDULER_TARGET__PROXY", "http://s3cret:s3cret@proxy.example:3128")
    done = scheduler("config", "show", "--config", str(file), *form)
    assert "http://***@proxy.example:3128" in done.out
    assert "s3cret" not in done.out


def test_validate_says_yes(scheduler: Scheduler, file: Path) -> None:
    file.write_text('[[target]]\nurl = "https://a.example"\nproject_id = 1\n')
    done = scheduler("config", "validate", "--config", str(file))
    assert (done.status, done.out, done.err) == (0, f"right: {file}; targets: 1, overrides: 0\n", "")
    assert scheduler("config", "validate", "--config", str(file), "--json").out == ""


def test_validate_says_no_with_all_mistakes(scheduler: Scheduler, file: Path) -> None:
    file.write_text("[log]\nlevle = 1\n[schedule]\njitter = 5\n")
    done = scheduler("config", "validate", "--config", str(file))
    assert (done.status, done.out) == (1, "")
    assert done.err.count(f"file {file}: ") == 2
    as_json = scheduler("config", "validate", "--config", str(file), "--json")
    assert (as_json.status, as_json.err) == (1, "")
    assert [sorted(json.loads(line)) for line in as_json.out.splitlines()] == [
        ["remedy", "what", "where"]
    ] * 2


def test_validate_of_a_file_that_is_not_there_is_wrong_use(scheduler: Scheduler) -> None:
    assert scheduler("config", "validate", "--config", "/nonexistent.toml").status == 2


def test_any_other_command_with_a_wrong_configuration_is_wrong_use(scheduler: Scheduler, file: Path) -> None:
    file.write_text("[log]\nlevle = 1\n[schedule]\njitter = 5\n")
    done = scheduler("config", "show", "--config", str(file))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: the configuration has 2 mistakes\n")
    assert "did you mean level?" in done.err


@pytest.mark.parametrize("copied", [False, True])
def test_a_state_directory_that_was_moved_or_copied_is_told_with_the_command_that_corrects_it(
    scheduler: Scheduler, tmp_path: Path, *, copied: bool
) -> None:
    old, new = tmp_path / "old [1]", tmp_path / "a & b"
    prepare_folder(old, {})
    (shutil.copytree if copied else shutil.move)(old, new)
    done = scheduler("config", "show", "--state-dir", str(new))
    assert done.status == 2
    assert (
        f"{new}/scheduler.toml names files of another state directory: target[0].key_file is {old}/api-key"
        in done.err.replace("\n", " ")
    )
    command = done.err.split("`")[1]
    subprocess.run(["sh", "-ec", command], check=True)
    settings = load(new / "scheduler.toml", {}).settings
    assert settings.ledger.url.path == new / "scheduler.db"
    assert settings.targets[0].key_file == new / "api-key"
    assert scheduler("config", "show", "--state-dir", str(new)).status == 0


def test_a_state_directory_whose_files_were_put_elsewhere_is_not_taken_for_moved(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    variables = {
        "SCHEDULER_TARGET__KEY_FILE": f"{data}/api-key",
        "SCHEDULER_LEDGER__URL": f"sqlite:///{data}/scheduler.db",
        "SCHEDULER_API__DATABASE": f"sqlite:///{data}/api.db",
    }
    prepare_folder(tmp_path / "var", variables)
    assert scheduler("config", "show", "--state-dir", str(tmp_path / "var")).status == 0
