"""The pages for people: their data is read on the loop, and the `PageWorker` makes the pages.

Without a readable ledger, its parts of a page stay empty, and the page shows the rest.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from scheduler.core.automation_filter import find_id
from scheduler.core.errors import Unreachable
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.occurrence_query import OccurrenceQuery
from scheduler.core.status import AUTOMATION_STATES, AutomationDetails, DaemonStatus
from scheduler.ops.page import assets
from scheduler.ops.page.automation import make_automation_page
from scheduler.ops.page.automation_list import choose_automations, make_rows
from scheduler.ops.page.filters import FilterForm, read_form
from scheduler.ops.page.findings import LOOK_BACK
from scheduler.ops.page.output import make_output_view
from scheduler.ops.page.overview import LOOK_AHEAD, MAX_LAST, OverviewData, make_overview
from scheduler.ops.page.renderer import CONTENT_POLICY, render
from scheduler.ops.page.rows import FindZone, make_automation_link, make_history_rows, make_wait_row
from scheduler.ops.page.times import DisplayTime
from scheduler.ops.page_sources import PageSources
from scheduler.ops.queries import (
    FAILING,
    OPEN,
    parse_automation_query,
    parse_occurrence_query,
    parse_paging_query,
)
from scheduler.ops.views import Json

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
        content = self._content
        records, error = await _try_read(content.occurrences(OccurrenceQuery(limit=MAX_LAST)))
        recent, error = (
            (None, error) if error else await _try_read(content.recent(content.status().at - LOOK_BACK))
        )
        failing, error = (None, error) if error else await _try_read(content.failing())
        status = content.status()
        waits = {target.name: await content.waits(target.name) for target in status.targets}
        first = [(name, wait) for name, own in waits.items() for wait in own.first]
        gathered = OverviewData(
            status=status,
            streams=[content.upcoming_by_schedule(target.name, LOOK_AHEAD) for target in status.targets],
            invalid=chain.from_iterable(
                content.all_details(target.name)
                for target in status.targets
                if target.automations.get("invalid")
            ),
            find_zone=self._make_zone_finder(
                (
                    *(records or ()),
                    *({"target": name, "automation_id": wait.automation_id} for name, wait in first),
                )
            ),
            waits=waits,
            records=records,
            recent=recent,
            failing=failing,
            ledger_error=error,
        )
        return await self._make_page("overview.html", status, lambda: {"page": make_overview(gathered)})

    async def show_occurrences(self, request: Request) -> Response:
        """Serve ``/occurrences``."""
        form = read_form(request.query_params, parse_occurrence_query, limit=_MAX_RECORDS)
        records, error = (
            (None, None)
            if form.query is None
            else await _try_read(self._content.occurrences(form.query.extend_by_one()))
        )
        status = self._content.status()

        def make_values() -> _Values:
            history = _History(form, records, self._make_zone_finder(records or ()), "/occurrences")
            return {
                "form": form,
                "error": error,
                "outcomes": (*Outcome, OPEN),
                "run_statuses": [*RunStatus],
                **history.make_values(status),
            }

        return await self._make_page("occurrences.html", status, make_values, _choose_status(form))

    async def show_automations(self, request: Request) -> Response:
        """Serve ``/automations``."""
        form = read_form(request.query_params, parse_automation_query, limit=_MAX_AUTOMATIONS)
        query, status = form.query, self._content.status()
        everything = chain.from_iterable(
            [self._content.all_details(target.name) for target in status.targets]
        )

        is_failing = query is not None and query.result == FAILING
        failing, error = await _try_read(self._content.failing_ids()) if is_failing else ((), None)
        chosen = (
            []
            if query is None
            else await self._content.worker.run(choose_automations, everything, query, failing or ())
        )
        limit, offset = (query.limit, query.offset) if query else (0, 0)
        shown = chosen[:limit]
        keys = [(automation.target, automation.id) for automation in shown]
        runs, error = (None, error) if error else await _try_read(self._content.finished_runs(keys))

        def make_values() -> _Values:
            links = _make_links(form, "/automations", limit, offset, is_more=len(chosen) > limit)
            rows = make_rows(
                shown,
                runs or {},
                status.at,
                {target.name: target.throttled_until for target in status.targets},
            )
            return {
                "form": form,
                "error": error,
                "listed": rows,
                "states": AUTOMATION_STATES,
                "offset": offset,
                **links,
            }

        return await self._make_page("automations.html", status, make_values, _choose_status(form))

    async def show_automation(self, request: Request) -> Response:
        """Serve ``/automations/{target}/{automation_id}``."""
        content, name = self._content, request.path_params["target"]
        automation_id = find_id(request.path_params["automation_id"])
        form = read_form(request.query_params, parse_paging_query, limit=_AUTOMATION_RECORDS)
        query = form.query or OccurrenceQuery(limit=_AUTOMATION_RECORDS)
        own_query = OccurrenceQuery(
            target=name, automation=automation_id, limit=query.limit + 1, offset=query.offset
        )
        records, error = await _try_read(content.occurrences(own_query)) if automation_id else (None, None)
        recent, _ = (
            await _try_read(content.recent(content.status().at - LOOK_BACK))
            if error is None
            else (None, None)
        )
        runs, _ = (
            await _try_read(content.finished_runs([(name, automation_id)]))
            if automation_id and error is None
            else (None, None)
        )
        status = content.status()
        target = next((target for target in status.targets if target.name == name), None)
        details = None if target is None or automation_id is None else content.details(name, automation_id)
        if target is None or details is None:
            return await self._show_absent(status, name, automation_id, records)
        run_id = details.automation.run_id
        output = None if run_id is None else await content.run_output(name, run_id)

        waits = content.automation_waits(name, details.id)

        def make_values() -> _Values:
            history = _History(
                form, records, lambda *_: details.timezone, make_automation_link(name, details.id)
            )
            return {
                "page": make_automation_page(
                    details, target, recent, (runs or {}).get((name, details.id)), status.at
                ),
                "waits": [
                    make_wait_row(name, wait, status.at, details.timezone, target.throttled_until)
                    for wait in waits
                ],
                "output": make_output_view(output),
                "form": form,
                "error": error,
                **history.make_values(status),
            }

        return await self._make_page("automation.html", status, make_values, _choose_status(form))

    async def serve_asset(self, request: Request) -> Response:
        """Serve ``/assets/{name}``."""
        asset = assets.ASSETS.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(
            asset.content, headers={"Content-Type": asset.content_type, "Cache-Control": assets.CACHE_FOREVER}
        )

    async def _show_absent(
        self, status: DaemonStatus, target: str, automation_id: str | None, records: Sequence[Json] | None
    ) -> Response:
        values = {"target": target, "automation_id": automation_id, "is_on_record": bool(records)}
        return await self._make_page("absent.html", status, lambda: values, HTTPStatus.NOT_FOUND)

    def _make_zone_finder(self, records: Sequence[Json]) -> FindZone:
        """Return a function for the current zones of the automations in these records.

        Must be called on the loop.
        """
        keys = {(str(record["target"]), str(record["automation_id"])) for record in records}
        by_key: dict[tuple[str, str], AutomationDetails | None] = {
            key: self._content.details(*key) for key in keys
        }

        def find_zone(target: str, automation_id: str) -> str | None:
            details = by_key.get((target, automation_id))
            return None if details is None else details.timezone

        return find_zone

    async def _make_page(
        self,
        template: str,
        status: DaemonStatus,
        values: Callable[[], _Values],
        code: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        """Return the page. ``values`` computes the template's values on the worker's thread."""

        def render_page() -> str:
            return render(
                template,
                status=status,
                now=status.at,
                up=DisplayTime(status.started_at, status.at),
                **values(),
            )

        text = await self._content.worker.run(render_page)
        return HTMLResponse(text, code, {"Content-Security-Policy": CONTENT_POLICY})


class _History:
    """Records with links to the newer and the older page."""

    def __init__(
        self, form: FilterForm[OccurrenceQuery], records: Sequence[Json] | None, zone_of: FindZone, path: str
    ) -> None:
        self._form = form
        self._records = records
        self._find_zone = zone_of
        self._path = path

    def make_values(self, status: DaemonStatus) -> _Values:
        """Return the values for the template."""
        query = self._form.query
        records = None if query is None or self._records is None else self._records
        limit, offset = (query.limit, query.offset) if query else (0, 0)
        links = _make_links(self._form, self._path, limit, offset, is_more=len(records or ()) > limit)
        rows = (
            None if records is None else list(make_history_rows(records[:limit], self._find_zone, status.at))
        )
        return {"rows": rows, "offset": offset, **links}


def _make_links(form: FilterForm[_T], path: str, limit: int, offset: int, *, is_more: bool) -> _Values:
    """Return the links to the newer and the older page."""
    return {
        "newer": form.make_link(path, offset=max(offset - limit, 0)) if offset else None,
        "older": form.make_link(path, offset=offset + limit) if is_more else None,
    }


def _choose_status(form: FilterForm[_T]) -> HTTPStatus:
    return HTTPStatus.BAD_REQUEST if form.problems else HTTPStatus.OK


async def _try_read(asked_for: Awaitable[_T]) -> tuple[_T | None, str | None]:
    """Return the result and None, or None and the reason for an unreachable source."""
    try:
        return await asked_for, None
    except Unreachable as error:
        return None, str(error)
