"""``scheduler check``: the doctor."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import Command, Source, as_json
from scheduler.cli.output import Colour, Json, line, print_json, progress, styled
from scheduler.core.plural import pluralize
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    from scheduler.doctor.findings import Finding

_EXAMPLES = (
    "scheduler check",
    "scheduler check --state-dir var",
    """scheduler check --json | jq -r 'select(.status == "fault") | .advice'""",
)
_COLOURS: Final[dict[str, Colour]] = {"ok": "green", "notice": "cyan", "warning": "yellow", "fault": "red"}
_INDENT: Final = 11  # what the status takes, with its margins
_MOST: Final = 20  # of one check and one status, that a person reads


@click.command("check", cls=Command, section="Setup", examples=_EXAMPLES)
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

    from scheduler.cli.checking import examined
    from scheduler.doctor.checks import findings
    from scheduler.doctor.findings import Status

    source: Source = context.obj
    found = list(findings(asyncio.run(examined(source, progress("examined")))))
    if as_json:
        for each in found:
            print_json(_json(each))
    else:
        _print(found)
    if any(each.status is Status.FAULT for each in found):
        context.exit(ANSWER_IS_NO)


def _json(each: "Finding") -> Json:
    return {"check": each.check, "subject": each.subject, "status": each.status, "finding": each.finding, "advice": each.advice}


def _print(found: "Sequence[Finding]") -> None:
    for check, group in groupby(found, key=lambda each: each.check):
        line(check)
        for text in _lines(group):
            line(text)
        line()
    line(_summary(found))


def _lines(group: "Iterable[Finding]") -> Iterator[str]:
    """The findings of one check; of those of one status, the first ones."""
    shown: dict[str, int] = {}
    for each in group:
        shown[each.status] = shown.get(each.status, 0) + 1
        if shown[each.status] <= _MOST:
            yield from _of(each)
    for status, number in shown.items():
        if number > _MOST:
            yield f"{'':{_INDENT}}and {number - _MOST:,} more of {status}; --json prints all of them"


def _of(each: "Finding") -> Iterator[str]:
    yield f"  {styled(f'{each.status:<7}', _COLOURS[each.status])}  {escaped(f'{each.subject}: {each.finding}')}"
    if each.advice:
        yield f"{'':{_INDENT}}→ {escaped(each.advice)}"


def _summary(found: "Sequence[Finding]") -> str:
    from scheduler.doctor.findings import Status, counted

    counts = counted(found)
    texts = [_count(counts[status], status) for status in reversed(Status) if counts[status] and status is not Status.OK]
    if not texts:
        return styled("all is well", "green")
    return ", ".join(texts)


def _count(number: int, status: str) -> str:
    return styled(pluralize(number, status), _COLOURS[status])
