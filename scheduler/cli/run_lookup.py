"""The search for a run of the embedded API: by id, by the first characters of the id, or by automation."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import Candidate, advise, make_ambiguous_error, make_prefix_end, read_prefix
from scheduler.cli.times import format_in_zone
from scheduler.core.command_line import format_command
from scheduler.core.instants import from_text
from scheduler.core.model import InvalidAutomation, to_canonical_id
from scheduler.localapi.runs import RunQueue

_MAX_CANDIDATES: Final = 100
"""Maximum number of candidates to read."""


async def identify_run(queue: RunQueue, text: str, *, by_name: bool = False) -> str:
    """Return the id of the run that matches the text.

    ``by_name``: also the newest run of the automation with this name or id. Without ``by_name``, a whole id
    is returned unchecked. Raises `AnswerIsNo` when no run matches, or several match.
    """
    whole = _read_id(text)
    if whole is not None and (not by_name or await queue.get_run(whole)):
        return whole
    named = await queue.find_automations(whole or text) if by_name else []
    if (prefix := read_prefix(text)) and whole is None and not named:
        found = await queue.list_runs_between(prefix, make_prefix_end(prefix), _MAX_CANDIDATES)
        if len(found) > 1:
            raise make_ambiguous_error(text, [_make_candidate(run) for run in found], kind="runs")
        if found:
            return str(found[0]["id"])
    if not by_name:
        advice = advise(text, (), f"{advise_run_list()}, or name an automation with --automation")
        raise AnswerIsNo(f"there is no run {text!r}; {advice}")
    return await _find_newest_run(
        queue,
        text,
        named or await _find_once_named(queue, whole or await expand_automation_prefix(queue, text)),
    )


async def _find_newest_run(queue: RunQueue, text: str, automations: Sequence[Mapping[str, Any]]) -> str:
    """Return the id of the newest run of the automation.

    Raises `AnswerIsNo` for no automation, for several automations, and for an automation without a run.
    """
    newest = {
        each["id"]: await queue.list_runs(automation=each["id"], limit=1)
        for each in automations[:_MAX_CANDIDATES]
    }
    if len(newest) > 1:
        candidates = [
            Candidate(each["id"], each["name"], _describe_newest(newest[each["id"]]))
            for each in automations[:_MAX_CANDIDATES]
        ]
        raise make_ambiguous_error(text, candidates)
    found = [run for runs in newest.values() for run in runs]
    if found:
        return str(found[0]["id"])
    if automations:
        start = format_command(f"automations run {automations[0]['id']}")
        raise AnswerIsNo(f"the automation {text!r} has no run yet; start one with `{start}`")
    raise AnswerIsNo(f"there is no run {text!r}; {await advise_on(queue, text)}")


async def _find_once_named(queue: RunQueue, text: str) -> list[Mapping[str, Any]]:
    """Return the automations whose runs show this name or automation id: ``id`` and ``name``.

    Deleted automations are included.
    """
    runs = await queue.list_runs(automation=text, limit=_MAX_CANDIDATES)
    return list(
        {run["automation_id"]: {"id": run["automation_id"], "name": run["name"]} for run in runs}.values()
    )


def _read_id(text: str) -> str | None:
    """Return an id in canonical form; None when the text is no id."""
    try:
        return to_canonical_id(text)
    except InvalidAutomation:
        return None


async def advise_on(queue: RunQueue, text: str) -> str:
    """Return the advice about a text that matches no run and no automation."""
    return advise(text, await queue.list_automation_names(), advise_run_list())


def _make_candidate(run: Mapping[str, Any]) -> Candidate:
    return Candidate(run["id"], run["name"], _describe(run))


def _describe(run: Mapping[str, Any]) -> str:
    return f"{run['status']}, created {format_in_zone(from_text(run['created_at']), 'UTC')}"


def _describe_newest(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"newest run {_describe(runs[0])}" if runs else "no run"


async def expand_automation_prefix(queue: RunQueue, text: str) -> str:
    """Return the id of the automation that begins with the text.

    Return the text itself when an automation has this name, or when no id begins with the text. Raises
    `AnswerIsNo` when several ids begin with the text.
    """
    prefix = read_prefix(text)
    if prefix is None or await queue.find_automations(text):
        return text
    found = await queue.list_automations_between(prefix, make_prefix_end(prefix), _MAX_CANDIDATES)
    if len(found) > 1:
        raise make_ambiguous_error(text, [Candidate(each["id"], each["name"]) for each in found])
    return str(found[0]["id"]) if found else text


def advise_run_list() -> str:
    """Return the advice for a search for a run."""
    return f"see `{format_command('runs list')}`"
