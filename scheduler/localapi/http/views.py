"""The actions of each route after the checks of `endpoint`: read the body, and find the object.

A body is judged before the search for the automation: a wrong body is a 400 also for an unknown automation.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from string import punctuation
from typing import Any, Final
from urllib.parse import quote

from starlette.datastructures import URL
from starlette.requests import Request

from scheduler.localapi.http.bodies import PARSED_TYPES, parse_body, read_body
from scheduler.localapi.http.contract import Contract
from scheduler.localapi.http.endpoint import Action, EndpointResponse
from scheduler.localapi.http.errors import ApiError, make_not_found_error
from scheduler.localapi.http.long_work import LongWork
from scheduler.localapi.http.negotiation import JSON
from scheduler.localapi.http.paging import PageRequest
from scheduler.localapi.keys import ApiKey, Scope
from scheduler.localapi.store import AutomationJson, AutomationRef, Store, Value

COLLECTION: Final = "/api/projects/:project_id/task_automations/"
RUN_OUTPUT: Final = "/api/projects/:project_id/task_runs/:id/output/"
"""The only route that the hosted resource does not have."""
_CURRENT: Final = "@current"
_DESCRIPTION: Final = "Automations: prompts that are run on a schedule."
_MAX_IDEMPOTENCY_KEY: Final = 255
"""Characters. A UUID has 36, and the daemon's keys have 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """The calls of the API over a store.

    ``on_run`` is called for an accepted run, ``on_delete`` for a deleted automation. ``read_output`` returns
    the answer about the output of a project's run, None for an unknown run. ``public_url`` is the beginning
    of links, "" to use the request's. ``max_page`` is the largest number of automations on a page.
    """

    contract: Contract
    store: Store
    long_work: LongWork
    on_run: Callable[[], None]
    on_delete: Callable[[], None]
    read_output: Callable[[int, str], Awaitable[dict[str, Any] | None]]
    public_url: str
    max_page: int

    def make_actions(self) -> dict[str, dict[str, Action]]:
        """Make the actions of each route by method, in the order of ``Allow``."""
        show_list, show = Action(Scope.READ, self._list), Action(Scope.READ, self._retrieve)
        show_output = Action(Scope.READ, self._read_output)
        return {
            COLLECTION: {
                "GET": show_list,
                "POST": Action(Scope.WRITE, self._create),
                "HEAD": show_list,
                "OPTIONS": self._make_description("Task Automation List", has_post=True),
            },
            f"{COLLECTION}:id/": {
                "GET": show,
                "PATCH": Action(Scope.WRITE, self._update),
                "DELETE": Action(Scope.WRITE, self._delete),
                "HEAD": show,
                "OPTIONS": self._make_description("Task Automation Instance"),
            },
            f"{COLLECTION}:id/run/": {
                "POST": Action(Scope.WRITE, self._start_run),
                "OPTIONS": self._make_description("Run", has_post=True),
            },
            RUN_OUTPUT: {
                "GET": show_output,
                "HEAD": show_output,
                "OPTIONS": self._make_description("Run Output"),
            },
        }

    async def _list(self, request: Request, key: ApiKey) -> EndpointResponse:
        page = PageRequest.parse(request.query_params, self.max_page)
        project_id = _require_project(request, key)
        rows = await self.store.read_page(project_id, limit=page.limit, offset=page.offset)
        url = self._make_absolute_url(request)
        body = {
            "count": rows.count,
            "next": page.make_next_link(url, rows.count, len(rows.automations)),
            "previous": page.make_previous_link(url),
            "results": rows.automations,
        }
        return EndpointResponse(HTTPStatus.OK, body, size=rows.characters)

    async def _create(self, request: Request, key: ApiKey) -> EndpointResponse:
        values = await self._read_values(request, self.contract.parse_new)
        created = await self.store.create(_require_project(request, key), values)
        return _make_response(created, HTTPStatus.CREATED)

    async def _retrieve(self, request: Request, key: ApiKey) -> EndpointResponse:
        return _make_response(await self.store.get(_parse_automation_ref(request, key)))

    async def _update(self, request: Request, key: ApiKey) -> EndpointResponse:
        changes = await self._read_values(request, self.contract.parse_changes)
        return _make_response(await self.store.update(_parse_automation_ref(request, key), changes))

    async def _delete(self, request: Request, key: ApiKey) -> EndpointResponse:
        if not await self.store.delete(_parse_automation_ref(request, key)):
            raise make_not_found_error()
        self.on_delete()
        return EndpointResponse(HTTPStatus.NO_CONTENT)

    async def _start_run(self, request: Request, key: ApiKey) -> EndpointResponse:
        ref = _parse_automation_ref(request, key)
        accepted = await self.store.start_run(ref, _read_idempotency_key(request))
        if accepted is None:
            raise make_not_found_error()
        if accepted.is_new:
            self.on_run()
        return _make_response(accepted.automation)

    async def _read_output(self, request: Request, key: ApiKey) -> EndpointResponse:
        body = await self.read_output(_require_project(request, key), _parse_id(request))
        if body is None:
            raise make_not_found_error()
        return EndpointResponse(HTTPStatus.OK, body, size=len(body["output"] or ""))

    async def _read_values(
        self, request: Request, judge: Callable[[object], dict[str, Value]]
    ) -> dict[str, Value]:
        """Read a request's body, and judge the data."""
        raw = await read_body(request)
        content_type = request.headers.get("content-type", "")
        return await self.long_work.carry_out(lambda: judge(parse_body(raw, content_type)), size=len(raw))

    def _make_absolute_url(self, request: Request) -> str:
        # A query may contain any bytes, and a link only the bytes allowed in a URL.
        query = quote(request.scope["query_string"], safe=punctuation)
        if self.public_url:
            return f"{self.public_url}{request.url.path}?{query}"
        return str(URL(scope={**request.scope, "query_string": query.encode()}))

    def _make_description(self, name: str, *, has_post: bool = False) -> Action:
        """Make the action to describe a view, as in Django REST framework's SimpleMetadata.

        The fields of a POST are described to keys that may POST.
        """

        async def respond(_: Request, key: ApiKey) -> EndpointResponse:
            body: dict[str, Any] = {"name": name, "description": _DESCRIPTION}
            body |= {"renders": [JSON], "parses": list(PARSED_TYPES)}
            if has_post and key.may(Scope.WRITE):
                body["actions"] = {"POST": self.contract.describe_fields()}
            return EndpointResponse(HTTPStatus.OK, body)

        return Action(Scope.READ, respond)


