"""The search for a run of the embedded API: by id, by the first characters of the id, or by automation."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.lookup import (
    AutomationCollection,
    Candidate,
    advise,
    expand_prefix,
    make_ambiguous_error,
    read_prefix,
)
from scheduler.cli.times import format_in_zone, now
from scheduler.core.automation_filter import find_id
from scheduler.core.command_line import format_command
from scheduler.core.instants import from_text
from scheduler.database import Database
from scheduler.localapi import automation_search
from scheduler.localapi.automation_search import AutomationName
from scheduler.localapi.runs import RunQueue, find_with_prefix

_MAX_CANDIDATES: Final = 100
"""Maximum number of candidates to read."""


def make_embedded_collection(connection: sqlite3.Connection) -> AutomationCollection[AutomationName]:
    """Make the collection of the embedded API, with deleted automations that have unfinished runs."""
    return AutomationCollection(
        " in the embedded API",
        partial(automation_search.find_named, connection),
        partial(automation_search.find_with_prefix, connection, limit=_MAX_CANDIDATES),
        partial(automation_search.read_names, connection),
        lambda automation: Candidate(*automation),
    )


async def identify_run(database: Database, text: str, *, by_name: bool = False) -> str:
    """Return the id of the run that matches the text.

    ``by_name``: also the newest run of the automation with this name or id. Without ``by_name``, a whole id
    is returned unchecked. Raises `AnswerIsNo` when no run matches, or several match.
    """
    queue, whole = RunQueue(database, now), find_id(text)
    if whole is not None and (not by_name or await queue.get_run(whole)):
        return whole
    named = automation_search.find_named
    automations = await database.browse(named, whole or text) if by_name else []
    if (prefix := read_prefix(text)) and whole is None and not automations:
        runs = await database.browse(find_with_prefix, prefix, _MAX_CANDIDATES)
        if len(runs) > 1:
            candidates = [Candidate(run["id"], run["name"], _describe(run)) for run in runs]
            raise make_ambiguous_error(text, candidates, kind="runs")
        if runs:
            return str(runs[0]["id"])
    if not by_name:
        advice = advise(text, (), f"{advise_run_list()}, or name an automation with --automation")
        raise AnswerIsNo(f"there is no run {text!r}; {advice}")
    automations = automations or await database.browse(_find_once_named, whole or text)
    return await _find_newest_run(database, text, automations)


def _find_once_named(connection: sqlite3.Connection, text: str) -> Sequence[AutomationName]:
    text = expand_prefix(make_embedded_collection(connection), text)
    return automation_search.find_in_runs(connection, text, _MAX_CANDIDATES)


async def _find_newest_run(database: Database, text: str, automations: Sequence[AutomationName]) -> str:
    """Return the id of the newest run of the automation.

    Raises `AnswerIsNo` for no automation, for several automations, and for an automation without a run.
    """
    if not automations:
        names = await database.browse(automation_search.read_names)
        raise AnswerIsNo(f"there is no run {text!r}; {advise(text, names, advise_run_list())}")
    queue, automations = RunQueue(database, now), automations[:_MAX_CANDIDATES]
    newest = [await queue.list_runs(automation=automation.id, limit=1) for automation in automations]
    if len(automations) > 1:
        notes = [f"newest run {_describe(runs[0])}" if runs else "no run" for runs in newest]
        named = zip(automations, notes, strict=True)
        raise make_ambiguous_error(text, [Candidate(*automation, note) for automation, note in named])
    if newest[0]:
        return str(newest[0][0]["id"])
    start = format_command(f"automations run {automations[0].id}")
    raise AnswerIsNo(f"the automation {text!r} has no run yet; start one with `{start}`")


def _describe(run: Mapping[str, Any]) -> str:
    return f"{run['status']}, created {format_in_zone(from_text(run['created_at']), 'UTC')}"


def advise_run_list() -> str:
    """Return the advice for a search for a run."""
    return f"see `{format_command('runs list')}`"
