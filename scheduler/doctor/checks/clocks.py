"""The clocks: this machine's clock against the API's clock, and the synchronisation of this machine's clock.

The machine's time zone does not matter, because all times are in UTC.
"""

from collections.abc import Iterator
from typing import Final

from scheduler.daemon.clock import MAX_TRUSTED_STEP
from scheduler.doctor.facts import ApiFacts, Facts
from scheduler.doctor.findings import CheckFinding, Subject

_NOTABLE: Final = 2.0
"""Clock offset in seconds. Above this offset, people begin to notice that fires are early or late."""


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the clocks."""
    compared = [
        (target.settings.name, target.api.clock_offset[0])
        for target in facts.targets
        if isinstance(target.api, ApiFacts) and target.api.clock_offset
    ]
    for name, ahead in compared:
        yield _check_offset(Subject(f"target {name}"), ahead)
    if facts.synchronised is False:
        yield _report_unsynchronised_clock(agrees=any(abs(ahead) <= _NOTABLE for _, ahead in compared))
    elif facts.synchronised:
        yield Subject("this machine").ok("a time service keeps its clock right (adjtimex)")


def _check_offset(subject: Subject, ahead: float) -> CheckFinding:
    if abs(ahead) <= _NOTABLE:
        return subject.ok("the API's clock agrees with this machine's")
    way, effect = ("ahead of", "late") if ahead > 0 else ("behind", "early")
    finding = f"the API's clock is {abs(ahead):,.0f} s {way} this machine's"
    advice = "find out which of the two is wrong; for this machine: timedatectl set-ntp true"
    if abs(ahead) > MAX_TRUSTED_STEP:
        return subject.fault(f"{finding}; fires come that much {effect}", advice)
    return subject.warning(finding, advice)


def _report_unsynchronised_clock(*, agrees: bool) -> CheckFinding:
    finding = "no time service keeps its clock right"
    advice = "timedatectl set-ntp true, or install chrony; in a container, on its host"
    if agrees:
        finding += ", but an API's clock shows that it is right now"
        return Subject("this machine").notice(finding, advice)
    return Subject("this machine").warning(finding, advice)
