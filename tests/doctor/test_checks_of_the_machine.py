"""The checks of the configuration and of this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from scheduler.doctor.checks import run_checks
from scheduler.doctor.checks.configuration import check
from scheduler.doctor.facts import Facts, UnknownFact, ZoneFacts
from scheduler.doctor.findings import Status
from scheduler.settings.load import Configuration
from scheduler.settings.models import Settings
from scheduler.settings.problems import Problem
from scheduler.settings.sources import Origin
from tests.counting import count_lines
from tests.doctor.support import (
    FILE,
    HEALTHY,
    ID,
    NOW,
    TARGET,
    WAY,
    ZONES,
    api,
    automation,
    configured,
    record,
    settings,
    snapshot,
)
from tests.doctor.variants import FAULT, MAIN, NOTICE, ONE, WARNING, Case, expect_only, told, under, with_ids

CASES: Mapping[str, Sequence[Case]] = {
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
        ("taken", replace(HEALTHY, server="somebody"), FAULT, "server.listen", "but no working scheduler"),
        (
            "silent",
            replace(HEALTHY, server="silent"),
            FAULT,
            "server.listen",
            "accepts connections at 127.0.0.1:9464 and does not answer",
        ),
    ],
}


@pytest.mark.parametrize(("check", "facts", "status", "subject", "words"), with_ids(CASES))
def test_what_is_wrong_is_found_and_nothing_else(
    check: str, facts: Facts, status: Status, subject: str, words: str
) -> None:
    expect_only(check, facts, status, subject, words)


def test_no_target_is_a_fault() -> None:
    facts = replace(HEALTHY, configuration=Configuration(Settings(), FILE, {}), targets=(), embedded=None)
    assert [(each.check, each.status) for each in told(facts)] == [("configuration", FAULT)]


def test_without_a_configuration_the_rest_of_the_machine_is_examined_all_the_same() -> None:
    facts = replace(
        HEALTHY,
        configuration=None,
        problems=[Problem("file x", "is not TOML", "correct this first")],
        targets=(),
    )
    assert [(each.check, each.status) for each in told(facts)] == [("configuration", FAULT)]
    assert {"zone data", "clock"} <= {each.check for each in run_checks(facts)}


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
