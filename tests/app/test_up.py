"""`scheduler up`: what it makes in its folder and keeps, the demo, and that every command that it prints
works as printed.
"""

import asyncio
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from scheduler.app import state_directory
from scheduler.app.api import run_api
from scheduler.app.api_process import Child
from scheduler.app.state_directory import KEY_NAME, prepare_folder, read_key, write_key
from scheduler.app.up import DEMO, run_up
from scheduler.cli.commands.up import command, describe_command_fault
from scheduler.core.command_line import FILE_NAME
from scheduler.core.errors import ConfigurationError
from scheduler.localapi.lock import ServerLock
from scheduler.localapi.schema import open_database
from scheduler.settings.load import Configuration, load
from tests.app.conftest import Within
from tests.launcher import PROGRAM
from tests.localapi.support import alive
from tests.operated import PATIENCE, Place, Running, environment, page, place, until
from tests.ports import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "the state"


@pytest.fixture(autouse=True)
def own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that an operator expects: other tests may take them meanwhile."""
    for name in ("_API_PORT", "_SERVER_PORT"):
        monkeypatch.setattr(state_directory, name, free_port())


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


class _Announced(Exception):
    """The API answers, and the daemon is about to start."""


class _Served:
    """The API in this process, in place of a child process."""

    async def wait_ready(self) -> bool:
        return True


@asynccontextmanager
async def _serve_here(folder: Path) -> AsyncIterator[_Served]:
    """Serve the API of a state directory without another process, whose start takes most of a second."""
    async with run_api(load(folder / FILE_NAME, {}).settings):
        yield _Served()


def begin(folder: Path, *, demo: bool = False, environ: Mapping[str, str] | None = None) -> str:
    """What `up` does until it starts the daemon; the key that it has then comes back. The tests of two
    processes, below, start the API as `up` does.
    """
    variables = environ or {}

    def announce() -> None:
        raise _Announced

    def configuration() -> Configuration:
        return load(folder / FILE_NAME, variables)

    prepare_folder(folder, variables)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("scheduler.app.up.start_api", _serve_here)
        with pytest.raises(_Announced):
            asyncio.run(run_up(folder, configuration, announce, demo=demo))
    return read_key(folder / KEY_NAME)


def automations(folder: Path) -> list[tuple[str, bool]]:
    """The name of each, and whether it is enabled."""
    database = open_database(folder / "api.db")
    try:
        rows = asyncio.run(
            database.read(
                lambda connection: connection.execute("SELECT name, enabled FROM automations").fetchall()
            )
        )
    finally:
        database.close()
    return [(name, bool(enabled)) for name, enabled in rows]


def test_the_folder_gets_a_configuration_that_is_right_and_never_changed_again(folder: Path) -> None:
    file = prepare_folder(folder)
    settings = load(file, {}).settings
    assert [(target.url, target.idempotent) for target in settings.targets] == [
        (f"http://{settings.api.listen}", True)
    ]
    assert settings.schedule.poll_interval.total_seconds() == 5
    assert settings.ledger.url.path.parent == settings.api.database.path.parent == folder
    file.write_text("# mine\n")
    prepare_folder(folder)
    assert file.read_text() == "# mine\n"


API, DATABASE = "SCHEDULER_API__LISTEN", "SCHEDULER_API__DATABASE"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({API: "127.0.0.1:8045", "SCHEDULER_SERVER__LISTEN": "127.0.0.1:9999"}, "http://127.0.0.1:8045"),
        ({API: "0.0.0.0:8045", "SCHEDULER_SERVER__LISTEN": ""}, "http://127.0.0.1:8045"),
        ({API: "[::]:8045"}, "http://[::1]:8045"),
        ({API: "localhost:8045", "SCHEDULER_TARGET__URL": "http://127.0.0.1:8045"}, "http://127.0.0.1:8045"),
        (
            {
                API: "127.0.0.1:8045",
                DATABASE: 'sqlite:////srv/"x".db',
                "SCHEDULER_LEDGER__URL": "sqlite:////srv/l.db",
            },
            "http://127.0.0.1:8045",
        ),
        (
            {
                API: "127.0.0.1:8045",
                "SCHEDULER_TARGET__PROJECT_ID": "7",
                "SCHEDULER_TARGET__KEY_FILE": "/srv/key",
            },
            "http://127.0.0.1:8045",
        ),
    ],
)
def test_the_file_says_the_same_as_the_environment_in_which_it_was_made(
    folder: Path, environ: dict[str, str], url: str
) -> None:
    file = prepare_folder(folder, environ)
    assert load(file, {}).settings == load(file, environ).settings
    (target,) = load(file, {}).settings.targets
    assert target.url == url
    assert [each.name for each in folder.iterdir()] == [FILE_NAME]


def test_the_help_names_the_variables_that_are_written_into_the_file(folder: Path) -> None:
    """SCHEDULER_API__RUNNER__COMMAND was not written, and the help said that variables are."""
    written, _, other = (command.help or "").partition("Other variables")
    names = re.findall(r"SCHEDULER_\w+", written)
    values = {
        API: "127.0.0.1:8045",
        DATABASE: "sqlite:////srv/a.db",
        "SCHEDULER_SERVER__LISTEN": "127.0.0.1:9999",
        "SCHEDULER_LEDGER__URL": "sqlite:////srv/l.db",
        "SCHEDULER_TARGET__PROJECT_ID": "7",
        "SCHEDULER_TARGET__KEY_FILE": "/srv/key",
        "SCHEDULER_TARGET__URL": "http://localhost:8045",
    }
    assert sorted(names) == sorted(values)
    (agent,) = re.findall(r"SCHEDULER_\w+", other)
    text = prepare_folder(folder, {**values, agent: '["agent"]'}).read_text()
    assert [name for name in names if f'"{values[name]}"' not in text] == []
    assert '"agent"' not in text


def test_the_url_of_another_api_is_not_written_and_what_was_meant_is_asked(folder: Path) -> None:
    environ = {"SCHEDULER_TARGET__URL": "https://us.posthog.com"}
    file = prepare_folder(folder, environ)
    (target,) = load(file, {}).settings.targets
    assert target.url == f"http://127.0.0.1:{state_directory._API_PORT}"
    with pytest.raises(
        ConfigurationError, match=r"https://us.posthog.com \(environment SCHEDULER_TARGET__URL\)"
    ):
        asyncio.run(run_up(folder, lambda: load(file, environ), lambda: None, demo=False))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {API: "127.0.0.1:0"},
            'needs an address with a port for the embedded API, and \\[api\\] listen is "127.0.0.1:0"',
        ),
        ({API: ""}, 'listen is ""; set SCHEDULER_API__LISTEN'),
        ({API: "8040"}, "environment SCHEDULER_API__LISTEN: api.listen"),
    ],
)
def test_an_address_that_no_target_can_have_is_refused_before_anything_is_written(
    folder: Path, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        prepare_folder(folder, environ)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("way", ["variable", "file"])
def test_an_address_that_was_changed_alone_later_is_refused_and_says_who_set_it(
    folder: Path, way: str
) -> None:
    file = prepare_folder(folder, {API: "127.0.0.1:8045"})
    environ = {API: "127.0.0.1:8046"} if way == "variable" else {}
    if way == "file":
        file.write_text(file.read_text().replace('listen = "127.0.0.1:8045"', 'listen = "127.0.0.1:8046"'))
    said = "environment SCHEDULER_API__LISTEN" if way == "variable" else f"file {re.escape(str(file))}"
    words = rf"api.listen is 127.0.0.1:8046 \({said}\), target\[0\].url is http://127.0.0.1:8045 \(file "
    with pytest.raises(ConfigurationError, match=words):
        asyncio.run(run_up(folder, lambda: load(file, environ), lambda: None, demo=False))
    assert not (folder / KEY_NAME).exists()


def test_a_key_is_made_for_the_targets_project_and_where_the_target_looks_for_it(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a key"
    environ = {"SCHEDULER_TARGET__KEY_FILE": str(file), "SCHEDULER_TARGET__PROJECT_ID": "7"}
    begin(folder, demo=True, environ=environ)
    assert not (folder / KEY_NAME).exists()
    key = file.read_text()
    begin(folder, environ=environ)
    assert file.read_text() == key
    file.write_text("phx_of_somebody_else")
    with pytest.raises(
        ConfigurationError,
        match=f"the key in {file} \\(key_file of target default\\) is no key of this embedded API",
    ):
        asyncio.run(run_up(folder, lambda: load(folder / FILE_NAME, environ), lambda: None, demo=False))
    assert file.read_text() == "phx_of_somebody_else"


def test_ports_that_are_taken_are_left_to_their_owners(folder: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", state_directory._API_PORT))
        except OSError:
            pass  # somebody else has it already
        else:
            taken.listen()
        listen = tomllib.loads(prepare_folder(folder).read_text())["api"]["listen"]
    host, port = listen.split(":")
    assert host == "127.0.0.1"
    assert state_directory._API_PORT < int(port) < state_directory._API_PORT + state_directory._MAX_PORTS


def test_a_configuration_that_could_not_be_written_whole_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(ConfigurationError, match="No space left on device"):
            prepare_folder(folder)
    assert prepare_folder(folder).read_text().startswith("# Made by `scheduler up`")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigurationError, match=r"the state directory .*/file/state cannot be used: Not a directory"
    ):
        prepare_folder(tmp_path / "file" / "state")


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "ques?tion", "ha#sh", "li\nne"])
def test_a_folder_that_a_configuration_could_not_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="has a character"):
        prepare_folder(tmp_path / name)
    assert not (tmp_path / name / FILE_NAME).exists()


def test_a_key_file_is_its_owners_alone_whatever_was_there_before(tmp_path: Path) -> None:
    file = tmp_path / KEY_NAME
    file.touch(0o644)
    write_key(file, "phx_secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file) == "phx_secret"
    assert [each.name for each in tmp_path.iterdir()] == [KEY_NAME]


def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"the key file {tmp_path} cannot be used: Is a directory"):
        read_key(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be used: No such file or directory"):
        write_key(tmp_path / "missing" / KEY_NAME, "phx_secret")


def test_the_key_is_made_once_and_kept(folder: Path) -> None:
    assert begin(folder) == begin(folder)


@pytest.mark.parametrize("spoilt", [None, "", "phx_of_somebody_else", "\udcff"])
def test_a_key_that_does_not_work_is_replaced_by_one_that_does(folder: Path, spoilt: str | None) -> None:
    first = begin(folder)
    if spoilt is None:
        revoke_all(folder)
    else:
        (folder / KEY_NAME).write_bytes(spoilt.encode(errors="surrogateescape"))
    second = begin(folder)
    assert second not in {first, spoilt}
    assert begin(folder) == second


def revoke_all(folder: Path) -> None:
    async def main() -> None:
        async with run_api(load(folder / FILE_NAME, {}).settings) as api:
            for key in await api.keys.list_all():
                assert await api.keys.revoke(key.id)

    asyncio.run(main())


def test_the_demo_is_made_once_and_enabled_again(folder: Path) -> None:
    begin(folder)
    assert automations(folder) == []
    begin(folder, demo=True)
    begin(folder, demo=True)
    assert automations(folder) == [(DEMO["name"], True)]
    database = open_database(folder / "api.db")
    asyncio.run(
        database.write(lambda connection: connection.execute("UPDATE automations SET enabled = 0").rowcount)
    )
    database.close()
    begin(folder)
    assert automations(folder) == [(DEMO["name"], False)]
    begin(folder, demo=True)
    assert automations(folder) == [(DEMO["name"], True)]


def test_the_demo_is_not_made_at_somebody_elses_api(folder: Path) -> None:
    file = prepare_folder(folder)
    text = file.read_text()
    listen = tomllib.loads(text)["api"]["listen"]
    file.write_text(text.replace(f'url = "http://{listen}"', 'url = "https://us.posthog.com"'))
    with pytest.raises(
        ConfigurationError, match=f"no \\[\\[target\\]\\] has its url http://{listen}; start without --demo"
    ):
        asyncio.run(run_up(folder, lambda: load(file, {}), lambda: None, demo=True))
    assert not (folder / KEY_NAME).exists()


def test_every_command_that_is_printed_works_as_printed(here: Place, folder: Path, within: Within) -> None:
    running = here.start("up", "--demo", options=("--state-dir", str(folder)))
    running.told("automation.added")
    welcome = running.errors.read_text()
    commands = [line.strip() for line in welcome.splitlines() if " --state-dir " in line]
    assert len(commands) == 8
    done = subprocess.run(
        ["bash", "-ec", commands[0]],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
    )
    told = [done.stdout, done.stderr]
    assert done.returncode == 0, done.stderr
    for words in map(shlex.split, commands[1:]):
        assert words[: len(PROGRAM)] == list(PROGRAM)
        status, *printed = within(*words[len(PROGRAM) :])
        assert status == 0, (words, printed)
        told += printed
    assert "demo" in "".join(told)
    (key,) = re.findall(r"^  key +(.+) \(mode 0600\)$", welcome, re.MULTILINE)
    assert Path(key).read_text() not in running.text + "".join(told)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = here.start("up", options=("--state-dir", str(folder)))
    assert again.ended() == 2
    assert f"is being served already (process {api_process(folder)}," in again.text
    assert running.stop() == 0
    assert len(running.log) == len(running.out.splitlines()), (
        "standard output is the log, JSON up to its last line"
    )


def test_a_program_that_is_not_there_is_told_with_the_place_where_the_command_was_set(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text('[api.runner]\ncommand = ["/opt/agnet"]\n')
    assert (
        describe_command_fault(load(file, {}))
        == f"every run will fail. [api.runner] command (file {file}): '/opt/agnet' is not there: correct it."
    )
    variables = {"SCHEDULER_API__RUNNER__COMMAND": '["/opt/agent"]'}
    assert "(environment SCHEDULER_API__RUNNER__COMMAND): '/opt/agent' is not there" in str(
        describe_command_fault(load(file, variables))
    )
    file.write_text('[api.runner]\ncommand = ["/bin/cat"]\n')
    assert describe_command_fault(load(file, {})) is None


# ---------------------------------------------------------------- two processes


def api_process(folder: Path) -> int:
    """The process of the embedded API."""
    return int((folder / "api.db.lock").read_text().removeprefix("process "))


def start(here: Place, folder: Path) -> tuple[Running, int]:
    """Both processes, and the number of the API's."""
    running = here.start("up", options=("--state-dir", str(folder)))
    running.told("snapshot.taken")
    return running, api_process(folder)


