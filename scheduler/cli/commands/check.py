"""``scheduler check``: the doctor."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerCommand, Source, as_json
from scheduler.cli.output import Colour, Json, make_progress_printer, print_json, print_line, style
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
_INDENT: Final = 11  # what the status takes, with its margins
_MAX_FINDINGS: Final = 20  # of one check and one status, that a person reads


@click.command("check", cls=SchedulerCommand, section="Setup", examples=_EXAMPLES)
@as_json
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """Examine the whole installation, and say what is wrong and what to do.

    Looks at the configuration, the keys and their scopes, the way to every API, clocks, zone data, the ledger, the daemon, the addresses
    that are listened on, the embedded API, every automation's schedule and newest finished run, the rate budget, and signs of another
    scheduler. Works whether the daemon runs or not. Starts nothing and changes nothing. Takes a minute or two at the most, whatever hangs.

    Exit status: 0 when there is no fault, warnings or not; 1 when there is one, a mistake in the configuration and an API that cannot be
    reached among them; 2 when there is no configuration to be read. With --json, a line for each finding:
    {"check", "subject", "status", "finding", "advice"}, the status one of ok, notice, warning and fault.
    """
    import asyncio

    from scheduler.cli.doctor_inputs import examine_installation
    from scheduler.doctor.checks import run_checks
    from scheduler.doctor.findings import Status

    source: Source = context.obj
    found = list(run_checks(asyncio.run(examine_installation(source, make_progress_printer("examined")))))
    if as_json:
        for each in found:
            print_json(_make_json(each))
    else:
        _print(found)
    if any(each.status is Status.FAULT for each in found):
        context.exit(ANSWER_IS_NO)


def _make_json(each: "CheckFinding") -> Json:
    return {
        "check": each.check,
        "subject": each.subject,
        "status": each.status,
        "finding": each.finding,
        "advice": each.advice,
    }


def _print(found: "Sequence[CheckFinding]") -> None:
    for check, group in groupby(found, key=lambda each: each.check):
        print_line(check)
        for text in _format_findings(group):
            print_line(text)
        print_line()
    print_line(_format_summary(found))


def _format_findings(group: "Iterable[CheckFinding]") -> Iterator[str]:
    """The findings of one check; of those of one status, the first ones."""
    shown: dict[str, int] = {}
    for each in group:
        shown[each.status] = shown.get(each.status, 0) + 1
        if shown[each.status] <= _MAX_FINDINGS:
            yield from _format_finding(each)
    for status, number in shown.items():
        if number > _MAX_FINDINGS:
            yield f"{'':{_INDENT}}and {number - _MAX_FINDINGS:,} more of {status}; --json prints all of them"


def _format_finding(each: "CheckFinding") -> Iterator[str]:
    yield f"  {style(f'{each.status:<7}', _COLOURS[each.status])}  {to_printable(f'{each.subject}: {each.finding}')}"
    if each.advice:
        yield f"{'':{_INDENT}}→ {to_printable(each.advice)}"


def _format_summary(found: "Sequence[CheckFinding]") -> str:
    from scheduler.doctor.findings import Status, count_by_status

    counts = count_by_status(found)
    texts = [
        _format_count(counts[status], status)
        for status in reversed(Status)
        if counts[status] and status is not Status.OK
    ]
    if not texts:
        return style("all is well", "green")
    return ", ".join(texts)


def _format_count(number: int, status: str) -> str:
    return style(pluralize(number, status), _COLOURS[status])
