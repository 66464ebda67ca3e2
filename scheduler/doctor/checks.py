"""All checks, in the order in which they are told: what the later ones rest on comes first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from scheduler.doctor import (
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
    scopes,
    zone_data,
)
from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import Check, CheckFinding

CheckFunction = Callable[[Facts], Iterable[CheckFinding]]

CHECKS: Final[Sequence[tuple[Check, CheckFunction]]] = (
    (configuration.CONFIGURATION, configuration.check),
    (keys.KEY, keys.check),
    (reachability.REACHABILITY, reachability.check),
    (scopes.SCOPES, scopes.check),
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


def run_checks(facts: Facts, checks: Sequence[tuple[Check, CheckFunction]] = CHECKS) -> Iterator[CheckFinding]:
    """What all checks find. One that fails is a finding itself, and keeps no other from its own."""
    for check, examine in checks:
        try:
            yield from list(examine(facts))
        except Exception as error:  # noqa: BLE001  a check that we got wrong must not hide what the others see
            yield check.fault("doctor", f"the check itself failed: {type(error).__name__}: {error}", "report it, with this line")
