"""The page of all automations, as values: their states, next fires and last results."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

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
    of_result = (
        automation
        for automation in _filter_automations(automations, query)
        if query.result != FAILING or (automation.target, automation.id) in failing
    )
    chosen = sorted(
        of_result, key=lambda automation: (automation.name.casefold(), automation.target, automation.id)
    )
    return list(islice(chosen, query.offset, query.offset + query.limit + 1))


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


def make_rows(
    automations: Sequence[AutomationDetails],
    runs: Mapping[AutomationKey, FinishedRun],
    status: DaemonStatus,
) -> Iterator[AutomationListRow]:
    """Yield a row for each automation. ``runs`` contains the newest finished runs, by target and id."""
    for details in automations:
        run, throttled_until = runs.get((details.target, details.id)), status.throttles.get(details.target)
        following = (
            None
            if details.next_fire is None
            else make_upcoming_row(details.next_fire, details, status.at, throttled_until)
        )
        finished = None if run is None else DisplayTime(run.finished_at, status.at, details.timezone)
        yield AutomationListRow(details, following, run, finished)
