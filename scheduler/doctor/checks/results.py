"""The results of runs: the failing automations in the ledger."""

from collections.abc import Iterator

from scheduler.core.command_line import format_command
from scheduler.core.instants import to_text_seconds
from scheduler.core.status import FinishedRun
from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import CheckFinding, Subject


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield a warning for each failing automation that the ledger facts name.

    An automation is failing when its newest finished run failed or was lost. One more warning counts the
    failing automations without a name in the facts.
    """
    if facts.record is None:
        return
    targets = {target.name for target in facts.settings.targets}
    failing = facts.record.failing
    named = [run for run in failing.newest if run.target in targets]
    for run in named:
        yield _warn_of_failure(run)
    more = sum(count for target, count in failing.counts.items() if target in targets) - len(named)
    if more > 0:
        finding = f"{more:,} more with a failed newest finished run"
        advice = f"see `{format_command('history --run-status failed')}`"
        yield Subject("automations").warning(finding, advice)
    if not named and not more:
        yield Subject("automations").ok("no newest finished run failed")


def _warn_of_failure(run: FinishedRun) -> CheckFinding:
    error = f": {run.error}" if run.error else ""
    finding = f"its newest finished run {run.description}, {to_text_seconds(run.finished_at)}{error}"
    look = f"see `{format_command(f'runs show {run.run_id}')}` where the embedded API runs it, else the API"
    again = f"`{format_command(f'automations run {run.automation_id}', target=run.target)}`"
    subject = Subject(f"automation {run.name} ({run.automation_id})")
    return subject.warning(finding, f"{look}; remove the cause, then {again}")
