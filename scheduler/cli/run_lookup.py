"""Which run of the embedded API a command means: by its id, by the first characters of its id, or by its automation's name."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import Candidate, last_with, read_prefix, refuse_ambiguous, suggest
from scheduler.cli.times import in_zone
from scheduler.core.instants import from_text
from scheduler.core.model import InvalidAutomation, canonical_id
from scheduler.localapi.runs import RunQueue

_MOST: Final = 100
"""Candidates that are read."""


async def identify_run(queue: RunQueue, text: str, *, by_name: bool = False) -> str:
    """Return the id of the run that is meant; ``by_name``: also the newest run of the automation with this name.

    Raises `AnswerIsNo` when there is none, or are several. A whole id is returned as it is.
    """
    with suppress(InvalidAutomation):
        return canonical_id(text)
    named = await queue.named(text) if by_name else []
    if (prefix := read_prefix(text)) and not named:
        found = await queue.with_prefix(prefix, last_with(prefix), _MOST)
        if len(found) > 1:
            raise refuse_ambiguous(text, [_candidate(run) for run in found], kind="runs")
        if found:
            return str(found[0]["id"])
    if not by_name:
        raise AnswerIsNo(f"there is no run {text!r}; see `scheduler runs list`, or name an automation with --automation")
    # With the ids no name is read as a pattern, as `report [eu]` could be.
    of_each = [await queue.runs(automation=wanted, limit=1) for wanted in ([each["id"] for each in named] or [text])]
    newest = [run for runs in of_each for run in runs]
    if not newest:
        near = await suggest_names(queue, text)
        raise AnswerIsNo(f"there is no run {text!r}; {near or 'see `scheduler runs list`'}")
    return str(max(newest, key=lambda run: str(run["created_at"]))["id"])


async def suggest_names(queue: RunQueue, text: str) -> str:
    """Return a question after the names of automations like the text; an empty text when there are none."""
    near = suggest(text, await queue.automation_names())
    return f"did you mean {near}?" if near else ""


def _candidate(run: Mapping[str, Any]) -> Candidate:
    return Candidate(run["id"], run["name"], f"{run['status']}, created {in_zone(from_text(run['created_at']), 'UTC')}")


async def widen_automation(queue: RunQueue, text: str) -> str:
    """Return the id of the automation that begins with the text, unless an automation is called so; else the text itself.

    Raises `AnswerIsNo` when several ids begin with it.
    """
    prefix = read_prefix(text)
    if prefix is None or await queue.named(text):
        return text
    found = await queue.automations_with_prefix(prefix, last_with(prefix), _MOST)
    if len(found) > 1:
        raise refuse_ambiguous(text, [Candidate(each["id"], each["name"]) for each in found])
    return str(found[0]["id"]) if found else text
