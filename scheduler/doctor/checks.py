"""All checks, in the order in which they are told: what the later ones rest on comes first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from scheduler.doctor import (
    addresses,
    budget,
    clocks,
    configuration,
    embedded,
    keys,
    ledger,
    reachability,
    results,
    running,
    schedules,
    scopes,
    strangers,
    zone_data,
)
from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import Check, Finding

Examine = Callable[[Facts], Iterable[Finding]]

CHECKS: Final[Sequence[tuple[Check, Examine]]] = (
    (configuration.CONFIGURATION, configuration.examined),
    (keys.KEY, keys.examined),
    (reachability.REACHABILITY, reachability.examined),
    (scopes.SCOPES, scopes.examined),
    (clocks.CLOCK, clocks.examined),
    (zone_data.ZONE_DATA, zone_data.examined),
    (ledger.LEDGER, ledger.examined),
    (running.DAEMON, running.examined),
    (addresses.ADDRESSES, addresses.examined),
    (embedded.EMBEDDED, embedded.examined),
    (schedules.SCHEDULES, schedules.examined),
    (results.RESULTS, results.examined),
    (budget.BUDGET, budget.examined),
    (strangers.STRANGERS, strangers.examined),
)


def findings(facts: Facts, checks: Sequence[tuple[Check, Examine]] = CHECKS) -> Iterator[Finding]:
    """What all checks find. One that fails is a finding itself, and keeps no other from its own."""
    for check, examine in checks:
        try:
            yield from list(examine(facts))
        except Exception as error:  # noqa: BLE001  a check that we got wrong must not hide what the others see
            yield check.fault("doctor", f"the check itself failed: {type(error).__name__}: {error}", "report it, with this line")
