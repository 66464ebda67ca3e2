"""Which run of the embedded API a command means: by its id, by the first characters of its id, or by its automation."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import Candidate, advise, last_with, read_prefix, refuse_ambiguous
from scheduler.cli.times import in_zone
from scheduler.core.command_line import command_line
from scheduler.core.instants import from_text
from scheduler.core.model import InvalidAutomation, canonical_id
from scheduler.localapi.runs import RunQueue

_MOST: Final = 100
"""Candidates that are read."""


async def identify_run(queue: RunQueue, text: str, *, by_name: bool = False) -> str:
    """Return the id of the run that is meant; ``by_name``: also the newest run of the automation with this name or id.

    Raises `AnswerIsNo` when there is none, or are several. Without ``by_name`` a whole id is returned as it is.
    """
    whole = _read_id(text)
    if whole is not None and (not by_name or await queue.run(whole)):
        return whole
    named = await queue.named(whole or text) if by_name else []
    if (prefix := read_prefix(text)) and whole is None and not named:
        found = await queue.with_prefix(prefix, last_with(prefix), _MOST)
        if len(found) > 1:
            raise refuse_ambiguous(text, [_candidate(run) for run in found], kind="runs")
        if found:
            return str(found[0]["id"])
    if not by_name:
        advice = advise(text, (), f"{see_list()}, or name an automation with --automation")
        raise AnswerIsNo(f"there is no run {text!r}; {advice}")
    return await _find_newest_run(queue, text, named or await _find_once_named(queue, whole or await widen_automation(queue, text)))


async def _find_newest_run(queue: RunQueue, text: str, automations: Sequence[Mapping[str, Any]]) -> str:
    """Return the id of the newest run of the one automation. Raises `AnswerIsNo` for none, for several and for one without a run."""
    newest = {each["id"]: await queue.runs(automation=each["id"], limit=1) for each in automations[:_MOST]}
    if len(newest) > 1:
        candidates = [Candidate(each["id"], each["name"], _describe_newest(newest[each["id"]])) for each in automations[:_MOST]]
        raise refuse_ambiguous(text, candidates)
    found = [run for runs in newest.values() for run in runs]
    if found:
        return str(found[0]["id"])
    if automations:
        start = command_line(f"automations run {automations[0]['id']}")
        raise AnswerIsNo(f"the automation {text!r} has no run yet; start one with `{start}`")
    raise AnswerIsNo(f"there is no run {text!r}; {await advise_on(queue, text)}")


async def _find_once_named(queue: RunQueue, text: str) -> list[Mapping[str, Any]]:
    """Return the automations whose runs show this name or automation id, deleted automations too: ``id`` and ``name``."""
    runs = await queue.runs(automation=text, limit=_MOST)
    return list({run["automation_id"]: {"id": run["automation_id"], "name": run["name"]} for run in runs}.values())


def _read_id(text: str) -> str | None:
    """Return the text in the usual form of an id; None when the text is no id."""
    try:
        return canonical_id(text)
    except InvalidAutomation:
        return None


async def advise_on(queue: RunQueue, text: str) -> str:
    """Return what to do about a text that means no run and no automation."""
    return advise(text, await queue.automation_names(), see_list())


def _candidate(run: Mapping[str, Any]) -> Candidate:
    return Candidate(run["id"], run["name"], _describe(run))


def _describe(run: Mapping[str, Any]) -> str:
    return f"{run['status']}, created {in_zone(from_text(run['created_at']), 'UTC')}"


def _describe_newest(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"newest run {_describe(runs[0])}" if runs else "no run"


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


def see_list() -> str:
    """Return the advice for somebody who looks for a run."""
    return f"see `{command_line('runs list')}`"
