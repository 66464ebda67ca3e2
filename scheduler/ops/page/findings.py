"""The findings of the page and of ``/readyz``, with advice: from the daemon's state and the recent ledger.

The advice equals the runbook in ``docs/runbooks.md``, word for word; a test compares both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from scheduler.core.command_line import complete_commands, format_command, resume_all
from scheduler.core.instants import to_text_seconds
from scheduler.core.model import Outcome, Reason, RunStatus
from scheduler.core.quantities import pluralize
from scheduler.core.status import (
    STALLED_AFTER,
    AutomationDetails,
    DaemonStatus,
    FailingAutomations,
    ForeignRunTally,
    OperatorPause,
    OutcomeTally,
    RecentActivity,
    TargetStatus,
)
from scheduler.ops.page.rows import make_automation_link
from scheduler.ops.page.times import DisplayTime
from scheduler.ops.queries import FAILING

BAD: Final = "bad"
"""A defect: something that should happen does not happen."""
WARN: Final = "warn"
"""A state that an operator should examine."""
NOTE: Final = "note"
"""A state that an operator wanted. The note keeps the state from being forgotten."""
_ORDER: Final = (BAD, WARN, NOTE)

ADVICE: Final[Mapping[str, str]] = {
    "target.held": (
        "correct the key, its scopes or the URL. One waiting attempt at a time is the probe; a "
        "successful poll ends a hold because of the list. After a new key: restart the daemon, or send "
        "SIGHUP if the key is in a `key_file`"
    ),
    "target.throttled": (
        "lower `requests_per_minute` and `requests_per_hour` to the limits of the API. The target "
        "continues by itself; a restart does not end the wait. If the API serves again earlier: stop the "
        "daemon, run `scheduler target unthrottle TARGET`, and start the daemon again"
    ),
    "target.saturated": (
        "find out why the API does not answer; raise `max_waiting` if the API may hang so often"
    ),
    "budget.exhausted": (
        "`scheduler check` names the automations that wait or lose occurrences: spread them with "
        "`jitter`, fire less often, or raise `requests_per_minute` and `requests_per_hour` as far as the "
        "API allows"
    ),
    "snapshot.failed": "repair the API or the connection to the API. Fires go on meanwhile",
    "occurrence.expired": "the reason is in `error`; look at `attempt.failed` before it",
    "occurrence.unresolved": (
        "look at the automation's runs at the API. If the occurrence did not run, start a run by hand: "
        "`scheduler automations run AUTOMATION`"
    ),
    "occurrence.overdue": (
        "the log, or another finding about the target, names the cause; `scheduler why AUTOMATION TIME` "
        "shows the steps so far"
    ),
    "occurrence.rejected": (
        "read `error`, the answer of the API. Correct the automation, then run the occurrence with "
        "`scheduler fire AUTOMATION TIME`"
    ),
    "occurrence.skipped": (
        "find out why the daemon did not run or could not send at that time; `scheduler fire AUTOMATION "
        "TIME` runs the occurrence"
    ),
    "run.finished": (
        "`scheduler runs show RUN` prints the output of a run of the embedded API; at another API, look "
        "at the run there. Remove the cause, then start another run with `scheduler automations run "
        "AUTOMATION`"
    ),
    "run.foreign": (
        "switch off the other scheduler, or pause the automation here: `scheduler pause AUTOMATION`"
    ),
    "run.doubled": "raise `settle_time`: the API is slower than `settle_time` allows",
    "ledger.failed": "make room on the disk. Nothing is sent meanwhile; the daemon continues by itself",
    "daemon.waiting": "stop one of the two daemons. This one takes over when the other has ended",
    "clock.jumped": (
        "nothing. After a large step forward, the daemon decides nothing until the `Date` of an API agrees"
    ),
    "automation.quarantined": "correct the schedule of the automation",
    "automations.unidentified": (
        "look at these objects at the API: the scheduler needs a UUID as their id. Meanwhile the list "
        "alone removes no automation"
    ),
    "list.disagreed": (
        "find out at the API why its list contradicts itself. Meanwhile additions and changes count, and "
        "fires go on; a deletion is noticed when the automation is due. Automations whose run and GET "
        "answer 404 are read again, one after each poll; `list.agreed` follows when they answer or the "
        "list no longer shows them"
    ),
    "automations.disappeared": (
        "find out whether somebody deleted them, or whether the API's list, the project or the key is "
        "wrong. Automations that are in the list again fire again"
    ),
}
"""The advice for each log event."""

_MEND_CONNECTION: Final = "mend the API or the way to it"
_HOURS: Final = 24
LOOK_BACK: Final = timedelta(hours=_HOURS)
"""The stretch of the past whose outcomes and runs in the ledger are findings."""
_IN_LAST_DAY: Final = f"In the last {_HOURS} hours."
_PAUSED: Final = "Due occurrences are recorded and not fired."
_MAX_ITEMS: Final = 10
_MAX_FAILING: Final = 5  # each failing automation is a finding of its own
_TALLY_TEXTS: Final = {
    (Outcome.UNRESOLVED, None): (
        BAD,
        "occurrence.unresolved",
        "unresolved: nobody knows whether they started, and they are not sent again",
    ),
    (Outcome.REJECTED, None): (WARN, "occurrence.rejected", "refused by the API for good"),
    (Outcome.EXPIRED, None): (WARN, "occurrence.expired", "not started in time"),
    (Outcome.SKIPPED, Reason.MISSED): (WARN, "occurrence.skipped", "missed"),
}


@dataclass(frozen=True, slots=True)
class FindingItem:
    """One subject of a finding, with an optional longer text and a link to a page with more."""

    text: str
    more: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class PageFinding:
    """One finding. ``advice`` has code between backticks. ``more`` is the number of items not shown.

    ``is_missing`` means that the finding keeps the daemon from being ready.
    """

    severity: str
    title: str
    detail: str | None
    advice: str
    items: Sequence[FindingItem] = ()
    more: int = 0
    link: str | None = None
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """The recent facts in the ledger. ``error`` is the reason why a part of the ledger could not be read."""

    recent: RecentActivity | None = None
    failing: FailingAutomations | None = None
    error: str | None = None


def describe_warnings(status: DaemonStatus, ledger: LedgerReading) -> Sequence[str]:
    """Return, in words, the problems that do not affect readiness.

    The page shows the same findings.
    """
    findings = list_findings(status, (), ledger)
    return [
        f"{finding.title}. {finding.detail}" if finding.detail else finding.title
        for finding in findings
        if finding.severity in {BAD, WARN} and not finding.is_missing
    ]


def list_findings(
    status: DaemonStatus, invalid: Sequence[AutomationDetails], ledger: LedgerReading
) -> Sequence[PageFinding]:
    """Return all findings, the worst first. ``invalid`` contains the invalid automations to name."""
    findings = [*_check_daemon(status, ledger.error)]
    for target in status.targets:
        for check in (_check_snapshot, _check_progress, _check_places, _check_list):
            findings.extend(check(target))
    findings.extend(_check_invalid(status.targets, invalid))
    if ledger.failing is not None:
        findings.extend(_check_failing(ledger.failing, status.at))
    if ledger.recent is not None:
        findings.extend(_check_outcomes(ledger.recent))
        findings.extend(_check_foreign_runs(ledger.recent.foreign))
        findings.extend(_check_pauses(ledger.recent.pauses))
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def _make_missing(title: str, detail: str, advice: str) -> PageFinding:
    """Return a finding that keeps the daemon from being ready."""
    return PageFinding(BAD, title, detail, advice, is_missing=True)


def _make_list(
    severity: str,
    title: str,
    detail: str | None,
    advice: str,
    items: Sequence[FindingItem],
    *,
    count: int,
    link: str | None = None,
) -> PageFinding:
    """Return a finding with the first of its items. ``count`` is the number of all items."""
    shown = items[:_MAX_ITEMS]
    return PageFinding(severity, title, detail, advice, shown, count - len(shown), link)


def _check_daemon(status: DaemonStatus, ledger_error: str | None) -> Iterator[PageFinding]:
    if status.lock_holder is not None:
        detail = f"The holder is {status.lock_holder}."
        yield _make_missing("Another daemon holds the ledger", detail, _advise("daemon.waiting"))
    if status.ledger_error is not None:
        yield _make_missing("The ledger cannot be written", status.ledger_error, _advise("ledger.failed"))
    if status.clock_in_doubt:
        doubt = "It stepped forward, or shows less than the ledger has seen"
        detail = f"{doubt}, and no API has confirmed it yet."
        yield _make_missing("The clock is in doubt", detail, _advise("clock.jumped"))
    is_explained = status.ledger_error is not None or status.lock_holder is not None
    if ledger_error is not None and not is_explained and status.targets:
        advice = "fires go on; the page shows the occurrences again when the ledger can be read"
        yield PageFinding(WARN, "The ledger cannot be read now", ledger_error, advice)
    if status.stopping:
        detail = "The daemon claims no more occurrences. Attempts in flight get time to end."
        advice = "start the daemon again when you need it"
        yield PageFinding(NOTE, "The daemon is stopping", detail, advice)


def _check_snapshot(target: TargetStatus) -> Iterator[PageFinding]:
    name = f"Target {target.name}"
    if target.held is not None:
        yield _make_missing(f"{name} is held: nothing is sent to it", target.held, _advise("target.held"))
    elif target.snapshot_at is None:
        if target.error is not None:
            yield _make_missing(f"{name} has never been read", target.error, _MEND_CONNECTION)
    elif target.stale:
        since = to_text_seconds(target.snapshot_at)
        detail = f"The newest snapshot is from {since}: {target.error or 'no poll has succeeded since'}"
        yield _make_missing(f"{name}: its newest snapshot is too old to fire by", detail, _MEND_CONNECTION)
    elif target.error is not None and target.throttled_until is None:
        yield PageFinding(WARN, f"{name} cannot be read now", target.error, _advise("snapshot.failed"))


def _check_progress(target: TargetStatus) -> Iterator[PageFinding]:
    if target.stalled_for >= STALLED_AFTER:
        title = f"Target {target.name}: planning has stopped although occurrences are due"
        passed = f"Planning has made no progress for {target.stalled_for:.0f} s"
        detail = f"{passed}: the ledger does not answer, or the daemon is overloaded."
        advice = "see the log, and check the speed of the ledger's disk"
        yield _make_missing(title, detail, f"{advice}; under systemd, the watchdog restarts the daemon")
    if target.overdue_count:
        title = f"{pluralize(target.overdue_count, 'occurrence')} of target {target.name} overdue"
        items = [FindingItem(occurrence) for occurrence in target.overdue]
        yield _make_list(BAD, title, None, _advise("occurrence.overdue"), items, count=target.overdue_count)
    if (past := target.recovering) is not None:
        automations = pluralize(past.automations, "automation")
        title = f"Target {target.name} is recovering {automations} from a downtime"
        span = f"From {to_text_seconds(past.since)} up to {to_text_seconds(past.until)}"
        advice = "nothing: present occurrences go first, and the past is recorded slice by slice"
        yield PageFinding(NOTE, title, f"{span} not everything is on record yet.", advice)


def _check_list(target: TargetStatus) -> Iterator[PageFinding]:
    """Yield the problems of the list itself, although the list could be read."""
    if target.unidentified:
        objects = f"{pluralize(target.unidentified, 'object')} in the list of target {target.name}"
        title = f"{objects} cannot be identified and never fire{'s' * (target.unidentified == 1)}"
        items = [FindingItem(description) for description in target.anonymous]
        advice = _advise("automations.unidentified")
        yield _make_list(WARN, title, None, advice, items, count=target.unidentified)
    if target.inconsistent is not None:
        title = f"The list of target {target.name} cannot be trusted"
        detail = f"Since {to_text_seconds(target.inconsistent.since)}: {target.inconsistent.reason}."
        yield PageFinding(WARN, title, detail, _advise("list.disagreed"))
    if target.disappeared is not None:
        gone, known = target.disappeared.gone, target.disappeared.known
        title = f"{gone:,} of {known:,} automations of target {target.name} disappeared within an hour"
        at = to_text_seconds(target.disappeared.at)
        detail = f"At {at}. {target.absent:,} of them are not removed yet."
        yield PageFinding(WARN, title, detail, _advise("automations.disappeared"))


def _check_invalid(
    targets: Sequence[TargetStatus], invalid: Sequence[AutomationDetails]
) -> Iterator[PageFinding]:
    for target in targets:
        count = target.automations.get("invalid", 0)
        if count:
            automations = f"{pluralize(count, 'automation')} of target {target.name}"
            title = f"{automations} cannot be evaluated and never fire{'s' * (count == 1)}"
            items = [
                FindingItem(details.name, details.invalid, make_automation_link(details.target, details.id))
                for details in invalid
                if details.target == target.name
            ]
            link = f"/automations?{urlencode({'target': target.name, 'state': 'invalid'})}"
            advice = _advise("automation.quarantined")
            yield _make_list(WARN, title, None, advice, items, count=count, link=link)


def _check_failing(failing: FailingAutomations, now: datetime) -> Iterator[PageFinding]:
    named, advice = failing.newest[:_MAX_FAILING], _advise("run.finished")
    for run in named:
        in_a_row = f"{run.failures:,} failures in a row, the newest" if run.failures > 1 else "At"
        finished = DisplayTime(run.finished_at, now)
        link = make_automation_link(run.target, run.automation_id)
        ended = "was lost" if run.status is RunStatus.LOST else "failed"
        title, detail = f"The newest finished run of {run.name} {ended}", f"{in_a_row} {finished.utc}"
        item = FindingItem(f"run {run.run_id}", run.error, link)
        yield PageFinding(BAD, title, f"{detail} ({finished.relative}).", advice, [item])
    if (more := failing.count - len(named)) > 0:
        title = f"The newest finished run of {pluralize(more, 'more automation')} failed or was lost"
        yield PageFinding(BAD, title, None, advice, link=f"/automations?{urlencode({'result': FAILING})}")


def _check_places(target: TargetStatus) -> Iterator[PageFinding]:
    places, name = target.places, f"Target {target.name}"
    if target.throttled_until is not None:
        title = f"{name} waits until {to_text_seconds(target.throttled_until)}: nothing is sent to it"
        detail = "The API answered 429, and asked for no request before this time."
        yield PageFinding(WARN, title, detail, _advise("target.throttled"))
    if places.saturated_since is not None:
        hanging = pluralize(places.hanging, "request")
        title = f"{name} is saturated: {hanging} hang, as many as max_waiting allows"
        detail = f"Since {to_text_seconds(places.saturated_since)}."
        yield PageFinding(WARN, title, detail, _advise("target.saturated"))
    if places.exhausted_since is not None:
        title = f"The request budget of target {target.name} is exhausted: occurrences or polls wait for it"
        waiting = pluralize(places.waiting, "occurrence")
        detail = f"Since {to_text_seconds(places.exhausted_since)}. {waiting} waiting now."
        yield PageFinding(WARN, title, detail, _advise("budget.exhausted"))


def _check_outcomes(recent: RecentActivity) -> Iterator[PageFinding]:
    for (outcome, reason), (severity, event, words) in _TALLY_TEXTS.items():
        tallies = [
            tally for tally in recent.tallies if tally.outcome is outcome and reason in {None, tally.reason}
        ]
        if tallies:
            title = f"{pluralize(sum(tally.count for tally in tallies), 'occurrence')} {words}"
            items = [FindingItem(_describe_tally(tally)) for tally in tallies]
            link = f"/occurrences?{urlencode({'outcome': outcome, 'since': to_text_seconds(recent.since)})}"
            yield PageFinding(severity, title, _IN_LAST_DAY, _advise(event), items, link=link)


def _describe_tally(tally: OutcomeTally) -> str:
    newest = to_text_seconds(tally.newest)
    return f"{tally.count:,} of target {tally.target} ({tally.reason}), the newest for {newest}"


def _check_foreign_runs(foreign: Sequence[ForeignRunTally]) -> Iterator[PageFinding]:
    doubled = [_make_run_item(runs, runs.doubled) for runs in foreign if runs.doubled]
    alone = [_make_run_item(runs, runs.count - runs.doubled) for runs in foreign if runs.count > runs.doubled]
    late_doubles = sum(runs.doubled for runs in foreign)
    if doubled:
        doubles = pluralize(late_doubles, "late double")
        title = f"{doubles}: an attempt was carried out long after it was given up"
        yield PageFinding(BAD, title, _IN_LAST_DAY, _advise("run.doubled"), doubled)
    if alone:
        others = pluralize(sum(runs.count for runs in foreign) - late_doubles, "run")
        title = f"{others} that this scheduler did not start"
        detail = f"Another scheduler or a person started them. {_IN_LAST_DAY}"
        yield PageFinding(WARN, title, detail, _advise("run.foreign"), alone)


def _make_run_item(runs: ForeignRunTally, count: int) -> FindingItem:
    newest = "" if runs.newest is None else f", the newest began {to_text_seconds(runs.newest)}"
    link = make_automation_link(runs.target, runs.automation_id)
    return FindingItem(runs.name, f"{count:,} on target {runs.target}{newest}", link)


def _check_pauses(pauses: Sequence[OperatorPause]) -> Iterator[PageFinding]:
    items = []
    for pause in pauses:
        by = f"{pause.by}, since {to_text_seconds(pause.since)}"
        if pause.automation_id is None:
            title = f"All automations of target {pause.target} are paused"
            yield PageFinding(NOTE, title, f"By {by}. {_PAUSED}", f"{resume_all(pause.target)} ends it")
        else:
            link = make_automation_link(pause.target, pause.automation_id)
            items.append(FindingItem(pause.name, f"by {by}", link))
    if items:
        title = f"{pluralize(len(items), 'automation')} paused by hand"
        advice = f"`{format_command('resume AUTOMATION')}` ends it"
        yield _make_list(NOTE, title, _PAUSED, advice, items, count=len(items))


def _advise(event: str) -> str:
    return complete_commands(ADVICE[event])
