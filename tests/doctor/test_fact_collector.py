"""Facts are gathered beside each other, and one that hangs or fails takes none with it."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler.app.settings_mapping import make_upstream_config
from scheduler.cli.daemon_client import fetch_page_at
from scheduler.clock import SystemClock
from scheduler.core.errors import Unreachable
from scheduler.doctor.checks import embedded
from scheduler.doctor.fact_collector import Installation, collect_facts
from scheduler.doctor.facts import EmbeddedFacts, Facts, LedgerFacts, ProcessFacts, StorageFacts, UnknownFact
from scheduler.doctor.findings import Status
from scheduler.doctor.probes.host import find_process
from scheduler.localapi.runner.workspace import Workspace
from scheduler.settings.addresses import SocketAddress
from scheduler.settings.load import Configuration, load
from tests.doctor.support import file, program, serving, settings
from tests.fault_server import Visit, always, fault_server, response, until
from tests.ports import free_port

KEY = "phx_" + "k" * 43
PAGE = response(200, {"count": 0, "next": None, "previous": None, "results": []})


def nobody(listen: SocketAddress, path: str) -> object:
    raise Unreachable(f"no daemon answers at {listen}{path}")


async def looked(path: Path, _: datetime) -> LedgerFacts:
    return LedgerFacts(path=path)


def installation(*targets: dict[str, Any], **changes: Any) -> Installation:
    environ = {"POSTHOG_PERSONAL_API_KEY": KEY}
    listen = {
        "server": {"listen": f"127.0.0.1:{free_port()}"},
        "api": {"listen": "", "database": "sqlite:////nonexistent/api.db"},
    }
    made: dict[str, Any] = {
        "version": "1.2.3",
        "configuration": Configuration(settings(*targets, **listen), None, {}),
        "environ": environ,
        "clock": SystemClock(),
        "make_config": lambda target: make_upstream_config(target, environ),
        "probe_ledger": looked,
        "fetch_page": nobody,
    }
    return Installation(**made | changes)


def of(url: str, name: str = "main") -> dict[str, Any]:
    return {"name": name, "url": url, "project_id": "1"}


def facts_of(*targets: str, patience: float = 5.0, **changes: Any) -> Facts:
    made = installation(*(of(url, f"t{number}") for number, url in enumerate(targets)), **changes)
    return asyncio.run(collect_facts(made, patience=patience))


def test_an_api_that_hangs_keeps_neither_the_others_nor_the_doctor() -> None:
    async def main() -> Facts:
        async with fault_server(Visit.hang) as hanging, fault_server(always(PAGE)) as sound:
            made = installation(of(hanging.url, "hanging"), of(sound.url, "sound"))
            return await collect_facts(made, patience=3.0)

    hanging, sound = asyncio.run(main()).targets
    assert hanging.api == UnknownFact("nothing came of it within 3 s")
    assert sound.snapshot is not None


def test_a_ledger_that_hangs_is_given_up() -> None:
    async def hang(_: Path, __: datetime) -> LedgerFacts:
        await asyncio.Event().wait()
        raise AssertionError

    assert facts_of(f"http://127.0.0.1:{free_port()}", probe_ledger=hang, patience=0.2).ledger == UnknownFact(
        "nothing came of it within 0.2 s"
    )


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set in the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_page_that_hangs_is_given_up_and_not_waited_for_at_the_end(released: threading.Event) -> None:
    threads: list[threading.Thread] = []

    def hang(_: SocketAddress, __: str) -> object:
        threads.append(threading.current_thread())
        return released.wait()

    assert isinstance(
        facts_of(f"http://127.0.0.1:{free_port()}", fetch_page=hang, patience=0.2).daemon, UnknownFact
    )
    assert threads
    assert all(each.daemon for each in threads)  # which no interpreter waits for


def test_a_key_on_a_disk_that_hangs_is_given_up(released: threading.Event) -> None:
    def hang(_: object) -> object:
        return released.wait()

    (target,) = facts_of(f"http://127.0.0.1:{free_port()}", make_config=hang, patience=0.2).targets
    assert target.key.error == "nothing came of it within 0.2 s"


def test_whatever_a_part_raises_is_told_as_what_is_not_known() -> None:
    async def fail(_: Path, __: datetime) -> LedgerFacts:
        raise ZeroDivisionError("oh")

    facts = facts_of(f"http://127.0.0.1:{free_port()}", probe_ledger=fail)
    assert facts.ledger == UnknownFact("oh")
    assert isinstance(facts.daemon, UnknownFact)


def test_what_cannot_be_connected_to_is_not_asked() -> None:
    (target,) = facts_of(f"http://127.0.0.1:{free_port()}").targets
    assert target.api == UnknownFact("it cannot be reached")


def test_a_missing_key_is_told_and_nothing_is_sent() -> None:
    async def main() -> Facts:
        async with fault_server(always(PAGE)) as server:
            facts = await collect_facts(
                installation(
                    of(server.url), make_config=lambda target: make_upstream_config(target, {}), environ={}
                )
            )
            assert server.received == []
            return facts

    (target,) = asyncio.run(main()).targets
    assert target.key.place is None
    assert target.key.error is not None
    assert target.api == UnknownFact("there is no key to ask with")


def test_of_the_key_no_more_is_kept_than_what_kind_it_is() -> None:
    (target,) = facts_of(f"http://127.0.0.1:{free_port()}").targets
    assert target.key.kind == "phx_"
    assert KEY not in repr(target)


def test_a_key_in_the_configurations_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.toml"
    path.write_text(f"# the key is {KEY}\n")
    configuration = Configuration(settings(of(f"http://127.0.0.1:{free_port()}")), path, {})
    assert asyncio.run(collect_facts(installation(configuration=configuration))).holds_key


def test_progress_ends_with_all_of_it() -> None:
    told: list[float] = []
    asyncio.run(collect_facts(installation(of(f"http://127.0.0.1:{free_port()}")), told.append))
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "allowed"),
    [
        (0o600, 990, 990, True),
        (0o600, 7, 990, False),
        (0o640, 7, 990, True),
        (0o604, 7, 7, True),
        (0o000, 0, 0, True),
        (0o077, 990, 990, False),
    ],
)
def test_who_may_read_a_file_is_told_by_its_mode(mode: int, uid: int, gid: int, allowed: bool) -> None:
    assert file("/key", mode=mode).is_accessible(uid, gid, 4) is allowed


def test_the_address_of_the_daemon_is_taken_by_somebody_else() -> None:
    async def main() -> Facts:
        async with fault_server(always(b"SSH-2.0\r\n")) as server:
            made = settings(of("http://127.0.0.1:1"), server={"listen": f"127.0.0.1:{server.port}"})
            return await collect_facts(installation(configuration=Configuration(made, None, {})))

    assert asyncio.run(main()).server == "somebody"


def test_a_server_that_accepts_connections_and_does_not_answer_is_told_with_its_process(
    tmp_path: Path,
) -> None:
    async def hang(visit: Visit) -> None:
        await visit.hang()

    async def ask() -> Facts:
        async with fault_server(hang) as server:
            database = tmp_path / "api.db"
            database.touch()
            listen = {
                "server": {"listen": ""},
                "api": {"listen": f"127.0.0.1:{server.port}", "database": f"sqlite:///{database}"},
            }
            made = installation(
                configuration=Configuration(settings(**listen), None, {}),
                fetch_page=partial(fetch_page_at, patience=0.2),
            )
            with serving(database) as process:
                os.kill(process, signal.SIGSTOP)
                try:
                    await until(lambda: find_process(database) == ProcessFacts(process, is_stopped=True))
                    return await collect_facts(made, patience=5.0)
                finally:
                    os.kill(process, signal.SIGCONT)

    facts = asyncio.run(ask())
    assert facts.embedded_server == "silent"
    assert isinstance(facts.embedded_process, ProcessFacts)
    assert facts.embedded_process.is_stopped
    (finding,) = [each for each in embedded.check(facts) if "does not answer" in each.finding]
    assert (finding.status, finding.advice) == (
        Status.FAULT,
        f"find out who stopped it, and let it go on: `kill -CONT {facts.embedded_process.id}`",
    )


def test_a_server_of_ours_that_is_unhealthy_says_which_part_does_not_work() -> None:
    async def main() -> Facts:
        async with fault_server(always(response(503, {"database": False, "runner": True}))) as api:
            address = api.url.removeprefix("http://")
            listen = {
                "server": {"listen": ""},
                "api": {"listen": address, "database": "sqlite:////nonexistent/api.db"},
            }
            return await collect_facts(
                installation(
                    configuration=Configuration(settings(**listen), None, {}), fetch_page=fetch_page_at
                ),
                patience=5.0,
            )

    facts = asyncio.run(main())
    assert facts.embedded_server == "scheduler"
    assert facts.embedded_health == {"database": False, "runner": True}


def test_what_the_embedded_api_keeps_is_measured(tmp_path: Path) -> None:
    (tmp_path / "api.db").write_bytes(bytes(5000))
    (tmp_path / "api.db-wal").write_bytes(bytes(3000))
    workspace = Workspace(tmp_path / "api.db.runs" / "3f2b8c1e-6a54-4b0e-8a53-0c1d2e3f4a5b")
    workspace.prepare("p")
    (workspace.work / "file").write_bytes(bytes(2**20))
    (tmp_path / "api.db.runs" / "notes").mkdir()
    made = settings(server={"listen": ""}, api={"database": f"sqlite:///{tmp_path}/api.db", "listen": ""})
    kept = asyncio.run(
        collect_facts(installation(configuration=Configuration(made, None, {})))
    ).embedded_storage
    assert isinstance(kept, StorageFacts)
    assert (kept.database, kept.runs, kept.measured_runs) == (8000, 1, 1)
    assert 2**20 <= kept.clones < 2**20 + 2**15
    assert 0 < kept.outputs < 2**15


def test_an_agent_that_is_there_and_cannot_start_is_explained(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_bytes(b"#!/bin/sh\r\n")
    agent.chmod(0o700)
    (tmp_path / "api.db").touch()
    api = {"listen": "", "database": f"sqlite:///{tmp_path / 'api.db'}", "runner": {"command": [str(agent)]}}
    facts = asyncio.run(
        collect_facts(
            installation(configuration=Configuration(settings(server={"listen": ""}, api=api), None, {}))
        )
    )
    assert isinstance(facts.embedded, EmbeddedFacts)
    assert facts.embedded.program == str(agent)
    assert "ends with CR LF" in str(facts.embedded.program_fault)


def test_the_settings_of_a_server_that_does_not_run_are_those_of_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, configuration = program(tmp_path / "unit", "agent"), tmp_path / "scheduler.toml"
    shown = f"""LoadState=loaded
