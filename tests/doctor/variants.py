"""Facts in which one thing is otherwise, and the findings about them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from scheduler.doctor.checks import run_checks
from scheduler.doctor.facts import Facts, KeyFacts, UnknownFact
from scheduler.doctor.findings import CheckFinding, Status
from scheduler.ledger.targets import LedgerTarget
from scheduler.settings.keys import KeyPlace
from scheduler.settings.load import Configuration
from scheduler.settings.models import Settings
from scheduler.settings.sources import Origin
from tests.doctor.support import (
    FILE,
    HEALTHY,
    ID,
    LEDGER,
    NOW,
    TARGET,
    api,
    automation,
    configured,
    file,
    record,
    settings,
    snapshot,
    target,
)

Case = tuple[str, Facts, Status, str, str]
"""A name, and the facts; of the only finding: the status, the subject, and words of the text."""


ONE = HEALTHY.targets[0]


def told(facts: Facts) -> list[CheckFinding]:
    """Whatever is not well."""
    return [each for each in run_checks(facts) if each.status is not Status.OK]


def is_consequence(each: CheckFinding, facts: Facts) -> bool:
    """That the API was not asked follows from there being no key, or no way; the same of what the automations
    are read from.
    """
    return (
        each.status is NOTICE
        and each.advice == "correct this first"
        and isinstance(facts.targets[0].api, UnknownFact)
    )


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


MAIN, NIGHTLY, FILE_OF_LEDGER = "target main", f"automation nightly ({ID})", str(LEDGER)
FAULT, WARNING, NOTICE = Status.FAULT, Status.WARNING, Status.NOTICE


def with_ids(cases: Mapping[str, Sequence[Case]]) -> list[Any]:
    """Return a parameter set for each case of each check."""
    return [
        pytest.param(check, *case, id=f"{check}: {name}")
        for check, of_check in cases.items()
        for name, *case in of_check
    ]


def expect_only(check: str, facts: Facts, status: Status, subject: str, words: str) -> None:
    """Expect one finding about the facts, beside its consequences, with advice."""
    found = [each for each in told(facts) if not is_consequence(each, facts)]
    assert [(each.check, each.status, each.subject) for each in found] == [(check, status, subject)], found
    assert words in found[0].finding
    assert found[0].advice
