"""The services as they run: what they are given and what they are not, and what an operator does to them."""

import pytest

from tests.operated import until
from tests.systemd.project import at
from tests.systemd.services import API, DAEMON, KEY, SETTINGS, Services

LEDGER = "/var/lib/scheduler/scheduler.db"
RELOADED = "scheduler_config_last_reload_successful"


def test_the_api_answers_when_it_is_up(well: Services) -> None:
    well.systemctl("restart", API)
    assert well.page("/healthz", port=8040)[0] == 200
    assert well.show(API, "StatusText") == "runs: 0 in progress, 0 waiting"


# ------------------------------------------------------------ the key


def test_the_key_comes_from_the_credential_alone(well: Services) -> None:
    process = f"/proc/{well.process(DAEMON)}"
    assert well.machine.run("stat", "--format=%U %a", KEY).stdout == "root 600\n"
    for file in (f"{process}/environ", f"{process}/cmdline", SETTINGS):
        assert well.key not in at(well.machine, file).read_text(), file
    assert well.key not in well.machine.run("journalctl", "--output=export", "--all").stdout


def test_a_daemon_whose_key_comes_later_starts_when_it_comes(well: Services) -> None:
    at(well.machine, KEY).rename(at(well.machine, f"{KEY}.away"))
    assert well.machine.run("systemctl", "restart", DAEMON, check=False).returncode == 1
    assert well.show(DAEMON, "ExecMainStatus") == "243"
    at(well.machine, f"{KEY}.away").rename(at(well.machine, KEY))
    well.ready()


@pytest.mark.parametrize(
    "file", [KEY, LEDGER, "/run/credentials/scheduler.service/posthog-api-key", "/proc/{process}/environ"]
)
def test_the_user_of_the_agents_cannot_read_what_the_daemon_has(well: Services, file: str) -> None:
    file = file.format(process=well.process(DAEMON))
    assert well.machine.run("cat", file).stdout
    read = well.machine.run("runuser", "--user", "scheduler-api", "--", "cat", file, check=False)
    assert (read.returncode, read.stdout) == (1, "")
    assert "Permission denied" in read.stderr


def test_the_page_shows_the_output_of_a_run_though_the_daemon_cannot_read_its_file(well: Services) -> None:
    automation = well.create("silent", cron="0 0 1 1 *")
    well.command("automations", "run", automation)
    page = f"/automations/default/{automation}"
    until(
        lambda: "The run has printed nothing." in well.page(page)[1],
        "the run and its output to be shown",
        seconds=60,
    )
    run = well.api("GET", f"{automation}/")["last_task_run_id"]
    file = f"/var/lib/scheduler-api/api.db.runs/{run}/output"
    assert well.machine.run("stat", "--format=%U %a", file).stdout == "scheduler-api 600\n"
    assert well.machine.run("runuser", "--user", "scheduler", "--", "cat", file, check=False).returncode == 1


# ------------------------------------------------------------ reload


def reload(services: Services) -> int:
    """The exit status of `systemctl reload`."""
    return services.machine.run("systemctl", "reload", DAEMON, check=False).returncode


def test_a_reload_takes_up_a_setting(well: Services) -> None:
    well.configure(level='"debug"')
    assert reload(well) == 0
    until(lambda: well.events("config.reloaded"), "the reload")
    assert well.metric(RELOADED) == 1
    well.create("new", cron="0 0 1 1 *")
    until(lambda: well.journal(f"_SYSTEMD_UNIT={DAEMON}", "PRIORITY=7"), "what only debug shows")


def test_a_reload_of_a_bad_file_fails_and_says_why_and_the_old_one_stays(well: Services) -> None:
    process = well.process(DAEMON)
    well.configure(poll_interval='"500"')
    assert reload(well) == 1
    assert any("schedule.poll_interval" in line for line in errors(well))
    assert well.events("config.reloaded") == []  # it was not even told
    assert well.metric(RELOADED) == 1
    assert well.show(DAEMON, "ActiveState") == "active"
    assert well.process(DAEMON) == process


def test_a_reload_that_needs_a_restart_is_refused_by_the_daemon(well: Services) -> None:
    well.configure(drain_timeout='"5s"')
    assert reload(well) == 0  # the file is right, so that it is for the daemon to say
    [refused] = until(lambda: well.events("config.reloaded"), "the answer")
    assert "[daemon]" in refused["ERROR"]
    assert refused["PRIORITY"] == "3"
    assert well.metric(RELOADED) == 0


def errors(services: Services) -> list[str]:
    """What the journal shows for `journalctl --priority=err --unit=scheduler`."""
    return [str(entry["MESSAGE"]) for entry in services.journal(f"--unit={DAEMON}", "--priority=err")]


# ------------------------------------------------------------ exit statuses


def test_a_wrong_configuration_ends_it_with_2_and_it_stays_ended(well: Services) -> None:
    well.configure(project_id='"@current"')
    assert well.machine.run("systemctl", "restart", DAEMON, check=False).returncode == 1
    assert [well.show(DAEMON, each) for each in ("SubState", "ExecMainStatus", "NRestarts")] == [
        "failed",
        "2",
        "0",
    ]
    assert any("target[0].project_id" in line for line in errors(well))


def test_a_daemon_whose_lock_was_removed_ends_with_3_and_comes_back(well: Services) -> None:
    before = well.process(DAEMON)
    at(well.machine, f"{LEDGER}.lock").unlink()
    until(lambda: well.process(DAEMON) not in {0, before}, "another process")
    well.ready()
    assert any("status=3" in str(entry["MESSAGE"]) for entry in well.journal(f"UNIT={DAEMON}"))


def test_a_command_as_root_leaves_a_ledger_that_the_daemon_can_open(well: Services) -> None:
    well.systemctl("stop", DAEMON)
    folder = at(well.machine, LEDGER).parent
    assert "scheduler.db-shm" not in {file.name for file in folder.iterdir()}
    well.command("history")
    owner = folder.stat().st_uid
    assert owner != 0
    assert {file.name: file.stat().st_uid for file in folder.iterdir()} == {
        file.name: owner for file in folder.iterdir()
    }
    well.systemctl("start", DAEMON)
    well.ready()
