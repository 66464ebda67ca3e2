"""The page of all automations, as values: their states, next fires and last results."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.automation_filter import make_automation_filter
from scheduler.core.status import AutomationDetails, DaemonStatus, FinishedRun
from scheduler.ops.page.renderer import iterate_with_pauses
from scheduler.ops.page.rows import UpcomingRow, make_upcoming_row
from scheduler.ops.page.times import DisplayTime
from scheduler.ops.page_sources import AutomationKey
from scheduler.ops.queries import FAILING, AutomationQuery


@dataclass(frozen=True, slots=True)
class AutomationListRow:
    """One automation as a row.

    ``run`` is the newest finished run. ``run`` is None while no run has finished, and when the ledger cannot
    be read.
    """

    details: AutomationDetails
    next: UpcomingRow | None
    run: FinishedRun | None
    finished: DisplayTime | None


def choose_automations(
    automations: Iterable[AutomationDetails], query: AutomationQuery, failing: Collection[AutomationKey]
) -> Sequence[AutomationDetails]:
    """Return the automations of the page in the order of their names, and one more.

    ``failing`` matters only when the query asks for failing automations alone.
    """
    is_named = make_automation_filter(query.automation) if query.automation else None
    chosen = [
        automation
        for automation in iterate_with_pauses(automations)
        if query.target in {None, automation.target}
        and query.state in {None, automation.state}
        and (query.result != FAILING or (automation.target, automation.id) in failing)
        and (is_named is None or is_named(automation.automation))
    ]
    chosen.sort(key=lambda automation: (automation.name.casefold(), automation.target, automation.id))
    return chosen[query.offset : query.offset + query.limit + 1]


def make_rows(
    automations: Sequence[AutomationDetails], runs: Mapping[AutomationKey, FinishedRun], status: DaemonStatus
) -> Iterator[AutomationListRow]:
    """Yield a row for each automation. ``runs`` contains the newest finished runs, by target and id."""
    for details in automations:
        run, throttled_until = runs.get((details.target, details.id)), status.throttles.get(details.target)
        following = None
        if details.next_fire is not None:
            following = make_upcoming_row(details.next_fire, details, status.at, throttled_until)
        finished = None if run is None else DisplayTime(run.finished_at, status.at, details.timezone)
        yield AutomationListRow(details, following, run, finished)
