"""The pages for people: asked on the loop, made on the `Workbench`.

A ledger that cannot be read leaves its place on a page empty, and the rest is there all the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from scheduler.core.errors import Unreachable
from scheduler.core.model import Outcome, RunStatus
from scheduler.core.status import AutomationDetails, DaemonStatus
from scheduler.ops.content import Content
from scheduler.ops.gauges import AUTOMATION_STATES
from scheduler.ops.page import assets
from scheduler.ops.page.automation import automation_page
from scheduler.ops.page.filters import Asked, asked
from scheduler.ops.page.findings import LOOKED_BACK
from scheduler.ops.page.listing import choose, make_rows
from scheduler.ops.page.output import show_output
from scheduler.ops.page.overview import AHEAD, LAST, Gathered, overview
from scheduler.ops.page.rendering import POLICY, render
from scheduler.ops.page.rows import ZoneOf, address, happened, make_wait_row
from scheduler.ops.page.times import When
from scheduler.ops.queries import OPEN, OccurrenceQuery, automation_query, occurrence_query, paging_query
from scheduler.ops.views import Json, find_id

_T = TypeVar("_T")
_Values = Mapping[str, object]
_RECORDS: Final = 50
_OF_ONE: Final = 25
_LISTED: Final = 100


class Site:
    """The pages, made of this content."""

    def __init__(self, content: Content) -> None:
        self._content = content

    async def index(self, _: Request) -> Response:
        """``/``."""
        content = self._content
        records, error = await _tried(content.occurrences(OccurrenceQuery(limit=LAST)))
        recent, error = (None, error) if error else await _tried(content.recent(content.status().at - LOOKED_BACK))
        failing, error = (None, error) if error else await _tried(content.failing())
        status = content.status()
        waits = {target.name: await content.waits(target.name) for target in status.targets}
        first = [(name, wait) for name, each in waits.items() for wait in each.first]
        gathered = Gathered(
            status=status,
            streams=[content.together(target.name, AHEAD) for target in status.targets],
            invalid=chain.from_iterable(content.every_detail(each.name) for each in status.targets if each.automations.get("invalid")),
            zone_of=self._zones((*(records or ()), *({"target": name, "automation_id": wait.automation_id} for name, wait in first))),
            waits=waits,
            records=records,
            recent=recent,
            failing=failing,
            ledger_error=error,
        )
        return await self._made("overview.html", status, lambda: {"page": overview(gathered)})

    async def occurrences(self, request: Request) -> Response:
        """``/occurrences``."""
        form = asked(request.query_params, occurrence_query, limit=_RECORDS)
        records, error = (None, None) if form.query is None else await _tried(self._content.occurrences(form.query.with_one_more()))
        status = self._content.status()

        def values() -> _Values:
            history = _History(form, records, self._zones(records or ()), "/occurrences")
            return {"form": form, "error": error, "outcomes": (*Outcome, OPEN), "run_statuses": [*RunStatus], **history.values(status)}

        return await self._made("occurrences.html", status, values, _code(form))

    async def automations(self, request: Request) -> Response:
        """``/automations``."""
        form = asked(request.query_params, automation_query, limit=_LISTED)
        query, status = form.query, self._content.status()
        everything = chain.from_iterable([self._content.every_detail(target.name) for target in status.targets])

        is_failing = query is not None and query.only_failing
        failing, error = await _tried(self._content.failing_ids()) if is_failing else ((), None)
        chosen = [] if query is None else await self._content.workbench.make(choose, everything, query, failing or ())
        limit, offset = (query.limit, query.offset) if query else (0, 0)
        shown = chosen[:limit]
        keys = [(each.target, each.id) for each in shown]
        runs, error = (None, error) if error else await _tried(self._content.finished_runs(keys))

        def values() -> _Values:
            links = _links(form, "/automations", limit, offset, is_more=len(chosen) > limit)
            rows = make_rows(shown, runs or {}, status.at, {target.name: target.throttled_until for target in status.targets})
            return {"form": form, "error": error, "listed": rows, "states": AUTOMATION_STATES, "offset": offset, **links}

        return await self._made("automations.html", status, values, _code(form))

    async def automation(self, request: Request) -> Response:
        """``/automations/{target}/{automation_id}``."""
        content, name = self._content, request.path_params["target"]
        automation_id = find_id(request.path_params["automation_id"])
        form = asked(request.query_params, paging_query, limit=_OF_ONE)
        query = form.query or OccurrenceQuery(limit=_OF_ONE)
        of_it = OccurrenceQuery(target=name, automation=automation_id, limit=query.limit + 1, offset=query.offset)
        records, error = await _tried(content.occurrences(of_it)) if automation_id else (None, None)
        recent, _ = await _tried(content.recent(content.status().at - LOOKED_BACK)) if error is None else (None, None)
        runs, _ = await _tried(content.finished_runs([(name, automation_id)])) if automation_id and error is None else (None, None)
        status = content.status()
        target = next((each for each in status.targets if each.name == name), None)
        details = None if target is None or automation_id is None else content.details(name, automation_id)
        if target is None or details is None:
            return await self._absent(status, name, automation_id, records)
        run_id = details.automation.run_id
        output = None if run_id is None else await content.run_output(name, run_id)

        waits = content.waits_of(name, details.id)

        def values() -> _Values:
            history = _History(form, records, lambda *_: details.timezone, address(name, details.id))
            return {
                "page": automation_page(details, target, recent, (runs or {}).get((name, details.id)), status.at),
                "waits": [make_wait_row(name, wait, status.at, details.timezone, target.throttled_until) for wait in waits],
                "output": show_output(output),
                "form": form,
                "error": error,
                **history.values(status),
            }

        return await self._made("automation.html", status, values, _code(form))

    async def asset(self, request: Request) -> Response:
        """``/assets/{name}``."""
        asset = assets.ASSETS.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(asset.content, headers={"Content-Type": asset.content_type, "Cache-Control": assets.FOR_EVER})

    async def _absent(self, status: DaemonStatus, target: str, automation_id: str | None, records: Sequence[Json] | None) -> Response:
        values = {"target": target, "automation_id": automation_id, "is_on_record": bool(records)}
        return await self._made("absent.html", status, lambda: values, HTTPStatus.NOT_FOUND)

    def _zones(self, records: Sequence[Json]) -> ZoneOf:
        """The zones of the automations in these records, as they are known now; asked on the loop."""
        keys = {(str(each["target"]), str(each["automation_id"])) for each in records}
        found: dict[tuple[str, str], AutomationDetails | None] = {key: self._content.details(*key) for key in keys}

        def zone_of(target: str, automation_id: str) -> str | None:
            details = found.get((target, automation_id))
            return None if details is None else details.timezone

        return zone_of

    async def _made(self, template: str, status: DaemonStatus, values: Callable[[], _Values], code: HTTPStatus = HTTPStatus.OK) -> Response:
        """The page, of values that are worked out where it is made."""

        def make() -> str:
            return render(template, status=status, now=status.at, up=When(status.started_at, status.at), **values())

        text = await self._content.workbench.make(make)
        return HTMLResponse(text, code, {"Content-Security-Policy": POLICY})


class _History:
    """Records with the links to those before and after."""

    def __init__(self, form: Asked[OccurrenceQuery], records: Sequence[Json] | None, zone_of: ZoneOf, path: str) -> None:
        self._form = form
        self._records = records
        self._zone_of = zone_of
        self._path = path

    def values(self, status: DaemonStatus) -> _Values:
        """What a template needs of them."""
        query = self._form.query
        records = None if query is None or self._records is None else self._records
        limit, offset = (query.limit, query.offset) if query else (0, 0)
        links = _links(self._form, self._path, limit, offset, is_more=len(records or ()) > limit)
        rows = None if records is None else list(happened(records[:limit], self._zone_of, status.at))
        return {"rows": rows, "offset": offset, **links}


def _links(form: Asked[_T], path: str, limit: int, offset: int, *, is_more: bool) -> _Values:
    """Where the page before and the page after are."""
    return {
        "newer": form.address(path, offset=max(offset - limit, 0)) if offset else None,
        "older": form.address(path, offset=offset + limit) if is_more else None,
    }


def _code(form: Asked[_T]) -> HTTPStatus:
    return HTTPStatus.BAD_REQUEST if form.problems else HTTPStatus.OK


async def _tried(asked_for: Awaitable[_T]) -> tuple[_T | None, str | None]:
    """What came of it, or why nothing did."""
    try:
        return await asked_for, None
    except Unreachable as error:
        return None, str(error)
