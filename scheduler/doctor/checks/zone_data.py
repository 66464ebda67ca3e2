"""The zone data: the copy in use, its age, and the differences from another copy on this machine.

Only differences in zones in use are reported.
"""

import re
from collections.abc import Iterator
from typing import Final

from scheduler.core.instants import to_text_seconds
from scheduler.doctor.facts import Facts, LedgerFacts, UnknownFact, ZoneFacts
from scheduler.doctor.findings import CheckFinding, Subject

_YEARS: Final = 2
_UPDATE: Final = (
    "apt-get install --only-upgrade tzdata for the system's, "
    "pip install --upgrade tzdata for the package's; then reload the daemon"
)


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the zone data."""
    subject = Subject("zone data")
    if isinstance(facts.zones, UnknownFact):
        finding = f"they could not be looked at: {facts.zones.reason}"
        yield subject.fault(finding, "install the system's tzdata again")
    elif not facts.zones.copies:
        yield subject.fault("there are none on this machine", "apt-get install tzdata")
    else:
        yield from _check_copies(subject, facts, facts.zones)
        yield from _check_daemon(facts)


def _check_copies(subject: Subject, facts: Facts, zones: ZoneFacts) -> Iterator[CheckFinding]:
    used, *others = zones.copies
    beside = f"; beside it, the {others[0].source}'s {others[0].version}" if others else ""
    year = re.match(r"\d{4}", used.version)
    if year is not None and facts.now.year - int(year[0]) >= _YEARS:
        yield subject.warning(f"the newest copy is {used.version}; laws have changed since", _UPDATE)
    else:
        yield subject.ok(f"{used.version} of the {used.source} is used{beside}")
    for name, since in zones.disagreements.items():
        copy = f"the {others[0].source}'s copy, {others[0].version}"
        nothing = f"nothing for the fires, which go by {used.version}"
        advice = f"{nothing}; for the clocks that people see: {_UPDATE}"
        yield Subject(name).warning(f"{copy}, has other times there from {to_text_seconds(since)} on", advice)


def _check_daemon(facts: Facts) -> Iterator[CheckFinding]:
    ledger = facts.ledger
    evaluation = facts.record.evaluation if facts.record else None
    if not isinstance(ledger, LedgerFacts) or ledger.holder is None or evaluation is None:
        return
    (croniter, tzdata, rules), here = evaluation, facts.evaluation
    if evaluation != here:
        daemon = f"it evaluates by croniter {croniter}, zone data {tzdata} and rules {rules}"
        advice = "reload the daemon for new zone data, restart it for another croniter and other rules"
        finding = f"{daemon}, this command by {here[0]}, {here[1]} and {here[2]}"
        yield Subject("daemon").warning(finding, advice)
