"""The checks of the ledger, of the daemon and of the embedded API."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.doctor.checks import embedded
from scheduler.doctor.facts import DiskFacts, Facts, FileFacts, ProcessFacts, StorageFacts, UnknownFact
from scheduler.doctor.findings import Status
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget
from scheduler.settings.load import Configuration
from tests.doctor.support import (
    DISK,
    EMBEDDED,
    FILE,
    HEALTHY,
    LEDGER,
    LEDGER_FACTS,
    NOW,
    RECORD,
    TARGET,
    configured,
    daemon,
    file,
    ledger,
    record,
    settings,
)
from tests.doctor.variants import (
    FAULT,
    FILE_OF_LEDGER,
    MAIN,
    NOTICE,
    WARNING,
    Case,
    expect_only,
    told,
    with_ids,
)

CASES: Mapping[str, Sequence[Case]] = {
    "ledger": [
        (
            "hangs",
            replace(HEALTHY, ledger=UnknownFact("nothing came of it within 60 s")),
            FAULT,
            FILE_OF_LEDGER,
            "within 60 s",
        ),
        (
            "no database",
            ledger(error=f"{LEDGER}: file is not a database; something has overwritten it", record=None),
            FAULT,
            FILE_OF_LEDGER,
            "file is not a database",
        ),
        (
            "gone",
            ledger(files=(), holder=None, lock_text="", record=None),
            FAULT,
            FILE_OF_LEDGER,
            "but a daemon runs",
        ),
        (
            "of another program",
            ledger(application_id=1, record=None),
            FAULT,
            FILE_OF_LEDGER,
            "another program",
        ),
        ("newer", ledger(version=99, record=None), FAULT, FILE_OF_LEDGER, "schema 99"),
        ("older", ledger(version=1), WARNING, FILE_OF_LEDGER, "schema 1"),
        (
            "damaged",
            ledger(damage=("row 5 missing from index",), record=None),
            FAULT,
            FILE_OF_LEDGER,
            "row 5 missing",
        ),
        ("large", ledger(damage=None), NOTICE, FILE_OF_LEDGER, "too large to be checked"),
        ("without a log", ledger(has_wal=False), WARNING, FILE_OF_LEDGER, "no write-ahead log"),
        (
            "root's log",
            ledger(files=(*LEDGER_FACTS.files[:1], file(f"{LEDGER}-wal", uid=0))),
            FAULT,
            f"{LEDGER}-wal",
            "it is root's and the ledger scheduler's",
        ),
        (
            "for all to write",
            ledger(files=(file(LEDGER, mode=0o666, size=1),)),
            WARNING,
            FILE_OF_LEDGER,
            "mode 0666",
        ),
        ("not to be written", ledger(writable=False), FAULT, FILE_OF_LEDGER, "may not write"),
        ("afar", ledger(filesystem="nfs4"), FAULT, FILE_OF_LEDGER, "nfs4"),
        ("full", ledger(free=10 * 2**20), FAULT, FILE_OF_LEDGER, "10 MiB left"),
        ("tight", ledger(free=100 * 2**20), WARNING, FILE_OF_LEDGER, "100 MiB left"),
        (
            "growing",
            ledger(free=2**30, record=replace(RECORD, recent=70_000_000)),
            WARNING,
            FILE_OF_LEDGER,
            "it will grow by",
        ),
        ("killed", ledger(holder=None), NOTICE, FILE_OF_LEDGER, "ended without releasing it"),
        (
            "renamed",
            record(targets=(LedgerTarget("old", TARGET["url"], "1", NOW),)),
            FAULT,
            MAIN,
            "the ledger knows this project as old",
        ),
        (
            "moved",
            record(targets=(LedgerTarget("main", "https://elsewhere.example.org", "7", NOW),)),
            FAULT,
            MAIN,
            "the ledger has it as https://elsewhere.example.org, project 7",
        ),
    ],
    "daemon": [
        (
            "not ready",
            daemon(ready=False, missing=["target main is held: check the key"]),
            FAULT,
            "node vm",
            "not ready: target main is held",
        ),
        ("another version", daemon(version="1.0.0"), WARNING, "node vm", "it runs version 1.0.0"),
        (
            "disappeared",
            daemon(
                targets=[
                    {
                        "name": "main",
                        "url": "https://api.example.org",
                        "project_id": "1",
                        "disappeared": {"at": "2026-11-23T19:20:00Z", "count": 6, "automations": 10},
                    }
                ]
            ),
            WARNING,
            "target main",
            "6 of 10 automations disappeared from its list within an hour, at 2026-11-23T19:20:00Z",
        ),
        (
            "inconsistent",
            daemon(
                targets=[
                    {
                        "name": "main",
                        "url": "https://api.example.org",
                        "project_id": "1",
                        "inconsistent": {"since": "2026-11-23T19:20:00Z", "reason": "its count is wrong"},
                    }
                ]
            ),
            WARNING,
            "target main",
            "its list cannot be trusted since 2026-11-23T19:20:00Z: its count is wrong",
        ),
        (
            "throttled",
            daemon(
                targets=[
                    {
                        "name": "main",
                        "url": "https://api.example.org",
                        "project_id": "1",
                        "throttled_until": "2026-11-23T19:20:00Z",
                    }
                ]
            ),
            WARNING,
            "target main",
            "nothing is sent until 2026-11-23T19:20:00Z: the API answered 429 and asked for this wait",
        ),
        (
            "other targets",
            daemon(targets=[{"name": "b", "url": "https://b", "project_id": "2"}]),
            WARNING,
            "node vm",
            "it serves b",
        ),
        (
            "none, and none before",
            replace(ledger(holder=None, lock_text="", record=LedgerRecord()), daemon=UnknownFact("refused")),
            NOTICE,
            "daemon",
            "no daemon runs: nothing is fired",
        ),
        (
            "stopped",
            replace(ledger(holder=None, lock_text=""), daemon=UnknownFact("refused")),
            WARNING,
            "daemon",
            "no daemon runs, but one has run before: nothing is fired",
        ),
        (
            "silent",
            replace(HEALTHY, daemon=UnknownFact("refused")),
            WARNING,
            "daemon",
            "process 123 has the ledger",
        ),
        (
            "stopped by a signal",
            replace(
                HEALTHY,
                daemon=UnknownFact("timed out"),
                server="silent",
                daemon_process=ProcessFacts(123, is_stopped=True),
            ),
            FAULT,
            "daemon",
            (
                "the daemon, process 123, accepts connections and does not answer; its newest reading "
                "on record is of 2026-11-23T19:20:10Z"
            ),
        ),
    ],
    "embedded api": [
        (
            "hangs",
            replace(HEALTHY, embedded_server="silent", embedded_process=ProcessFacts(7)),
            FAULT,
            "127.0.0.1:8040",
            (
                "the embedded API, process 7, accepts connections and does not answer: it hangs, or has "
                "too much to do"
            ),
        ),
        (
            "no agent",
            replace(
                HEALTHY,
                embedded=replace(EMBEDDED, program=None),
                configuration=Configuration(settings(api={"runner": {"command": ["agnet"]}}), FILE, {}),
            ),
            FAULT,
            "api.runner.command",
            "agnet is not in the PATH of the server, process 7",
        ),
        (
            "an agent at no such path",
            configured(
                settings(api={"runner": {"command": ["/opt/agnet"]}}),
                embedded=replace(EMBEDDED, program=None),
            ),
            FAULT,
            "api.runner.command",
            "/opt/agnet is not there",
        ),
        (
            "an agent that cannot start",
            configured(
                settings(api={"runner": {"command": ["/opt/agent"]}}),
                embedded=replace(EMBEDDED, program_fault="The first line of '/opt/agent' ends with CR LF."),
            ),
            FAULT,
            "api.runner.command",
            "/opt/agent cannot start",
        ),
        (
            "an agent where nothing is",
            configured(settings(api={"runner": {"command": ["./agent"]}})),
            FAULT,
            "api.runner.command",
            "./agent is looked for in each run's working directory, which is empty",
        ),
        (
            "an agent in the clone",
            configured(
                settings(api={"runner": {"command": ["./agent"], "clone_url": "https://h/{repository}"}})
            ),
            NOTICE,
            "api.runner.command",
            "./agent is looked for in each run's clone",
        ),
        (
            "a variable that the server lacks",
            replace(HEALTHY, embedded=replace(EMBEDDED, unset_variables=("LANG", "AGENT_KEY"))),
            WARNING,
            "api.runner.environment",
            "the server, process 7 does not have AGENT_KEY: runs do not get it",
        ),
        (
            "prompts for all to read",
            replace(
                HEALTHY,
                embedded=replace(
                    EMBEDDED, database=file("/var/lib/scheduler-api/api.db", mode=0o644, uid=991)
                ),
            ),
            WARNING,
            "/var/lib/scheduler/api.db",
            "mode 0644",
        ),
        (
            "root's folder",
            replace(
                HEALTHY, embedded=replace(EMBEDDED, folder=file("/var/lib/scheduler-api", mode=0o755, uid=0))
            ),
            FAULT,
            "/var/lib/scheduler/api.db",
            "may not write in its folder",
        ),
        (
            "no command",
            configured(settings(api={"runner": {}})),
            WARNING,
            "api.runner.command",
            "there is no command",
        ),
        (
            "no git",
            configured(
                settings(api={"runner": {"command": ["agent"], "clone_url": "https://h/{repository}"}}),
                embedded=replace(EMBEDDED, git=None),
            ),
            FAULT,
            "api.runner.clone_url",
            "no git",
        ),
        (
            "full disk",
            replace(HEALTHY, embedded=replace(EMBEDDED, disk=replace(DISK, free=2**20))),
            FAULT,
            "/var/lib/scheduler-api/api.db",
            "its disk has 1.0 MiB left; on a full disk every request that writes is answered with 503",
        ),
        (
            "disk nearly full",
            replace(HEALTHY, embedded=replace(EMBEDDED, disk=replace(DISK, free=200 * 2**20))),
            WARNING,
            "/var/lib/scheduler-api/api.db",
            "its disk has 200 MiB left",
        ),
        (
            "full disk of the runs",
            replace(
                HEALTHY, embedded=replace(EMBEDDED, runs_disk=DiskFacts(Path("/runs"), 2, 2**20, "ext4"))
            ),
            FAULT,
            "/runs",
            "its disk has 1.0 MiB left; on a full disk runs fail",
        ),
        (
            "network disk",
            replace(HEALTHY, embedded=replace(EMBEDDED, disk=replace(DISK, filesystem="nfs4"))),
            FAULT,
            "/var/lib/scheduler-api/api.db",
            "it lies on nfs4",
        ),
        (
            "unhealthy server",
            replace(HEALTHY, embedded_health={"database": False, "runner": True}),
            FAULT,
            "127.0.0.1:8040",
            "the server says that its database does not work",
        ),
        (
            "a queue that outlasts run_timeout",
            configured(settings(api={"runner": {"command": ["agent"], "queue_timeout": "1d"}})),
            WARNING,
            "api.runner.queue_timeout",
            "a run may end 1d1h5m after its start was accepted, and counts as lost after 1d",
        ),
        (
            "sizes unknown",
            replace(HEALTHY, embedded_storage=UnknownFact("permission denied")),
            NOTICE,
            "/var/lib/scheduler/api.db",
            "the disk usage of the runs could not be measured: permission denied",
        ),
    ],
}


@pytest.mark.parametrize(("check", "facts", "status", "subject", "words"), with_ids(CASES))
def test_what_is_wrong_is_found_and_nothing_else(
    check: str, facts: Facts, status: Status, subject: str, words: str
) -> None:
    expect_only(check, facts, status, subject, words)


@pytest.mark.parametrize("files", [(), (file(LEDGER, size=0),)], ids=["absent", "empty"])
def test_a_ledger_that_is_not_there_yet_is_no_fault_before_the_first_start(
    files: Sequence[FileFacts],
) -> None:
    facts = replace(
        ledger(files=files, holder=None, lock_text="", record=None), daemon=UnknownFact("refused")
    )
    assert [(each.check, each.status) for each in told(facts)] == [("ledger", NOTICE), ("daemon", NOTICE)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"folder": None}, "nor its folder"), ({"writable": False}, "may not write in its folder")],
)
def test_a_ledger_that_cannot_be_made_is_a_fault(changes: dict[str, Any], words: str) -> None:
    facts = replace(
        ledger(files=(), holder=None, lock_text="", record=None, **changes), daemon=UnknownFact("refused")
    )
    (found,) = [each for each in told(facts) if each.status is FAULT]
    assert words in found.finding


@pytest.mark.parametrize(("measured", "end"), [(3, ""), (2, "; at least: the time was enough for 2 of them")])
def test_what_the_embedded_api_takes_on_disk_is_told(measured: int, end: str) -> None:
    facts = replace(HEALTHY, embedded_storage=StorageFacts(5 * 2**20, 3 * 2**10, 2**30, 3, measured))
    told = [each.finding for each in embedded.check(facts) if each.status is Status.OK]
    assert (
        f"it takes 5.0 MiB; the folders of 3 runs: outputs 3.0 KiB, working directories 1.0 GiB{end}" in told
    )


def test_since_when_the_embedded_api_does_not_answer_is_told_by_the_daemon_that_reads_it() -> None:
    made = configured(
        settings({**TARGET, "url": "http://127.0.0.1:8040"}),
        embedded_server="silent",
        embedded_process=ProcessFacts(7),
    )
    (finding,) = [each for each in told(made) if each.check == "embedded api" and each.status is FAULT]
    assert "; the daemon read it last at 2026-11-23T19:20:10.000000Z: it hangs" in finding.finding
