"""``scheduler check``: examine the installation with the checks of `scheduler.doctor`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.output import Colour, make_progress_printer, print_json, print_line, print_lines, style
from scheduler.core.quantities import pluralize
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.doctor.findings import CheckFinding

_EXAMPLES = (
    "scheduler check",
    "scheduler check --state-dir var",
    """scheduler check --json | jq -r 'select(.status == "fault") | .advice'""",
)
_COLOURS: Final[dict[str, Colour]] = {"ok": "green", "notice": "cyan", "warning": "yellow", "fault": "red"}
_INDENT: Final = 11  # the width of the status, with its margins
_MAX_FINDINGS: Final = 20  # per check and status, for a person


@click.command("check", cls=SchedulerCommand, section="Setup", examples=_EXAMPLES)
@as_json
@click.pass_obj
def command(source: Source, *, as_json: bool) -> None:
    """Check the installation, and print problems and remedies.

    The checks cover the configuration, the keys and their scopes, the connection to every API, the clocks,
    the zone data, the ledger, the daemon, the listen addresses, the embedded API, the schedule and the newest
    finished run of every automation, the request budget, and signs of another scheduler. The command works
    with and without a running daemon. It starts nothing and changes nothing. It takes about two minutes at
    most, even if a server hangs.

    Exit status 0: no fault; warnings are possible. 1: at least one fault, for example a mistake in the
    configuration, or an API that cannot be reached. 2: no readable configuration.

    With --json, one line per finding: {"check", "subject", "status", "finding", "advice"}. The status is ok,
    notice, warning or fault.
    """
    import asyncio

    from scheduler.cli.doctor_inputs import examine_installation
    from scheduler.doctor.checks import run_checks
    from scheduler.doctor.findings import Status

    findings = list(run_checks(asyncio.run(examine_installation(source, make_progress_printer("examined")))))
    if as_json:
        for finding in findings:
            print_json(asdict(finding))
    else:
        _print(findings)
    if any(finding.status is Status.FAULT for finding in findings):
        raise click.exceptions.Exit(ANSWER_IS_NO)


def _print(findings: "Sequence[CheckFinding]") -> None:
    for check, group in groupby(findings, key=lambda finding: finding.check):
        print_line(check)
        print_lines(_format_findings(group))
        print_line()
    print_line(_format_summary(findings))


def _format_findings(group: "Iterable[CheckFinding]") -> Iterator[str]:
    """Yield the lines for the findings of one check; per status, only the first findings."""
    shown: Counter[str] = Counter()
    for finding in group:
        shown[finding.status] += 1
        if shown[finding.status] <= _MAX_FINDINGS:
            yield from _format_finding(finding)
    for status, number in shown.items():
        if number > _MAX_FINDINGS:
            yield f"{'':{_INDENT}}and {number - _MAX_FINDINGS:,} more of {status}; --json prints all of them"


def _format_finding(finding: "CheckFinding") -> Iterator[str]:
    status = style(f"{finding.status:<7}", _COLOURS[finding.status])
    yield f"  {status}  {to_printable(f'{finding.subject}: {finding.finding}')}"
    if finding.advice:
        yield f"{'':{_INDENT}}→ {to_printable(finding.advice)}"


def _format_summary(findings: "Sequence[CheckFinding]") -> str:
    from scheduler.doctor.findings import Status

    counts = Counter(finding.status for finding in findings)
    statuses = [status for status in reversed(Status) if counts[status] and status is not Status.OK]
    texts = [style(pluralize(counts[status], status), _COLOURS[status]) for status in statuses]
    return ", ".join(texts) or style("all is well", "green")