def test_an_api_that_stands_still_does_not_delay_the_daemon_and_sigterm_ends_both_the_api_last(
    here: Place, folder: Path
) -> None:
    running, api = start(here, folder)
    assert api != running.process.pid
    listen = load(folder / FILE_NAME, {}).settings.server.listen
    assert listen is not None
    os.kill(api, signal.SIGSTOP)
    assert page(listen.port, "/healthz")[0] == 200
    os.kill(api, signal.SIGCONT)
    assert running.stop() == 0
    assert not alive(api)
    assert [line["event"] for line in running.log][-2:] == ["daemon.stopping", "daemon.stopped"]


def test_ctrl_c_which_a_terminal_sends_to_both_ends_both_in_that_order(here: Place, folder: Path) -> None:
    running, api = start(here, folder)
    os.kill(api, signal.SIGINT)
    os.kill(api, signal.SIGHUP)
    assert alive(api)
    running.signal(signal.SIGINT)
    assert running.ended() == 0
    assert not alive(api)


@pytest.mark.parametrize(
    ("number", "api_status", "status"),
    [(signal.SIGKILL, 128 + signal.SIGKILL, 128 + signal.SIGKILL), (signal.SIGTERM, 0, 1)],
)
def test_the_end_of_the_api_ends_the_daemon_with_an_exit_status_that_is_not_0(
    here: Place, folder: Path, number: signal.Signals, api_status: int, status: int
) -> None:
    """An API that somebody else stopped made both end with 0, so that nothing started them again."""
    running, api = start(here, folder)
    os.kill(api, number)
    assert running.ended() == status
    assert (
        running.told("daemon.stopping")["reason"] == f"the embedded API ended with exit status {api_status}"
    )