ExecStart={{ argv[]=/opt/s/bin/scheduler serve --config {configuration} ; ignore_errors=no }}
Environment=PATH={agent.parent} SCHEDULER_API__RUNNER__COMMAND=[\\"agent\\"]
Environment=SCHEDULER_API__RUNNER__ENVIRONMENT=[\\"PATH\\",\\"KEY\\"]
"""
    (tmp_path / "shown").write_text(shown)
    systemctl = program(tmp_path / "bin", "systemctl", f"exec cat {tmp_path}/shown")
    monkeypatch.setenv("PATH", f"{systemctl.parent}:/usr/bin:/bin")
    configuration.write_text(
        f'server.listen = ""\n[api]\nlisten = ""\ndatabase = "sqlite:///{tmp_path}/api.db"\n'
    )
    (tmp_path / "api.db").touch(0o600)
    facts = asyncio.run(collect_facts(installation(configuration=load(configuration, {}))))
    found = {finding.subject: finding for finding in embedded.check(facts)}
    assert found["api.runner.command"].finding == f"{agent} is there, for the unit scheduler-api.service"
    assert (
        found["api.runner.environment"].advice == "set it for the server, see docs/agents.md; or take it out"
    )
    assert found["api.runner"].advice.startswith(
        "nothing: `check` judges the settings of the unit scheduler-api.service"
    )


COMMAND = "SCHEDULER_API__RUNNER__COMMAND"


def find_embedded(tmp_path: Path, ours: dict[str, str], server: dict[str, str]) -> list[tuple[str, str]]:
    """Return status and text of the findings about the runner, beside a server with other variables than
    ours.
    """
    configuration = tmp_path / "scheduler.toml"
    configuration.write_text(f"""
        server.listen = ""
        [api]
        listen = ""
        database = "sqlite:///{tmp_path}/api.db"
        [api.runner]
        command = ["cat"]
    """)
    (tmp_path / "api.db").touch(0o600)
    examined = installation(configuration=load(configuration, ours), environ=ours)
    with serving(tmp_path / "api.db", PATH=str(tmp_path / "server"), **server) as process:
        findings = list(embedded.check(asyncio.run(collect_facts(examined))))
    return [
        (finding.status, finding.finding.replace(f"the server, process {process}", "the server"))
        for finding in findings
        if finding.subject.startswith("api.runner")
    ]


def test_the_command_is_that_of_the_running_server(tmp_path: Path) -> None:
    agent = program(tmp_path / "server", "agent")
    theirs = {
        COMMAND: '["agent", "s3cret"]',
        "SCHEDULER_API__RUNNER__CLONE_URL": "https://host/{repository}",
        "SCHEDULER_API__RUNNER__ENVIRONMENT": '["PATH", "AGENT_KEY"]',
    }
    names = f"SCHEDULER_API__RUNNER__CLONE_URL, {COMMAND}, SCHEDULER_API__RUNNER__ENVIRONMENT"
    findings = find_embedded(tmp_path, {"PATH": "/usr/bin:/bin"}, theirs)
    assert findings == [
        ("notice", f"the server has other settings than this command, which come from {names}"),
        ("ok", f"{agent} is there, for the server"),
        ("fault", "there is no git in the PATH of the server: every run fails"),
        ("warning", "the server does not have AGENT_KEY: runs do not get it"),
    ]


def test_a_command_in_our_environment_is_not_that_of_the_running_server(tmp_path: Path) -> None:
    cat = program(tmp_path / "server", "cat")
    findings = find_embedded(tmp_path, {COMMAND: '["agent"]'}, {})
    assert [status for status, _ in findings] == ["notice", "ok"]
    assert findings[0][1].endswith(f"come from {COMMAND}")
    assert findings[1][1] == f"{cat} is there, for the server"


def test_settings_that_are_alike_are_no_finding_and_mistakes_of_the_server_are(tmp_path: Path) -> None:
    cat = program(tmp_path / "server", "cat")
    fine = ("ok", f"{cat} is there, for the server")
    assert find_embedded(tmp_path, {COMMAND: '["cat"]'}, {}) == [fine]
    mistake = (
        f"the configuration has mistakes with the variables of the server: environment {COMMAND}: "
        "api.runner.command"
    )
    assert find_embedded(tmp_path, {}, {COMMAND: "s3cret"}) == [("warning", mistake), fine]
