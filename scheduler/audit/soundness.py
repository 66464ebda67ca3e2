"""What is wrong with an occurrence's own record, whatever its definitions imply: runs that do not fit, outcomes that are not known."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.audit.findings import Finding, Kind
from scheduler.audit.reading import Doubled, Open, Wrong
from scheduler.core.command_line import command_line
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.core.model import Outcome

_KEEP: Final = "keep the ledger, and report this"
GRACE: Final = timedelta(minutes=5)
"""How long after its deadline an occurrence may still be getting its outcome."""
FOUND_OUT_WITHIN: Final = timedelta(hours=25)
"""How long it may take to find out what became of an attempt: a day, and the time it takes to ask."""
SETTLED: Final = timedelta(minutes=2)
"""How much older than the newest snapshot a run has to be, so that the snapshot must have shown it: two clocks may differ."""


def of_wrong(target: str, wrong: Wrong) -> Finding:
    """What `reading.wrong` found."""
    kind, text, advice = _judged(target, wrong)
    return Finding(target, wrong.automation_id, wrong.name, wrong.scheduled_for, kind, text, advice)


def _judged(target: str, wrong: Wrong) -> tuple[Kind, str, str]:
    if wrong.answered > 1:
        return Kind.DOUBLE, f"{wrong.answered} of its attempts were answered with a run", f"stop one of the runs; {_KEEP}"
    if wrong.outcome == Outcome.UNRESOLVED:
        text = f"unresolved: {wrong.reason}: {wrong.error or 'it could not be found out whether a run was started'}"
        advice = "look at its runs at the API; was there none, start one: "
        advice += f"`{command_line(f'automations run {wrong.automation_id}', target=target)}`"
        return Kind.UNEXPLAINED, text, advice
    if wrong.outcome != Outcome.ACCEPTED:
        return Kind.DOUBLE, f"{wrong.outcome or 'open'}, and run {wrong.linked} is on record as its own", _KEEP
    if wrong.run_of is None:
        return Kind.UNEXPLAINED, f"accepted with run {wrong.run_id}, which is not on record as its own", _KEEP
    return Kind.DOUBLE, f"accepted with run {wrong.run_id}, which is that of {wrong.run_of}: one run for two occurrences", _KEEP


def of_doubled(target: str, doubled: Doubled, name: str) -> Finding:
    """A late double that the daemon has noticed."""
    text = f"a second run, {doubled.run_id}, begun {doubled.started_at or 'nobody knows when'}, is most likely a late attempt for it"
    advice = "stop one of the two runs; if that happens again, raise settle_time and request_timeout"
    return Finding(target, doubled.automation_id, name, doubled.scheduled_for, Kind.DOUBLE, text, advice)


def of_open(target: str, opened: Open, now: datetime, patience: timedelta) -> Finding | None:
    """What is open for longer than it may be. ``patience``: how long after it is due it may wait for the run before it."""
    if opened.state in {"unknown", "in_flight"} and opened.tried_at is not None:
        until = opened.tried_at + FOUND_OUT_WITHIN
    else:
        until = max(opened.deadline, opened.due + patience) + GRACE
    if now <= until:
        return None
    text = f"open ({opened.state}), and should have had its outcome by {to_text_seconds(until)}"
    advice = f"start the daemon if it does not run; else see what keeps it: `{command_line('status')}`"
    return Finding(target, opened.automation_id, opened.name, opened.scheduled_for, Kind.UNEXPLAINED, text, advice)


@dataclass(frozen=True, slots=True)
class Shown:
    """An automation with its newest run, as the API shows it; the instant is on our clock."""

    automation_id: str
    name: str
    run_id: str
    run_at: datetime | None


def of_shown(target: str, shown: Iterable[Shown], known: Mapping[str, bool], snapshot_at: datetime | None) -> Iterator[Finding]:
    """Runs that the newest snapshot must have shown, and that are not on record. ``known``: by run id, whether it is."""
    for each in shown:
        seen = snapshot_at is not None and (each.run_at is None or each.run_at < snapshot_at - SETTLED)
        if seen and not known[each.run_id]:
            began = "" if each.run_at is None else f", begun {to_text(each.run_at)}"
            text = f"the API shows run {each.run_id}{began}, which the ledger does not know"
            yield Finding(target, each.automation_id, each.name, None, Kind.UNEXPLAINED, text, f"see who starts its runs; {_KEEP}")