def test_an_api_that_is_stopped_together_with_the_daemon_ends_both_with_0(here: Place, folder: Path) -> None:
    """A supervisor may send SIGTERM to every process of a service."""
    running, api = start(here, folder)
    running.signal(signal.SIGTERM)
    running.told("daemon.stopping")
    with suppress(ProcessLookupError):
        os.kill(api, signal.SIGTERM)
    assert running.ended() == 0


def test_an_api_that_does_not_stop_is_killed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An API that SIGSTOP had halted kept `up` from ending."""
    monkeypatch.setattr("scheduler.app.api_process.STOP_WITHIN", 0.2)

    async def main() -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec("sleep", "1000", stdin=theirs.fileno())
        process.send_signal(signal.SIGSTOP)
        return await Child(process, ours).stop()

    assert asyncio.run(main()) == 128 + signal.SIGKILL
    assert "the embedded API has not stopped within 0 s; it is killed" in capfd.readouterr().err


def test_nothing_of_the_api_outlives_a_daemon_that_was_killed(here: Place, folder: Path) -> None:
    running, api = start(here, folder)
    running.signal(signal.SIGKILL)
    running.ended()
    until(lambda: not alive(api), "the API to end")
    again, _ = start(here, folder)  # the database and both addresses are free
    assert again.stop() == 0


def test_an_address_of_the_api_that_is_taken_is_told_once_and_ends_both(folder: Path, within: Within) -> None:
    listen = load(prepare_folder(folder), {}).settings.api.listen
    assert listen is not None
    with socket.create_server((listen.host, listen.port)):
        told = within("up", "--state-dir", str(folder))
    error = (
        f"error: cannot listen on {listen} ([api] listen): another program listens there already; "
        "stop it, or choose another port\n"
    )
    assert told == (2, "", error)


def test_a_daemon_that_cannot_start_leaves_no_api_behind(folder: Path, within: Within) -> None:
    listen = load(prepare_folder(folder), {}).settings.server.listen
    assert listen is not None
    with socket.create_server((listen.host, listen.port)):
        status, _, err = within("up", "--state-dir", str(folder))
    assert status == 2
    assert f"cannot listen on {listen} ([server] listen)" in err
    ServerLock.acquire(folder / "api.db").release()  # no server has the database
