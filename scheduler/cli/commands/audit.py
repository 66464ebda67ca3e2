"""``scheduler audit``: compare the ledger with the occurrences that the recorded definitions imply."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import click

from scheduler.audit.findings import BAD_KINDS, AuditFinding, FindingKind, format_counts
from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.options import add_utc_option, filter_by_automation, filter_by_target, make_time_option
from scheduler.cli.output import (
    Colour,
    Json,
    make_progress_printer,
    print_json,
    print_lines,
    print_to_stderr,
    style,
)
from scheduler.cli.times import format_machine_and_utc, format_zone_and_utc, now
from scheduler.core.instants import to_optional_text, to_text, to_text_seconds
from scheduler.core.quantities import pluralize
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.audit.runner import AuditBounds, AuditSummary

_EXAMPLES = (
    "scheduler audit --state-dir var --since 24h",
    (
        "scheduler audit --automation 'nightly-*' --since 2026-11-01T00:00:00Z --until "
        "2026-11-08T00:00:00Z --json"
    ),
)
_COLOURS: Final[dict[str, Colour]] = {
    "missing": "red",
    "double": "red",
    "unexplained": "red",
    "differently": "yellow",
}
_MAX_FINDINGS: Final = 200  # enough for a person

ZoneReader = Callable[[str, str], str | None]
"""A function from the target and the id of an automation to the automation's time zone."""


