"""The pages for people: their data is read on the loop, and the `PageWorker` makes the pages.

Without a readable ledger, its parts of a page stay empty, and the page shows the rest.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import chain
from typing import Final, ParamSpec, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from scheduler.core.automation_filter import find_id
from scheduler.core.errors import Unreachable
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import AUTOMATION_STATES, DaemonStatus
from scheduler.ops.page import assets
from scheduler.ops.page.automation import make_automation_page
from scheduler.ops.page.automation_list import choose_automations, make_rows
from scheduler.ops.page.filters import FilterForm, read_form
from scheduler.ops.page.findings import LOOK_BACK, LedgerReading
from scheduler.ops.page.output import make_output_view
from scheduler.ops.page.overview import LOOK_AHEAD, MAX_LAST, OverviewData, make_overview
from scheduler.ops.page.renderer import CONTENT_POLICY, render
from scheduler.ops.page.rows import Zones, make_automation_link, make_history_rows, make_wait_row
from scheduler.ops.page.times import DisplayTime
from scheduler.ops.page_sources import AutomationKey, PageSources
from scheduler.ops.queries import (
    FAILING,
    OPEN,
    parse_automation_query,
    parse_occurrence_query,
    parse_paging_query,
)
from scheduler.ops.views import Json

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Values = Mapping[str, object]
_MAX_RECORDS: Final = 50
_AUTOMATION_RECORDS: Final = 25
_MAX_AUTOMATIONS: Final = 100


class Site:
    """The pages for people, made from ``content``."""

    def __init__(self, content: PageSources) -> None:
        self._content = content

    async def show_overview(self, _: Request) -> Response:
        """Serve ``/``."""
        content, ledger = self._content, _LedgerReader()
        records = await ledger.read(content.occurrences, OccurrenceQuery(limit=MAX_LAST))
        recent = await ledger.read(content.recent, content.status().at - LOOK_BACK)
        failing = await ledger.read(content.failing)
        status, targets = content.status(), content.targets()
        waits = {name: await target.waits.make_status() for name, target in targets.items()}
        waiting = [(name, wait.automation_id) for name, own in waits.items() for wait in own.first]
        gathered = OverviewData(
            status=status,
            streams=[target.iterate_by_schedule(LOOK_AHEAD) for target in targets.values()],
            invalid=chain.from_iterable(
                targets[target.name].iterate_details()
                for target in status.targets
                if target.automations.get("invalid")
            ),
            zones=self._find_zones([*_list_automations(records), *waiting]),
            waits=waits,
            records=records,
            ledger=LedgerReading(recent, failing, ledger.error),
        )
        return await self._make_page("overview.html", status, lambda: {"page": make_overview(gathered)})

    async def show_occurrences(self, request: Request) -> Response:
        """Serve ``/occurrences``."""
        form = read_form(request.query_params, parse_occurrence_query, limit=_MAX_RECORDS)
        ledger, records = _LedgerReader(), None
        if form.query is not None:
            records = await ledger.read(self._content.occurrences, form.query.extend_by_one())
        status, zones = self._content.status(), self._find_zones(_list_automations(records))

        def make_values() -> _Values:
            return {
                "form": form,
                "error": ledger.error,
                "outcomes": (*Outcome, OPEN),
                "run_statuses": [*RunStatus],
                **_make_history(form, records, zones, "/occurrences", status),
            }

        return await self._make_page("occurrences.html", status, make_values, form.status_code)

    async def show_automations(self, request: Request) -> Response:
        """Serve ``/automations``."""
        form = read_form(request.query_params, parse_automation_query, limit=_MAX_AUTOMATIONS)
        content, ledger, query = self._content, _LedgerReader(), form.query
        status = content.status()
        every = chain.from_iterable([target.iterate_details() for target in content.targets().values()])
        is_failing = query is not None and query.result == FAILING
        failing = await ledger.read(content.failing_ids) if is_failing else None
        chosen = await content.worker.run(choose_automations, every, query, failing or ()) if query else []
        shown = chosen[: query.limit] if query else []
        keys = [(automation.target, automation.id) for automation in shown]
        runs = await ledger.read(content.finished_runs, keys)

        def make_values() -> _Values:
            return {
                "form": form,
                "error": ledger.error,
                "listed": list(make_rows(shown, runs or {}, status)),
                "states": AUTOMATION_STATES,
                **form.make_paging("/automations", len(chosen)),
            }

        return await self._make_page("automations.html", status, make_values, form.status_code)

    async def show_automation(self, request: Request) -> Response:
        """Serve ``/automations/{target}/{automation_id}``."""
        content, ledger, name = self._content, _LedgerReader(), request.path_params["target"]
        automation_id = find_id(request.path_params["automation_id"])
        if automation_id is None:
            return await self._show_absent(name, None, None)
        form = read_form(request.query_params, parse_paging_query, limit=_AUTOMATION_RECORDS)
        query = form.query or OccurrenceQuery(limit=_AUTOMATION_RECORDS)
        own_query = replace(query, target=name, automation=automation_id)
        records = await ledger.read(content.occurrences, own_query.extend_by_one())
        error = ledger.error  # without the other parts of the page, the history is shown
        recent = await ledger.read(content.recent, content.status().at - LOOK_BACK)
        runs = await ledger.read(content.finished_runs, [(name, automation_id)])
        status = content.status()
        target = next((target for target in status.targets if target.name == name), None)
        source = content.targets().get(name)
        details = None if source is None else source.find_details(automation_id)
        if target is None or source is None or details is None:
            return await self._show_absent(name, automation_id, records)
        run_id = details.automation.run_id
        output = await content.run_output(name, run_id) if run_id else None
        waits, key = source.waits.list_for_automation(automation_id), (name, automation_id)

        def make_values() -> _Values:
            zones, path = {key: details.timezone}, make_automation_link(*key)
            return {
                "page": make_automation_page(details, target, recent, (runs or {}).get(key), status.at),
                "waits": [
                    make_wait_row(name, wait, status.at, details.timezone, target.throttled_until)
                    for wait in waits
                ],
                "output": make_output_view(output),
                "form": form,
                "error": error,
                **_make_history(form, records, zones, path, status),
            }

        return await self._make_page("automation.html", status, make_values, form.status_code)

    async def serve_asset(self, request: Request) -> Response:
        """Serve ``/assets/{name}``."""
        asset = assets.ASSETS.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        headers = {"Content-Type": asset.content_type, "Cache-Control": assets.CACHE_FOREVER}
        return Response(asset.content, headers=headers)

    async def _show_absent(
        self, target: str, automation_id: str | None, records: Sequence[Json] | None
    ) -> Response:
        values = {"target": target, "automation_id": automation_id, "is_on_record": bool(records)}
        status = self._content.status()
        return await self._make_page("absent.html", status, lambda: values, HTTPStatus.NOT_FOUND)

    def _find_zones(self, automations: Iterable[AutomationKey]) -> Zones:
        """Return the current zones of automations. Must be called on the loop."""
        targets = self._content.targets()
        found = {key: targets[key[0]].find_details(key[1]) for key in set(automations) if key[0] in targets}
        return {key: details.timezone for key, details in found.items() if details is not None}

    async def _make_page(
        self,
        template: str,
        status: DaemonStatus,
        make_values: Callable[[], _Values],
        code: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        """Return the page. ``make_values`` computes the template's values on the worker's thread."""

        def render_page() -> str:
            up = DisplayTime(status.started_at, status.at)
            return render(template, status=status, now=status.at, up=up, **make_values())

        text = await self._content.worker.run(render_page)
        return HTMLResponse(text, code, {"Content-Security-Policy": CONTENT_POLICY})


def _make_history(
    form: FilterForm[OccurrenceQuery],
    records: Sequence[Json] | None,
    zones: Zones,
    path: str,
    status: DaemonStatus,
) -> _Values:
    """Return records as rows, with links to the newer and the older page."""
    shown = [] if form.query is None or records is None else records[: form.query.limit]
    return {
        "rows": list(make_history_rows(shown, zones, status.at)),
        **form.make_paging(path, len(records or ())),
    }


def _list_automations(records: Sequence[Json] | None) -> list[AutomationKey]:
    return [(str(record["target"]), str(record["automation_id"])) for record in records or ()]


@dataclass(slots=True)
class _LedgerReader:
    """A reader of the ledger for one page. After an error nothing more is read."""

    error: str | None = None

    async def read(self, read: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Return the result of ``read``, or None when the ledger cannot be read."""
        if self.error is None:
            try:
                return await read(*args, **kwargs)
            except Unreachable as error:
                self.error = str(error)
        return None
