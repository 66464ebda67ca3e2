"""All checks, in the order of the report.

A check comes after the checks on which its findings depend.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from scheduler.doctor.checks import (
    addresses,
    budget,
    clocks,
    configuration,
    daemon_process,
    embedded,
    keys,
    ledger,
    other_schedulers,
    reachability,
    results,
    schedules,
    zone_data,
)
from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import CheckFinding, Subject

Check = Callable[[Facts], Iterable[CheckFinding]]

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("configuration", configuration.check),
    ("key", keys.check),
    ("reachability", reachability.check),
    ("scopes", keys.check_scopes),
    ("clock", clocks.check),
    ("zone data", zone_data.check),
    ("ledger", ledger.check),
    ("daemon", daemon_process.check),
    ("addresses", addresses.check),
    ("embedded api", embedded.check),
    ("schedules", schedules.check),
    ("runs", results.check),
    ("rate budget", budget.check),
    ("other schedulers", other_schedulers.check),
)


def run_checks(facts: Facts, checks: Sequence[tuple[str, Check]] = CHECKS) -> Iterator[CheckFinding]:
    """Yield the findings of all checks, with the names of the checks.

    A check that raises an exception becomes a finding itself and does not stop the other checks.
    """
    for name, check in checks:
        try:
            findings = list(check(facts))
        except Exception as error:  # noqa: BLE001  a wrong check must not hide other findings
            text = f"the check itself failed: {type(error).__name__}: {error}"
            findings = [Subject("doctor").fault(text, "report this error, with this line")]
        yield from (replace(finding, check=name) for finding in findings)
