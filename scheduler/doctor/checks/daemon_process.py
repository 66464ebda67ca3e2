"""The daemon: whether a daemon runs and is ready.

The checks also compare the daemon's configuration and version with the configuration and version of this
command.
"""

from collections.abc import Iterator, Mapping

from scheduler.core.command_line import advise_log, advise_start_daemon, format_command
from scheduler.core.instants import to_text_seconds
from scheduler.core.quantities import pluralize
from scheduler.doctor.facts import Facts, LedgerFacts, ProcessFacts, UnknownFact
from scheduler.doctor.findings import CheckFinding, Subject, report_silence


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the daemon."""
    if facts.configuration is None:
        return
    if isinstance(facts.daemon, UnknownFact):
        yield _report_silence(facts, facts.daemon)
        return
    status = facts.daemon
    node = Subject(f"node {status.get('node')}")
    missing = status.get("missing")
    for problem in missing if isinstance(missing, list) else ():
        advice = "correct this; the daemon continues by itself. docs/runbooks.md explains each problem"
        yield node.fault(f"it is not ready: {problem}", advice)
    if status.get("version") != facts.version:
        finding = f"it runs version {status.get('version')}, and this command is {facts.version}"
        yield node.warning(finding, "restart the daemon")
    yield from _check_targets(facts, node)
    if status.get("ready"):
        yield node.ok(f"it runs and is ready, version {status.get('version')}")


def _report_silence(facts: Facts, unknown: UnknownFact) -> CheckFinding:
    process, ledger = facts.daemon_process, facts.ledger
    if facts.server == "silent" and isinstance(process, ProcessFacts):
        since = _describe_last_reading(facts)
        return report_silence(Subject("daemon"), "the daemon", process, "scheduler", since)
    if isinstance(ledger, LedgerFacts) and ledger.holder is not None:
        finding = f"process {ledger.holder} has the ledger, and no page of a daemon answers: {unknown.reason}"
        return Subject("daemon").warning(finding, f"{advise_log('scheduler')}, and compare [server] listen")
    start = advise_start_daemon()
    if facts.record is not None and facts.record.occurrences:
        return Subject("daemon").warning("no daemon runs, but one has run before: nothing is fired", start)
    return Subject("daemon").notice("no daemon runs: nothing is fired", start)


def _describe_last_reading(facts: Facts) -> str:
    """Describe the newest reading in the ledger; empty without a reading.

    As far as the ledger shows, the daemon has done nothing since.
    """
    targets = facts.record.targets if facts.record else ()
    newest = max((target.snapshot_at for target in targets if target.snapshot_at), default=None)
    return f"; its newest reading on record is of {to_text_seconds(newest)}" if newest else ""


def _check_targets(facts: Facts, node: Subject) -> Iterator[CheckFinding]:
    served = {
        (target.get("name"), target.get("url"), target.get("project_id")) for target in facts.daemon_targets
    }
    configured = {(target.name, target.url, target.project_id) for target in facts.settings.targets}
    if served and configured and served != configured:
        finding = f"it serves {', '.join(sorted(str(name) for name, *_ in served))} by another configuration"
        yield node.warning(finding, "restart it, or name its configuration by --config")
    for target in facts.settings.targets:
        state, subject = facts.get_daemon_target(target.name), Subject(f"target {target.name}")
        yield from _check_target_state(state, subject)
        yield from _check_progress(state, subject)


def _check_progress(state: Mapping[str, object], subject: Subject) -> Iterator[CheckFinding]:
    """Yield a fault for overdue occurrences, and a notice while the daemon recovers from a downtime."""
    overdue, recovering = state.get("overdue"), state.get("recovering")
    if isinstance(overdue, Mapping) and (count := overdue.get("count")):
        finding = f"{pluralize(int(count), 'occurrence is', 'occurrences are')} overdue"
        advice = f"see `{format_command('status')}` for the occurrences, and the log for the cause"
        yield subject.fault(finding, advice)
    if isinstance(recovering, Mapping):
        automations = pluralize(int(recovering.get("automations") or 0), "automation")
        missing = f"from {recovering.get('since')} up to {recovering.get('until')}"
        finding = f"recovering {automations} from a downtime: not on record yet {missing}"
        yield subject.notice(finding, "nothing: the daemon records the rest slice by slice")


def _check_target_state(state: Mapping[str, object], subject: Subject) -> Iterator[CheckFinding]:
    """Yield a warning for a throttled target, for an untrusted list, and for disappeared automations."""
    if until := state.get("throttled_until"):
        finding = f"nothing is sent until {until}: the API answered 429 and asked for this wait"
        advice = "lower requests_per_minute and requests_per_hour to what the API allows"
        yield subject.warning(finding, f"{advice}; it goes on by itself")
    if isinstance(doubt := state.get("inconsistent"), Mapping):
        finding = f"its list cannot be trusted since {doubt.get('since')}: {doubt.get('reason')}"
        advice = "find out at the API why its list contradicts itself"
        yield subject.warning(finding, f"{advice}; a deletion is noticed when the automation is due")
    if isinstance(gone := state.get("disappeared"), Mapping):
        finding = f"{gone.get('count')} of {gone.get('automations')} automations disappeared from its list"
        causes = "somebody deleted them, or whether the API's list, the project or the key is wrong"
        yield subject.warning(f"{finding} within an hour, at {gone.get('at')}", f"find out whether {causes}")
