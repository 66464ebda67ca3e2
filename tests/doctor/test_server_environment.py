"""Whose PATH a run's programs are looked up in: the running server's, else its unit's, else that of the
command that asks.
"""

from pathlib import Path

import pytest

from scheduler.doctor.probes.server_environment import find_environment
from tests.doctor.support import program, serving

FILE = Path("/etc/scheduler/scheduler.toml")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "api.db"


def test_the_environment_is_that_of_the_running_server(tmp_path: Path, database: Path) -> None:
    agent, other = program(tmp_path / "server", "agent"), program(tmp_path / "shell", "other")
    with serving(database, PATH=str(tmp_path / "server"), AGENT_KEY="s3cret") as process:
        server = find_environment(database, FILE, {"PATH": str(tmp_path / "shell")})
        assert (server.owner, server.process) == (f"the server, process {process}", process)
        assert server.find_program("agent", ["PATH"]) == str(agent)
        assert server.find_program(str(other), ["PATH"]) == str(other)
        assert server.find_program("other", ["PATH"]) is None
        assert server.find_program("agent", ["HOME"]) is None, (
            "a command without PATH is looked up in the system's own folders"
        )
        assert server.find_program("sh", ["HOME"]) == "/bin/sh"
        assert server.list_unset(["PATH", "HOME", "AGENT_KEY", "AGENT_URL"]) == ("HOME", "AGENT_URL")


def test_without_a_server_it_is_that_of_this_command_and_nothing_is_said_to_be_unset(
    tmp_path: Path, database: Path
) -> None:
    agent = program(tmp_path / "shell", "agent")
    Path(f"{database}.lock").touch()
    server = find_environment(database, None, {"PATH": str(agent.parent)})
    assert server.owner == "this command, since no server runs"
    assert server.find_program("agent", ["PATH"]) == str(agent)
    assert server.list_unset(["AGENT_KEY"]) == ()


SHOWN = """\
ExecStart={{ path=/opt/s/bin/scheduler ; argv[]=/opt/s/bin/scheduler serve --config {config} ;\
 ignore_errors=no }}
Environment=HOME=/var/lib/scheduler-api "GREETING=hello there" PATH={path}
EnvironmentFiles={env} (ignore_errors=yes)
EnvironmentFiles=/nonexistent/agent.env (ignore_errors=yes)
LoadState=loaded
"""


def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, config: Path = FILE) -> Path:
    """A unit as systemctl shows it; the program that its PATH has comes back."""
    agent = program(tmp_path / "unit", "agent")
    (tmp_path / "agent.env").write_text("# a key\nAGENT_KEY='s3cret'\n\nnonsense\n")
    (tmp_path / "shown").write_text(
        SHOWN.format(config=config, path=agent.parent, env=tmp_path / "agent.env")
    )
    systemctl = program(tmp_path / "bin", "systemctl", f"exec cat {tmp_path}/shown")
    monkeypatch.setenv("PATH", f"{systemctl.parent}:/usr/bin:/bin")
    return agent


def test_without_a_server_it_is_that_of_the_unit_with_this_configuration(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = unit(tmp_path, monkeypatch)
    server = find_environment(database, FILE, {"PATH": "/nowhere"})
    assert server.owner == "the unit scheduler-api.service"
    assert server.find_program("agent", ["PATH"]) == str(agent)
    assert server.variables["GREETING"] == "hello there"
    assert server.list_unset(["PATH", "HOME", "LANG", "AGENT_KEY", "AGENT_URL"]) == ("AGENT_URL",)


def test_a_unit_with_another_configuration_is_not_meant(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit(tmp_path, monkeypatch, config=Path("/etc/other.toml"))
    assert find_environment(database, FILE, {}).owner == "this command, since no server runs"


def test_of_a_unit_whose_file_may_not_be_read_nothing_is_said_to_be_unset(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit(tmp_path, monkeypatch)
    (tmp_path / "agent.env").unlink()
    (tmp_path / "agent.env").mkdir()  # as unreadable for root as a file of root's is for others
    found = find_environment(database, FILE, {})
    assert (found.owner, found.list_unset(["AGENT_KEY"])) == (
        "the unit scheduler-api.service, whose files of variables may not all be read",
        (),
    )


def test_a_systemctl_that_fails_or_is_missing_is_no_unit(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in ("echo no bus >&2; exit 1", None):
        monkeypatch.setenv(
            "PATH",
            str(program(tmp_path / "bin", "systemctl", script).parent if script else tmp_path / "nothing"),
        )
        assert find_environment(database, FILE, {}).owner == "this command, since no server runs"
