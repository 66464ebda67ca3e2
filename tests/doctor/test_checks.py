"""One thing is wrong at a time: it is found, named, told what to do about, and nothing else is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.model import InvalidAutomation, RunStatus
from scheduler.core.status import FailingAutomations, FinishedRun, ForeignRunTally
from scheduler.doctor.checks import CHECKS, embedded, run_checks
from scheduler.doctor.checks.configuration import check
from scheduler.doctor.facts import (
    DiskFacts,
    Facts,
    FileFacts,
    KeyFacts,
    LedgerFacts,
    ProcessFacts,
    Refusal,
    StorageFacts,
    UnknownFact,
    ZoneFacts,
)
from scheduler.doctor.findings import CheckFinding, Status
from scheduler.ledger.automations import AutomationRow
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget
from scheduler.settings import Configuration, Origin, Problem, Settings
from scheduler.settings.keys import KeyPlace
from tests.counting import count_lines
from tests.doctor.support import (
    API,
    DISK,
    EMBEDDED,
    FILE,
    HEALTHY,
    ID,
    KEY,
    LEDGER,
    LEDGER_FACTS,
    NOW,
    RECORD,
    STATUS,
    TARGET,
    WAY,
    ZONES,
    api,
    automation,
    configured,
    daemon,
    file,
    ledger,
    numbered,
    record,
    settings,
    snapshot,
    target,
    way,
)

ONE = HEALTHY.targets[0]


def told(facts: Facts) -> list[CheckFinding]:
    """Whatever is not well."""
    return [each for each in run_checks(facts) if each.status is not Status.OK]


def test_of_a_healthy_installation_every_check_says_that_all_is_well() -> None:
    assert told(HEALTHY) == []
    assert [each.check for each in run_checks(HEALTHY)] == sorted(
        (each.check for each in run_checks(HEALTHY)), key=[name for name, _ in CHECKS].index
    )
    assert {each.check for each in run_checks(HEALTHY)} == {name for name, _ in CHECKS}


def test_a_proxy_whose_password_is_in_a_file_for_few_is_no_finding() -> None:
    facts = replace(behind_a_proxy(0o640), environment={"HTTPS_PROXY": "http://other"})
    assert told(facts) == []


def scheduled(cron: str, **more: Any) -> Facts:
    return api(snapshot=snapshot(automation(cron=cron, **more)))


def many(count: int, cron: str = "0 3 * * *") -> Facts:
    return api(
        snapshot=snapshot(*(automation(number, cron=cron, name=f"a{number}") for number in range(count)))
    )


def under(facts: Facts, new: Settings) -> Facts:
    """These facts under other settings of the same target."""
    changed = tuple(replace(each, settings=new.targets[0]) for each in facts.targets)
    return replace(facts, configuration=Configuration(new, FILE, {}), targets=changed)


def limited(facts: Facts, **limits: Any) -> Facts:
    return under(facts, settings({**TARGET, **limits}))


def at_the_cloud(**limits: Any) -> Facts:
    url = "https://us.posthog.com"
    facts = limited(record(targets=(LedgerTarget("main", url, "1", NOW),)), url=url, **limits)
    return replace(facts, daemon=daemon_of(facts))


def keyless(error: str, place: KeyPlace | None = None, **changes: Any) -> Facts:
    made = target(key=KeyFacts(place, error=error), api=UnknownFact("there is no key to ask with"))
    return replace(made, **changes)


def behind_a_proxy(mode: int) -> Facts:
    """All is well, by a proxy whose password stands in a file of this mode."""
    facts = under(HEALTHY, settings({**TARGET, "proxy": "http://me:s3cret@proxy:3128"}))
    configuration = Configuration(facts.settings, FILE, {("target", 0, "proxy"): Origin("file", str(FILE))})
    return replace(facts, configuration=configuration, file=file(FILE, mode=mode))


def two_of_one_project() -> Facts:
    other = {**TARGET, "name": "other", "url": "https://same.example.org"}
    facts = configured(settings(TARGET, other))
    return replace(facts, daemon=daemon_of(facts))


def daemon_of(facts: Facts) -> dict[str, Any]:
    assert not isinstance(HEALTHY.daemon, UnknownFact)
    listed: Any = HEALTHY.daemon["targets"]
    return {
        **HEALTHY.daemon,
        "targets": [{**listed[0], "name": each.name, "url": each.url} for each in facts.settings.targets],
    }


def ran_by_itself(cron: str, at: datetime, **changes: Any) -> Facts:
    return replace(scheduled(cron, run_id="run-1", run_at=at), **changes)


WEEK_AGO = NOW - timedelta(days=3)
FOREIGN = ForeignRunTally("main", ID, "nightly", 2, 0, WEEK_AGO)
NOT_FOUND = Refusal(
    "GET https://… answered HTTP 404: Not found.; check the url and the project_id of target main",
    404,
    held=True,
)
SCOPE = "answered HTTP 403: API key missing required scope 'task:{}'; give the key of target main that scope"

MAIN, NIGHTLY, FILE_OF_LEDGER = "target main", f"automation nightly ({ID})", str(LEDGER)
FAULT, WARNING, NOTICE = Status.FAULT, Status.WARNING, Status.NOTICE
CASES: Mapping[str, Sequence[tuple[str, Facts, Status, str, str]]] = {
    "configuration": [
        (
            "a mistake",
            replace(HEALTHY, problems=[Problem("file x: a.b", "is no known setting", "did you mean c?")]),
            FAULT,
            "file x: a.b",
            "is no known setting",
        ),
        (
            "a variable",
            replace(
                HEALTHY,
                configuration=Configuration(
                    settings(), FILE, {("log", "level"): Origin("environment", "SCHEDULER_LOG__LEVEL")}
                ),
            ),
            NOTICE,
            "environment",
            "SCHEDULER_LOG__LEVEL",
        ),
        (
            "a relative path",
            configured(settings(ledger={"url": "sqlite:///scheduler.db"})),
            NOTICE,
            "ledger.url",
            "working directory",
        ),
        (
            "drains for long",
            configured(settings(daemon={"drain_timeout": "2m"})),
            NOTICE,
            "daemon.drain_timeout",
            "2m is longer than the default wait",
        ),
        (
            "settles soon",
            configured(settings(schedule={"settle_time": "2s"})),
            WARNING,
            "schedule.settle_time",
            "2s is too short",
        ),
        (
            "is stale soon",
            configured(settings(schedule={"stale_limit": "1m"})),
            WARNING,
            "schedule.stale_limit",
            "before 3 polls can fail",
        ),
        (
            "expires soon",
            configured(settings(schedule={"start_within": "45s"})),
            NOTICE,
            "schedule.start_within",
            "45s is over before an unknown attempt is reconciled, after 1m",
        ),
        (
            "is sent again after the API has forgotten",
            configured(settings({**TARGET, "idempotent": True}, schedule={"start_within": "8d"})),
            WARNING,
            "schedule.start_within",
            "8d is longer than the API keeps an answer for its Idempotency-Key, 7d",
        ),
        (
            "an override of nothing",
            configured(settings(override=[{"automation": "nigthly", "paused": True}])),
            WARNING,
            "override[0]",
            "matches no automation",
        ),
        (
            "an override in the shadow",
            configured(
                settings(
                    override=[
                        {"automation": "night*", "start_within": "2m"},
                        {"automation": ID, "start_within": "3m"},
                    ]
                )
            ),
            WARNING,
            "override[1]",
            "has no effect",
        ),
    ],
    "key": [
        (
            "no key",
            keyless(
                "target main: no key; key_file is not set, and there is neither…; set one of the three",
                daemon={**STATUS, "targets": []},
            ),
            FAULT,
            MAIN,
            "no key; key_file is not set",
        ),
        (
            "a key of the unit's",
            keyless("target main: no key; …; set one of the three"),
            NOTICE,
            MAIN,
            "the running daemon has one that works",
        ),
        (
            "a key for all to read",
            target(key=replace(KEY, file=file("/etc/scheduler/key", mode=0o644))),
            WARNING,
            MAIN,
            "mode 0644",
        ),
        (
            "a key of root's",
            target(key=replace(KEY, file=file("/etc/scheduler/key", uid=0))),
            WARNING,
            MAIN,
            "scheduler, who has the ledger, may not read the file /etc/scheduler/key of root",
        ),
        ("another kind of key", target(key=replace(KEY, kind="phc_")), FAULT, MAIN, "a project's public key"),
        (
            "a proxy's password for everybody",
            behind_a_proxy(0o644),
            WARNING,
            str(FILE),
            "may read the password of the proxy of target main",
        ),
        (
            "a key in the file",
            replace(HEALTHY, holds_key=True),
            FAULT,
            str(FILE),
            "seems to hold a key",
        ),
    ],
    "reachability": [
        (
            "trust from outside",
            replace(HEALTHY, environment={"SSL_CERT_FILE": "/ca.pem"}),
            NOTICE,
            "environment",
            "SSL_CERT_FILE",
        ),
        (
            "a proxy",
            replace(HEALTHY, environment={"HTTPS_PROXY": "http://user:secret@proxy"}),
            NOTICE,
            "environment",
            "HTTPS_PROXY has no effect",
        ),
        (
            "in the clear by a proxy",
            way(tls=False, host="127.0.0.1", proxy="http://proxy:3128", expires=None),
            WARNING,
            MAIN,
            "sent to 127.0.0.1 without TLS",
        ),
        ("in the clear", way(tls=False, expires=None), WARNING, MAIN, "without TLS"),
        (
            "ends soon",
            way(expires=NOW + timedelta(days=13)),
            WARNING,
            MAIN,
            "by An Authority, ends at 2026-12-06T19:20:30Z",
        ),
        ("slow", api(slowest_seconds=16.0), WARNING, MAIN, "took 16.0 s of the 30 s allowed"),
    ],
    "scopes": [
        (
            "may not write",
            api(may_write=False, write_refusal=Refusal(SCOPE.format("write"), 403, held=True)),
            FAULT,
            MAIN,
            "may not start runs",
        ),
        (
            "may write?",
            api(may_write=None, write_refusal=Refusal("answered HTTP 500", 500)),
            WARNING,
            MAIN,
            "unknown whether the key may start runs: answered HTTP 500",
        ),
    ],
    "clock": [
        ("a little ahead", api(clock_offset=(3.0, 1.0)), WARNING, MAIN, "3 s ahead"),
        (
            "far behind",
            api(clock_offset=(-90.0, 1.0)),
            FAULT,
            MAIN,
            "90 s behind this machine's; fires come that much early",
        ),
        (
            "unkept, and right",
            replace(HEALTHY, synchronised=False),
            NOTICE,
            "this machine",
            "it is right now",
        ),
        (
            "unkept",
            replace(api(clock_offset=None), synchronised=False),
            WARNING,
            "this machine",
            "no time service keeps its clock right",
        ),
    ],
    "zone data": [
        ("no zones", replace(HEALTHY, zones=ZoneFacts((), {})), FAULT, "zone data", "there are none"),
        ("zones unknown", replace(HEALTHY, zones=UnknownFact("it hung")), FAULT, "zone data", "it hung"),
        (
            "old zones",
            replace(
                HEALTHY,
                now=NOW.replace(year=2028),
                synchronised=True,
                targets=(replace(ONE, connectivity=replace(WAY, expires=None)),),
            ),
            WARNING,
            "zone data",
            "the newest copy is 2026a",
        ),
        (
            "other zones",
            replace(HEALTHY, zones=replace(ZONES, disagreements={"Europe/Vienna": NOW})),
            WARNING,
            "Europe/Vienna",
            "the system's copy, 2025b, has other times there from 2026-11-23T19:20:30Z on",
        ),
        (
            "the daemon's zones",
            record(evaluation=("6.0.0", "2025b", 2)),
            WARNING,
            "daemon",
            "zone data 2025b",
        ),
        (
            "the daemon's rules",
            record(evaluation=("6.0.0", "2026a", 1)),
            WARNING,
            "daemon",
            "and rules 1, this command by",
        ),
    ],
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
    "addresses": [
        ("no pages", configured(settings(server={"listen": ""})), NOTICE, "server.listen", "no pages"),
        (
            "pages for all",
            configured(settings(server={"listen": "0.0.0.0:9464"})),
            WARNING,
            "server.listen",
            "open to the network",
        ),
        (
            "an API for all",
            configured(settings(api={"listen": "[::]:8040"})),
            WARNING,
            "api.listen",
            "clients send its keys without TLS",
        ),
        (
            "taken",
            replace(HEALTHY, server="somebody"),
            FAULT,
            "server.listen",
            "but no working scheduler",
        ),
        (
            "silent",
            replace(HEALTHY, server="silent"),
            FAULT,
            "server.listen",
            "accepts connections at 127.0.0.1:9464 and does not answer",
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
    "schedules": [
        ("invalid", scheduled("0 25 * * *"), FAULT, NIGHTLY, "it never fires: the hour '25' is not valid"),
        ("no day", scheduled("0 0 31 2 *"), FAULT, NIGHTLY, "no day that ever matches"),
        (
            "no zone",
            scheduled("0 3 * * *", timezone="Europe/Wien"),
            FAULT,
            NIGHTLY,
            "'Europe/Wien' is unknown",
        ),
        (
            "unidentified",
            api(
                snapshot=replace(
                    snapshot(), unidentified=2, anonymous=("object 3 of the list: its id is not a UUID",)
                )
            ),
            FAULT,
            "target main",
            "never fire and nothing can be removed: 2 (object 3 of the list: its id is not a UUID)",
        ),
        (
            "inconsistent",
            api(
                snapshot=replace(
                    snapshot(), complete=False, disagreement="its count is 3, but its pages hold 2"
                )
            ),
            WARNING,
            "target main",
            (
                "its list contradicts itself, in three successive readings: its count is 3, "
                "but its pages hold 2"
            ),
        ),
        (
            "broken",
            api(
                snapshot=snapshot(
                    broken={numbered(9): InvalidAutomation("its enabled is missing or null", name="odd")}
                )
            ),
            FAULT,
            f"automation odd ({numbered(9)})",
            "its enabled is missing",
        ),
        ("either day", scheduled("0 3 13 * fri"), WARNING, NIGHTLY, "a day need match only one of"),
        ("a star in a list", scheduled("0 3 1,* * fri"), WARNING, NIGHTLY, "every day matches"),
        ("elsewhere", scheduled("*/7 * * * *"), NOTICE, NIGHTLY, "the interval there is 4 instead of 7"),
        (
            "a step that wraps",
            scheduled("0 23-5/4 ? * *"),
            NOTICE,
            NIGHTLY,
            "3 comes after 23; in croniter 4 comes after 23; write 0 3,23",
        ),
        (
            "Sunday",
            scheduled("0 9 ? * 7-sun"),
            NOTICE,
            NIGHTLY,
            "the one value 7; in croniter it is the whole field",
        ),
        ("rare", scheduled("0 0 29 2 *", timezone="UTC"), WARNING, NIGHTLY, "next at 2028-02-29T00:00:00Z"),
        ("disabled", scheduled("0 3 * * *", enabled=False), NOTICE, MAIN, "1 disabled"),
        ("paused", record(paused=frozenset({("main", "*")})), NOTICE, MAIN, "1 paused"),
        (
            "much jitter",
            under(scheduled("*/10 * * * *"), settings(schedule={"jitter": "6m"})),
            WARNING,
            NIGHTLY,
            "jitter of 6m is too much for 10m between",
        ),
    ],
    "rate budget": [
        (
            "a busy minute",
            limited(many(500), max_in_flight=1000),
            WARNING,
            MAIN,
            "the minute of 2026-11-24T02:00:00Z needs 500 fires and",
        ),
        (
            "a busy hour",
            limited(many(300, "* * * * *"), requests_per_minute=1000, max_in_flight=1000),
            WARNING,
            MAIN,
            "300 lose occurrences",
        ),
        (
            "polls alone",
            under(HEALTHY, settings({**TARGET, "requests_per_hour": 150})),
            WARNING,
            MAIN,
            "half is for polls and readings",
        ),
        (
            "more than the cloud allows",
            at_the_cloud(requests_per_hour=6000),
            WARNING,
            MAIN,
            "the cloud allows a key 480 and 4,800",
        ),
        ("a crowd", many(65), NOTICE, MAIN, "65 automations are due in the minute of 2026-11-24T02:00:00Z"),
    ],
    "other schedulers": [
        (
            "a foreign run",
            record(foreign_runs=(FOREIGN,)),
            WARNING,
            NIGHTLY,
            "2 runs in the last 7 days that this scheduler did not start",
        ),
        (
            "a double schedule",
            record(foreign_runs=(replace(FOREIGN, doubled=1),)),
            FAULT,
            NIGHTLY,
            "fired twice: 1 run",
        ),
        (
            "fired before us",
            ran_by_itself("0 3 * * *", datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC)),
            WARNING,
            MAIN,
            "that the ledger does not know, of 1: nightly",
        ),
        (
            "one project twice",
            two_of_one_project(),
            FAULT,
            "targets main and other",
            "1 automations are in both",
        ),
    ],
}


@pytest.mark.parametrize(
    ("check", "facts", "status", "subject", "words"),
    [
        pytest.param(check, *case[1:], id=f"{check}: {case[0]}")
        for check, cases in CASES.items()
        for case in cases
    ],
)
def test_what_is_wrong_is_found_and_nothing_else(
    check: str, facts: Facts, status: Status, subject: str, words: str
) -> None:
    found = [each for each in told(facts) if not is_consequence(each, facts)]
    assert [(each.check, each.status, each.subject) for each in found] == [(check, status, subject)], found
    assert words in found[0].finding
    assert found[0].advice


@pytest.mark.parametrize(
    ("restored_at", "found"), [(None, 1), (datetime(2026, 11, 23, 2, 0, 11, tzinfo=UTC), 1), (NOW, 0)]
)
def test_runs_from_before_the_ledger_was_restored_are_no_sign_of_another_scheduler(
    restored_at: datetime | None, found: int
) -> None:
    ran = ran_by_itself("0 3 * * *", datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC))
    assert ran.record is not None
    targets = tuple(replace(target, restored_at=restored_at) for target in ran.record.targets)
    assert isinstance(ran.ledger, LedgerFacts)
    ran = replace(ran, ledger=replace(ran.ledger, record=replace(ran.record, targets=targets)))
    assert (
        len(
            [
                finding
                for finding in told(ran)
                if finding.check == "other schedulers" and finding.status is WARNING
            ]
        )
        == found
    )


FAILED = FinishedRun(
    "main", ID, "nightly", "run-1", RunStatus.FAILED, NOW - timedelta(hours=1), 3, "exit status 3: no room"
)


def test_each_automation_whose_newest_finished_run_failed_is_a_warning_and_the_rest_is_counted() -> None:
    lost = replace(FAILED, name="weekly", status=RunStatus.LOST, failures=1, error=None)
    first, second, rest = told(
        record(
            failing=FailingAutomations({"main": 25, "gone": 9}, [FAILED, lost, replace(lost, target="gone")])
        )
    )
    assert {(each.check, each.status) for each in (first, second, rest)} == {("runs", Status.WARNING)}
    assert first.subject == f"automation nightly ({ID})"
    assert (
        first.finding
        == "its newest finished run failed, 3 failures in a row, 2026-11-23T18:20:30Z: exit status 3: no room"
    )
    assert "`scheduler runs show run-1`" in first.advice
    assert second.finding == "its newest finished run was lost, 2026-11-23T18:20:30Z"
    assert (rest.finding, rest.advice) == (
        "23 more with a failed newest finished run",
        "see `scheduler history --run-status failed`",
    )


def test_a_crowd_late_on_a_day_of_many_occurrences_is_forecast_and_the_rest_is_named() -> None:
    """The forecast ended after the first occurrences, long before the crowd, and said that all goes in
    time.
    """
    five = [
        automation(number, cron="*/5 * * * *", timezone="UTC", name=f"five{number}") for number in range(100)
    ]
    crowd = [
        automation(1000 + number, cron="0 15 * * *", timezone="UTC", name=f"crowd{number}")
        for number in range(2000)
    ]
    (found,) = (
        each
        for each in told(limited(api(snapshot=snapshot(*five, *crowd)), max_in_flight=3000))
        if each.check == "rate budget"
    )
    assert "the minute of 2026-11-24T15:00:00Z needs 2,100 fires" in found.finding
    assert "from 2026-11-24T15:00:00Z on 1,70" in found.finding
    assert "automations wait, up to 5 min" in found.finding
    assert (
        "(forecast from 2026-11-24T14:00:00Z to 2026-11-24T19:21:00Z, not of the rest of the day)"
        in found.finding
    )


UNREACHABLE: Sequence[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "no such name",
        {"broken": "name", "error": "name or service not known"},
        {},
        "the name api.example.org cannot be resolved",
        "correct the target's url",
    ),
    (
        "nobody there",
        {"broken": "connection", "error": "connection refused"},
        {},
        "(192.0.2.1): connection refused",
        "no firewall",
    ),
    (
        "expired",
        {"broken": "tls", "error": "certificate has expired", "verify_code": 10},
        {},
        "certificate has expired",
        "renew the API's certificate",
    ),
    (
        "too early",
        {"broken": "tls", "error": "not yet valid", "verify_code": 9},
        {},
        "not yet valid",
        "clock is right",
    ),
    (
        "signed by itself",
        {"broken": "tls", "error": "self-signed certificate", "verify_code": 18},
        {},
        "self-signed",
        "set ca_file on the target",
    ),
    (
        "of an unknown authority",
        {"broken": "tls", "error": "unable to get local issuer certificate", "verify_code": 20},
        {},
        "local issuer",
        "for a private CA set ca_file",
    ),
    (
        "of another authority",
        {"broken": "tls", "error": "unable…", "verify_code": 20},
        {"ca_file": "/ca.pem"},
        "unable",
        "add the authority that signed it to /ca.pem",
    ),
    (
        "for another host",
        {"broken": "tls", "error": "Hostname mismatch", "verify_code": 62},
        {},
        "Hostname mismatch",
        "as the certificate has it",
    ),
    (
        "the name of a proxy",
        {"broken": "name", "proxy": "http://***@proxy:3128", "error": "unknown"},
        {},
        "the name proxy of its proxy cannot be resolved",
        "correct the target's proxy",
    ),
    (
        "no proxy there",
        {"broken": "connection", "proxy": "http://***@proxy:3128", "error": "refused"},
        {},
        "no connection to its proxy http://***@proxy:3128: refused",
        "check that the proxy runs",
    ),
    (
        "a proxy that refuses",
        {"broken": "proxy", "proxy": "http://***@proxy:3128", "error": "it answered HTTP 407"},
        {},
        (
            "its proxy http://***@proxy:3128 made no connection to api.example.org port 443: it "
            "answered HTTP 407"
        ),
        "allow CONNECT to api.example.org:443",
    ),
    (
        "a proxy that reads TLS",
        {
            "broken": "tls",
            "proxy": "http://proxy:3128",
            "error": "self-signed certificate in certificate chain",
            "verify_code": 19,
        },
        {},
        "TLS to api.example.org through the proxy http://proxy:3128 failed",
        "with the authority of the proxy",
    ),
    (
        "no TLS",
        {"broken": "tls", "error": "wrong version number"},
        {},
        "wrong version number",
        "or write http://",
    ),
    (
        "no CA",
        {"broken": "tls", "error": "cannot be read"},
        {"ca_file": "/ca.pem"},
        "cannot be read",
        "/ca.pem holds certificates in PEM form",
    ),
]


@pytest.mark.parametrize(
    ("step", "setting", "words", "advice"),
    [case[1:] for case in UNREACHABLE],
    ids=[case[0] for case in UNREACHABLE],
)
def test_the_step_that_fails_is_told_with_what_mends_it(
    step: dict[str, Any], setting: dict[str, Any], words: str, advice: str
) -> None:
    broken = target(connectivity=replace(WAY, **step), api=UnknownFact("it cannot be reached"))
    facts = under(broken, settings({**TARGET, **setting}))
    (found,) = [each for each in told(facts) if not is_consequence(each, facts)]
    assert (found.check, found.status) == ("reachability", FAULT)
    assert words in found.finding
    assert advice in found.advice


REFUSED: Sequence[tuple[str, Refusal, str, Sequence[str], str]] = [
    ("no such project", NOT_FOUND, TARGET["url"], ["reachability"], "check the url and the project_id"),
    ("a path in the url", NOT_FOUND, TARGET["url"] + "/api", ["reachability"], "most APIs have no path"),
    (
        "moved",
        Refusal(
            "… answered HTTP 301; it redirects to https://b; set the url of target main to where "
            "the API really is",
            301,
            held=True,
        ),
        TARGET["url"],
        ["reachability"],
        "set the url",
    ),
    (
        "a wrong key",
        Refusal("… answered HTTP 401: …; check the key of target main", 401, held=True),
        TARGET["url"],
        ["reachability"],
        "check the key",
    ),
    (
        "no scope at all",
        Refusal(SCOPE.format("read"), 403, held=True),
        TARGET["url"],
        ["reachability", "scopes"],
        "give the key",
    ),
    ("throttled", Refusal("… answered HTTP 429", 429), TARGET["url"], ["reachability"], "a key of its own"),
    (
        "broken",
        Refusal("… answered HTTP 502", 502),
        TARGET["url"],
        ["reachability"],
        "check the API, and try again",
    ),
]


@pytest.mark.parametrize(
    ("refusal", "url", "checks", "advice"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_an_answer_that_is_no_list_is_a_fault(
    refusal: Refusal, url: str, checks: Sequence[str], advice: str
) -> None:
    new = settings({**TARGET, "url": url})
    facts = under(record(targets=(LedgerTarget("main", url, "1", NOW),)), new)
    facts = replace(
        facts,
        daemon=daemon_of(facts),
        targets=(
            replace(facts.targets[0], api=replace(API, snapshot=None, refusal=refusal, may_write=None)),
        ),
    )
    found = [each for each in told(facts) if each.status is not NOTICE]
    assert [each.check for each in found] == checks
    assert {each.status for each in found} == {FAULT}
    assert advice in found[0].advice


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


def test_without_a_configuration_the_rest_of_the_machine_is_examined_all_the_same() -> None:
    facts = replace(
        HEALTHY,
        configuration=None,
        problems=[Problem("file x", "is not TOML", "correct this first")],
        targets=(),
    )
    assert [(each.check, each.status) for each in told(facts)] == [("configuration", FAULT)]
    assert {"zone data", "clock"} <= {each.check for each in run_checks(facts)}


def test_no_target_is_a_fault() -> None:
    facts = replace(HEALTHY, configuration=Configuration(Settings(), FILE, {}), targets=(), embedded=None)
    assert [(each.check, each.status) for each in told(facts)] == [("configuration", FAULT)]


def test_automations_that_the_api_does_not_show_are_those_of_the_ledger() -> None:
    known = AutomationRow("main", ID, "nightly", "0 25 * * *", "UTC", True, None, None, None)
    facts = target(
        connectivity=replace(WAY, broken="connection", error="refused"),
        api=UnknownFact("it cannot be reached"),
    )
    facts = replace(facts, ledger=replace(LEDGER_FACTS, record=replace(RECORD, automations=(known,))))
    found = [each for each in told(facts) if each.check == "schedules"]
    assert [each.status for each in found] == [NOTICE, FAULT]
    assert "the ledger's last snapshot, of 2026-11-23T19:20:10Z" in found[0].finding


def test_a_run_that_the_ledger_knows_is_no_sign_of_another_scheduler() -> None:
    began = datetime(2026, 11, 23, 2, 0, 12, tzinfo=UTC)
    ours = replace(LEDGER_FACTS, record=replace(RECORD, newest_runs={ID: began}))
    assert told(ran_by_itself("0 3 * * *", began, ledger=ours)) == []


@pytest.mark.parametrize(
    ("cron", "minutes"), [("0 3 * * *", 5), ("* * * * *", 0)], ids=["at another time", "whenever"]
)
def test_a_run_that_somebody_started_by_hand_is_no_sign_of_another_scheduler(cron: str, minutes: int) -> None:
    assert told(ran_by_itself(cron, datetime(2026, 11, 23, 2, minutes, 12, tzinfo=UTC))) == []


def test_a_jitter_of_half_the_time_between_two_fires_is_not_cut_and_no_finding() -> None:
    assert "schedules" not in {
        each.check for each in told(under(scheduled("*/10 * * * *"), settings(schedule={"jitter": "5m"})))
    }


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (
            record(paused=frozenset({("main", "*")})),
            "; `scheduler resume --all --keep-single` (pauses of single automations stay) ends",
        ),
        (record(paused=frozenset({("main", ID)})), "; `scheduler resume AUTOMATION` ends the pause of one"),
        (under(HEALTHY, settings(schedule={"paused": True})), "; `paused` in [schedule] and [[override]]"),
        (scheduled("0 3 * * *", enabled=False), ""),
    ],
)
def test_each_kind_of_pause_is_found_with_the_advice_that_ends_it(facts: Facts, advice: str) -> None:
    (found,) = (each for each in told(facts) if each.finding.startswith("automations that are not fired"))
    start_run = "nothing, if you want this; see `scheduler status`"
    assert found.advice is not None
    assert found.advice.startswith(start_run + advice)
    assert advice or found.advice == start_run


def test_the_numbers_of_working_days_are_not_worth_a_word() -> None:
    assert told(scheduled("0 9 * * 1-5")) == []


def test_a_schedule_of_a_disabled_automation_is_not_judged_but_for_being_invalid() -> None:
    assert [each.subject for each in told(scheduled("0 3 13 * fri", enabled=False))] == [MAIN]
    assert [each.status for each in told(scheduled("0 25 * * *", enabled=False))] == [NOTICE, NOTICE]


def test_a_check_that_fails_keeps_no_other_from_its_own() -> None:
    def fail(_: Facts) -> list[CheckFinding]:
        raise ZeroDivisionError("oh")

    (first, _), *others = CHECKS
    found = list(run_checks(HEALTHY, [(first, fail), *others]))
    assert (found[0].status, found[0].finding) == (FAULT, "the check itself failed: ZeroDivisionError: oh")
    assert {each.check for each in found} == {name for name, _ in CHECKS}


def is_consequence(each: CheckFinding, facts: Facts) -> bool:
    """That the API was not asked follows from there being no key, or no way; the same of what the automations
    are read from.
    """
    return (
        each.status is NOTICE
        and each.advice == "correct this first"
        and isinstance(facts.targets[0].api, UnknownFact)
    )


def test_many_overrides_of_many_automations_cost_as_much_as_both_together() -> None:
    def examine(count: int) -> int:
        overrides = [
            {"automation": f"{number}-{'*' if number % 2 else 'nightly'}", "paused": True}
            for number in range(count)
        ]
        automations = (automation(number, name=f"{number}-nightly") for number in range(count))
        facts = under(api(snapshot=snapshot(*automations)), settings(override=overrides))
        return count_lines(lambda: list(check(facts)))

    few = examine(30)
    assert few > 30
    assert examine(300) <= 12 * few


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
