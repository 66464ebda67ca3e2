"""What the API's unit lets an agent do, and that nothing of it stays behind. The agent is a shell, and the
prompt its script.
"""

import json
import re

import pytest

from tests.operated import until
from tests.systemd.project import ROOT
from tests.systemd.services import API, DAEMON, KEY, SETTINGS, Services

ENDED = {"success", "failed"}


@pytest.fixture(scope="module")
def agents(services: Services) -> Services:
    services.configure(command='["sh"]')
    services.start_api()
    services.systemctl("start", DAEMON)
    return services


def begun(services: Services, script: str) -> str:
    """A run of this script, begun; the automation's id."""
    automation = services.create("agent", cron="0 0 1 1 *", prompt=script)
    services.api("POST", f"{automation}/run/")
    return automation


def outcome(services: Services, automation: str) -> str:
    """How the automation's run ended, with the reason where it failed."""
    found = until(lambda: ended(services, automation), "the run to end")
    return (
        found["last_run_status"]
        if found["last_run_status"] == "success"
        else f"failed: {found['last_error']}"
    )


def ended(services: Services, automation: str) -> dict[str, str]:
    """The automation, once its run has ended; nothing before."""
    found: dict[str, str] = services.api("GET", f"{automation}/")
    return found if found["last_run_status"] in ENDED else {}


def processes(services: Services) -> set[int]:
    """What the agents' user has running."""
    shown = services.machine.run(
        "sh", "-c", "stat --format='%U %n' /proc/[0-9]*", check=False
    ).stdout  # some end meanwhile
    owners = (line.split(" /proc/") for line in shown.splitlines())
    return {int(process) for owner, process in owners if owner == "scheduler-api"}


NEEDED = {
    "places to write": "echo x >$HOME/x && echo x >/tmp/x && echo x >x",
    "a sandbox of its own": "unshare --user --map-root-user --mount --pid --fork --mount-proc true",
    "memory for a compiler": "/usr/bin/python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
    "the network": (
        "/usr/bin/python3 -c 'import socket; socket.if_nameindex(); socket.socket().bind((\"127.0.0.1\", 0))'"
    ),
    "a terminal": "/usr/bin/python3 -c 'import os; os.openpty()'",
}
DENIED = {
    "the system": ("touch", "/etc/x /usr/x /opt/x /var/lib/x"),
    "what the daemon has": (
        "cat",
        f"{KEY} /var/lib/scheduler/scheduler.db /run/credentials/scheduler.service/posthog-api-key",
    ),
    "homes": ("ls", "/home /root /run/user"),
}


@pytest.mark.parametrize("script", NEEDED.values(), ids=NEEDED)
def test_an_agent_has_what_agents_need(agents: Services, script: str) -> None:
    assert outcome(agents, begun(agents, script)) == "success"


@pytest.mark.parametrize(("command", "files"), DENIED.values(), ids=DENIED)
def test_an_agent_does_not_reach(agents: Services, command: str, files: str) -> None:
    script = f"for file in {files}; do if {command} $file 2>&1; then exit 1; fi; done"
    assert outcome(agents, begun(agents, script)) == "success"


def test_an_agent_sees_no_processes_of_others(agents: Services) -> None:
    script = 'test "$(stat --format=%U /proc/[0-9]* | sort --unique)" = scheduler-api'
    assert outcome(agents, begun(agents, script)) == "success"


def test_the_drop_in_of_the_documents_lets_an_agent_have_more(agents: Services) -> None:
    [more] = re.findall(
        r"^```ini\n(.*?)^```$", (ROOT / "docs/agents.md").read_text(), re.DOTALL | re.MULTILINE
    )
    agents.machine.run("install", "--directory", "--owner=scheduler-api", "/srv/shared")
    agents.drop_in(API, more)
    agents.systemctl("restart", API)
    script = "echo x >/srv/shared/x && grep '^NoNewPrivs:.*0$' /proc/self/status && ls /home"
    assert outcome(agents, begun(agents, script)) == "success"
    agents.systemctl("revert", API)
    agents.systemctl("restart", API)


def found_by_check(services: Services) -> tuple[str, str]:
    """What `check` says of the agent's command: status and finding."""
    lines = services.command("check", "--config", SETTINGS, "--json", check=False).splitlines()
    found = [each for each in map(json.loads, lines) if each["subject"] == "api.runner.command"]
    return found[0]["status"], found[0]["finding"]


def test_check_looks_an_agent_up_where_the_service_does(agents: Services) -> None:
    for folder in ("/usr/local/bin", "/home"):
        agents.machine.run("install", "--mode=0755", "/bin/true", f"{folder}/agent-of-mine")
    process = agents.process(API)
    try:
        for command, expected in (
            (
                "agent-of-mine",
                ("ok", f"/usr/local/bin/agent-of-mine is there, for the server, process {process}"),
            ),
            (
                "/home/agent-of-mine",
                ("fault", "/home/agent-of-mine is not there, or cannot be executed: every run fails"),
            ),
        ):
            agents.configure(command=f'["{command}"]')
            assert found_by_check(agents) == expected
        agents.configure(command='["agent-of-mine"]')
        agents.systemctl("stop", API)
        assert found_by_check(agents) == ("ok", f"/usr/local/bin/agent-of-mine is there, for the unit {API}")
    finally:
        agents.configure(command='["sh"]')
        agents.systemctl("start", API)


def test_what_gets_away_from_a_run_is_ended_with_it(agents: Services) -> None:
    away = (
        "setsid sh -c 'trap \"\" TERM; setsid env --ignore-environment sleep 1000 & sleep 1000' "
        ">/dev/null 2>&1 &"
    )
    assert outcome(agents, begun(agents, away)) == "success"
    until(lambda: processes(agents) == {agents.process(API)}, "only the server to be left")


def test_of_a_run_that_kills_what_watches_it_nothing_outlives_the_service(agents: Services) -> None:
    out_of_sight = "setsid env --ignore-environment sleep 1000 & sleep 0.2; kill -KILL $PPID"
    assert outcome(agents, begun(agents, out_of_sight)) != "success"
    agents.systemctl("stop", API)
    assert processes(agents) == set()
    agents.systemctl("start", API)


def test_a_stop_ends_the_runs_and_records_why(agents: Services) -> None:
    automation = begun(agents, "trap 'sleep 0.5; exit 0' TERM; sleep 1000 & wait")
    until(lambda: len(processes(agents)) > 2, "the run to have begun")
    agents.systemctl("stop", API)
    assert agents.show(API, "Result") == "success"
    assert processes(agents) == set()
    agents.systemctl("start", API)
    assert "stop" in outcome(agents, automation)


def test_of_a_server_that_is_killed_no_run_outlives_it(agents: Services) -> None:
    begun(agents, "trap '' TERM; sleep 1000 & wait")
    until(lambda: len(processes(agents)) > 2, "the run to have begun")
    before = processes(agents)
    agents.kill(API, "KILL")
    until(lambda: agents.process(API) not in {0, *before}, "the server to be started again")
    assert not processes(agents) & before