@click.command("audit", cls=SchedulerCommand, section="Record", examples=_EXAMPLES)
@make_time_option("--since", "Audit occurrences scheduled at this time or later.", required=True)
@make_time_option("--until", "Audit occurrences scheduled before this time. Default: now.")
@filter_by_automation
@filter_by_target
@click.option("--offline", is_flag=True, help="Do not ask the API for the newest runs.")
@add_utc_option
@as_json
@click.pass_obj
def command(
    source: Source,
    *,
    since: datetime,
    until: datetime | None,
    automation: str | None,
    target: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Prove that no occurrence is missing and none ran twice.

    The audit derives all occurrences from the recorded definitions, and compares them with the ledger. Each
    occurrence must have one outcome and at most one run. Each outcome must have an explanation. Each run of
    the API must be known. The output lists every fault with advice, and ends with a summary.

    The command works with and without a running daemon, and changes nothing. Exit status 1: an occurrence is
    missing, double or unexplained.
    """
    from scheduler.audit.runner import Audit, AuditRequest
    from scheduler.cli.audit_inputs import compare_with_api, find_patience
    from scheduler.cli.ledger_file import act_as_ledger_owner, make_ledger_collection, open_read_only
    from scheduler.cli.lookup import expand_prefix, make_unknown_error

    settings, at = source.load().settings, now()
    path = settings.ledger.url.path
    with open_read_only(path) as connection:
        if automation is not None:
            automation = expand_prefix(make_ledger_collection(connection, target), automation)
    wanted = AuditRequest(
        since=since,
        until=until or at,
        now=at,
        target=target,
        automation=automation,
        patience=partial(find_patience, settings),
    )
    if wanted.until <= wanted.since:
        raise click.UsageError("--until is not later than --since")
    notes = ["the API was not asked for the newest runs"] if offline else []
    read_zone = _make_zone_reader(path)
    with act_as_ledger_owner(path):
        audit = Audit(path, wanted)
        if automation is not None and not audit.summary.automations:
            with open_read_only(path) as connection:
                raise make_unknown_error(make_ledger_collection(connection, target), automation)
        shown = _show(audit.run(make_progress_printer("audited")), read_zone, as_json=as_json)
    if not offline:
        shown = _show(compare_with_api(settings, path, audit, notes), read_zone, shown, as_json=as_json)
    if shown > _MAX_FINDINGS and not as_json:
        print_to_stderr(f"and {shown - _MAX_FINDINGS:,} more; --json prints all of them")
    _print_summary(audit.summary, notes, as_json=as_json)
    if BAD_KINDS & audit.summary.kinds.keys():
        raise click.exceptions.Exit(ANSWER_IS_NO)


def _make_zone_reader(path: "Path") -> ZoneReader:
    """Return a function that reads the time zone of the automation with this target and id.

    Audits with findings have some hundred of these automations at most.
    """
    from scheduler.cli.ledger_file import open_read_only
    from scheduler.ledger.history import read_timezones

    @cache
    def read_zone(target: str, automation_id: str) -> str | None:
        with open_read_only(path) as connection:
            timezones = read_timezones(connection, [{"target": target, "automation_id": automation_id}])
        return timezones[target, automation_id]

    return read_zone


def _show(findings: Iterator[AuditFinding], read_zone: ZoneReader, shown: int = 0, *, as_json: bool) -> int:
    """Print findings, and return how many there are with the earlier ones.

    ``shown``: the number of earlier findings. Without ``as_json``, only the first `_MAX_FINDINGS` are
    printed.
    """
    for finding in findings:
        shown += 1
        if as_json:
            print_json(_make_json(finding))
        elif shown <= _MAX_FINDINGS:
            print_lines(_format_finding(finding, read_zone))
    return shown


def _make_json(finding: AuditFinding) -> Json:
    facts = asdict(finding)
    at = None if finding.scheduled_for is None else to_text_seconds(finding.scheduled_for)
    return {"finding": facts.pop("kind"), **facts, "scheduled_for": at}


def _format_finding(finding: AuditFinding, read_zone: ZoneReader) -> Iterator[str]:
    at = ""
    if finding.scheduled_for is not None:
        zone = read_zone(finding.target, finding.automation_id)
        at = f"  {format_zone_and_utc(finding.scheduled_for, zone)}"
    kind = style(f"{finding.kind:<11}", _COLOURS[finding.kind])
    name, target = to_printable(finding.name), to_printable(finding.target)
    yield f"{kind}{at}  {name} ({finding.automation_id}, target {target})"
    yield f"             {to_printable(finding.text)}"
    yield f"             {to_printable(finding.advice)}"


# ---------------------------------------------------------------- the summary


def _print_summary(summary: "AuditSummary", notes: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(_make_summary_json(summary, notes))
        return
    print_lines(map(_format_bounds, summary.bounds))
    print_lines(_format_summary(summary))
    print_lines(map(to_printable, notes))


def _format_bounds(bounds: "AuditBounds") -> str:
    name, watermark = to_printable(bounds.target.name), bounds.target.watermark
    pruned_before = bounds.pruned_before
    if bounds.is_empty:
        reason = f"decided up to {to_text(watermark)}" if watermark else "nothing has been decided yet"
        removed = f"; rows older than {to_text(pruned_before)} may have been removed" if pruned_before else ""
        return f"target {name}: nothing to audit: {reason}{removed}"
    since, end = format_machine_and_utc(bounds.since), format_machine_and_utc(bounds.end)
    is_pruned = pruned_before is not None and bounds.begin < pruned_before
    removed = "; older rows may have been removed for their age" if is_pruned else ""
    undecided = "" if bounds.is_complete else "; later occurrences are not decided yet"
    return f"target {name}: audited from {since} up to {end}{removed}{undecided}"


def _format_summary(summary: "AuditSummary") -> Iterator[str]:
    by_outcome: Counter[str] = Counter()
    for (outcome, _), number in summary.outcomes.items():
        by_outcome[outcome or "open"] += number
    outcomes = ", ".join(f"{outcome} {number:,}" for outcome, number in by_outcome.most_common())
    occurrences = pluralize(summary.outcomes.total(), "occurrence")
    of = f"{occurrences} of {pluralize(summary.automations, 'automation')}"
    yield of + (f": {outcomes}" if outcomes else "")
    if summary.undecided:
        undecided = pluralize(summary.undecided, "occurrence")
        yield f"{undecided} not decided yet: the daemon recovers from a downtime, slice by slice"
    is_clean = not BAD_KINDS & summary.kinds.keys()
    verdict = style("clean", "green") if is_clean else style("not clean", "red")
    yield f"{verdict}: {format_counts(summary.kinds)}"


def _make_summary_json(summary: "AuditSummary", notes: list[str]) -> Json:
    return {
        "summary": {
            "targets": [
                {
                    "target": bounds.target.name,
                    "since": to_text(bounds.since),
                    "up_to": None if bounds.is_empty else to_text(bounds.end),
                    "watermark": to_optional_text(bounds.target.watermark),
                    "pruned_before": to_optional_text(bounds.pruned_before),
                }
                for bounds in summary.bounds
            ],
            "automations": summary.automations,
            "occurrences": summary.outcomes.total(),
            "outcomes": [
                {"outcome": outcome, "reason": reason, "count": number}
                for (outcome, reason), number in sorted(summary.outcomes.items(), key=str)
            ],
            "undecided": summary.undecided,
            "findings": {kind: summary.kinds[kind] for kind in FindingKind},
            "notes": notes,
        }
    }
