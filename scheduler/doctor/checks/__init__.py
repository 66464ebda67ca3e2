"""All checks, in the order of the report.

A check comes after the checks on which its findings depend.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from scheduler.doctor.findings import Check, CheckFinding

CheckFunction = Callable[[Facts], Iterable[CheckFinding]]

CHECKS: Final[Sequence[tuple[Check, CheckFunction]]] = (
    (configuration.CONFIGURATION, configuration.check),
    (keys.KEY, keys.check),
    (reachability.REACHABILITY, reachability.check),
    (keys.SCOPES, keys.check_scopes),
    (clocks.CLOCK, clocks.check),
    (zone_data.ZONE_DATA, zone_data.check),
    (ledger.LEDGER, ledger.check),
    (daemon_process.DAEMON, daemon_process.check),
    (addresses.ADDRESSES, addresses.check),
    (embedded.EMBEDDED, embedded.check),
    (schedules.SCHEDULES, schedules.check),
    (results.RESULTS, results.check),
    (budget.BUDGET, budget.check),
    (other_schedulers.OTHER_SCHEDULERS, other_schedulers.check),
)


def run_checks(
    facts: Facts, checks: Sequence[tuple[Check, CheckFunction]] = CHECKS
) -> Iterator[CheckFinding]:
    """Yield the findings of all checks.

    A check that raises an exception becomes a finding itself and does not stop the other checks.
    """
    for check, examine in checks:
        try:
            yield from list(examine(facts))
        except Exception as error:  # noqa: BLE001  a wrong check must not hide other findings
            yield check.about("doctor").fault(
                f"the check itself failed: {type(error).__name__}: {error}",
                "report this error, with this line",
            )