def _make_response(automation: AutomationJson | None, status: int = HTTPStatus.OK) -> EndpointResponse:
    if automation is None:
        raise make_not_found_error()
    size = sum(len(value) for value in automation.values() if isinstance(value, str))
    return EndpointResponse(status, automation, size=size)


def _read_idempotency_key(request: Request) -> str | None:
    """Return the client's name for the request, None for a request without a name."""
    name = request.headers.get("idempotency-key", "")
    if len(name) > _MAX_IDEMPOTENCY_KEY:
        detail = f"The Idempotency-Key is longer than {_MAX_IDEMPOTENCY_KEY} characters."
        raise ApiError(HTTPStatus.BAD_REQUEST, detail)
    return name or None


def _require_project(request: Request, key: ApiKey) -> int:
    """Return the key's own project, which the path must name: a key cannot learn about other projects."""
    named = request.path_params["project"]
    if named not in {_CURRENT, str(key.project_id)}:
        raise make_not_found_error()
    return key.project_id


def _parse_automation_ref(request: Request, key: ApiKey) -> AutomationRef:
    return AutomationRef(_require_project(request, key), _parse_id(request))


def _parse_id(request: Request) -> str:
    """Return the id in the path, in the form of the database."""
    try:
        return str(uuid.UUID(request.path_params["id"]))
    except ValueError:
        raise make_not_found_error() from None
