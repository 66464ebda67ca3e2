"""The page of all automations, as values: their states, next fires and last results."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from scheduler.core.automation_filter import make_automation_filter
from scheduler.core.policy import compute_due
from scheduler.core.status import AutomationDetails, FinishedRun
from scheduler.ops.page.renderer import iterate_with_pauses
from scheduler.ops.page.rows import TONES as RUN_TONES
from scheduler.ops.page.rows import make_automation_link
from scheduler.ops.page.times import DisplayTime, make_display_time
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.queries import FAILING, AutomationQuery

STATE_TONES = {"enabled": "good", "disabled": "soft", "paused": "warn", "invalid": "bad"}


@dataclass(frozen=True, slots=True)
class LastResult:
    """The result of the newest finished run of an automation."""

    word: str
    tone: str
    failures: int
    finished: DisplayTime


@dataclass(frozen=True, slots=True)
class AutomationListRow:
    """One automation as a row.

    ``due`` is None when the due instant equals the instant of the fire time. ``result`` is None while no run
    has finished, and when the ledger cannot be read.
    """

    details: AutomationDetails
    link: str
    tone: str
    next_fire: DisplayTime | None
    due: DisplayTime | None
    throttled: bool
    result: LastResult | None


def choose_automations(
    automations: Iterable[AutomationDetails], query: AutomationQuery, failing: Collection[AutomationKey]
) -> Sequence[AutomationDetails]:
    """Return the automations of the page in the order of their names, and one more.

    ``failing`` matters only when the query asks for failing automations alone.
    """
    of_result = (
        automation
        for automation in _filter_automations(automations, query)
        if query.result != FAILING or (automation.target, automation.id) in failing
    )
    chosen = sorted(
        of_result, key=lambda automation: (automation.name.casefold(), automation.target, automation.id)
    )
    return list(islice(chosen, query.offset, query.offset + query.limit + 1))


def make_rows(
    automations: Sequence[AutomationDetails],
    runs: Mapping[AutomationKey, FinishedRun],
    now: datetime,
    throttles: Mapping[str, datetime | None],
) -> Sequence[AutomationListRow]:
    """Make a row for each automation.

    ``runs`` contains the newest finished runs, by target and id. ``throttles`` contains the end of each
    target's throttle.
    """
    return [
        _make_row(
            automation, runs.get((automation.target, automation.id)), now, throttles.get(automation.target)
        )
        for automation in automations
    ]


def _filter_automations(
    automations: Iterable[AutomationDetails], query: AutomationQuery
) -> Iterator[AutomationDetails]:
    is_wanted = None if query.automation is None else make_automation_filter(query.automation)
    for automation in iterate_with_pauses(automations):
        if (
            query.target in {None, automation.target}
            and query.state in {None, automation.state}
            and (is_wanted is None or is_wanted(automation.automation))
        ):
            yield automation


def _make_row(
    details: AutomationDetails, run: FinishedRun | None, now: datetime, throttled_until: datetime | None
) -> AutomationListRow:
    instant, timezone = details.next_fire, details.timezone
    due = (
        None
        if instant is None
        else compute_due(details.policies, details.target, details.id, details.schedule, instant)
    )
    return AutomationListRow(
        details,
        make_automation_link(details.target, details.id),
        STATE_TONES[details.state],
        make_display_time(instant, now, timezone),
        None if due == instant else make_display_time(due, now, timezone),
        throttled_until is not None
        and due is not None
        and details.state == "enabled"
        and due < throttled_until,
        None
        if run is None
        else LastResult(
            run.status, RUN_TONES[run.status], run.failures, DisplayTime(run.finished_at, now, timezone)
        ),
    )
