"""What each route does once a request has passed the checks of `endpoint`: read the body, then look for what it is about.

A body is judged before anybody looks whether its automation exists, so a wrong body is a 400 also there.
"""

import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from string import punctuation
from typing import Final
from urllib.parse import quote

from starlette.datastructures import URL
from starlette.requests import Request

from scheduler.localapi.bodies import parse_body, read_body
from scheduler.localapi.contract import Contract
from scheduler.localapi.endpoint import Action, Answer, Call
from scheduler.localapi.errors import long_idempotency_key, not_found
from scheduler.localapi.fields import Field, Value
from scheduler.localapi.keys import Scope
from scheduler.localapi.long_work import LongWork
from scheduler.localapi.metadata import describe
from scheduler.localapi.paging import LARGEST_LIMIT, Page
from scheduler.localapi.run_output import RunOutputs
from scheduler.localapi.store import Place, Shown, Store

_CURRENT: Final = "@current"
_MAX_IDEMPOTENCY_KEY: Final = 255
"""Characters. A UUID has 36, and the daemon's keys have 64."""


class Views:
    """The six calls over one store.

    ``on_run`` is told that a run was accepted, ``on_delete`` that an automation was deleted. ``public_url`` is what links begin with, ""
    for what the request names. ``max_page`` is how many automations a page may have.
    """

    def __init__(
        self,
        contract: Contract,
        store: Store,
        long_work: LongWork,
        on_run: Callable[[], None],
        on_delete: Callable[[], None],
        *,
        outputs: RunOutputs,
        public_url: str = "",
        max_page: int = LARGEST_LIMIT,
    ) -> None:
        self._contract = contract
        self._store = store
        self._outputs = outputs
        self._long_work = long_work
        self._on_run = on_run
        self._on_delete = on_delete
        self._public_url = public_url
        self._max_page = max_page

    def collection(self) -> dict[str, Action]:
        """What can be done with all automations of a project."""
        show = Action(Scope.READ, self._list)
        return {
            "GET": show,
            "POST": Action(Scope.WRITE, self._create),
            "HEAD": show,
            "OPTIONS": Action(Scope.READ, self._describe("Task Automation List", self._contract.fields)),
        }

    def item(self) -> dict[str, Action]:
        """What can be done with one automation."""
        show = Action(Scope.READ, self._retrieve)
        return {
            "GET": show,
            "PATCH": Action(Scope.WRITE, self._update),
            "DELETE": Action(Scope.WRITE, self._delete),
            "HEAD": show,
            "OPTIONS": Action(Scope.READ, self._describe("Task Automation Instance", None)),
        }

    def run(self) -> dict[str, Action]:
        """How a run of an automation is started."""
        return {
            "POST": Action(Scope.WRITE, self._run),
            "OPTIONS": Action(Scope.READ, self._describe("Run", self._contract.fields)),
        }

    def output(self) -> dict[str, Action]:
        """How the output of a run is read."""
        show = Action(Scope.READ, self._output)
        return {"GET": show, "HEAD": show, "OPTIONS": Action(Scope.READ, self._describe("Run Output", None))}

    async def _list(self, call: Call) -> Answer:
        request = call.request
        page = Page.asked(request.query_params, self._max_page)
        rows = await self._store.page(_project(call), page)
        url = self._absolute_url(request)
        body = {
            "count": rows.count,
            "next": page.next_link(url, rows.count, len(rows.automations)),
            "previous": page.previous_link(url),
            "results": rows.automations,
        }
        return Answer(HTTPStatus.OK, body, size=rows.characters)

    async def _create(self, call: Call) -> Answer:
        values = await self._read(call.request, self._contract.new)
        created = await self._store.create(_project(call), values)
        return Answer(HTTPStatus.CREATED, created, size=_size(created))

    async def _retrieve(self, call: Call) -> Answer:
        return _found(await self._store.get(_place(call)))

    async def _update(self, call: Call) -> Answer:
        changes = await self._read(call.request, self._contract.changes)
        return _found(await self._store.update(_place(call), changes))

    async def _delete(self, call: Call) -> Answer:
        if not await self._store.delete(_place(call)):
            raise not_found()
        self._on_delete()
        return Answer(HTTPStatus.NO_CONTENT)

    async def _run(self, call: Call) -> Answer:
        accepted = await self._store.start_run(_place(call), _idempotency_key(call.request))
        if accepted is None:
            raise not_found()
        if accepted.is_new:
            self._on_run()
        return Answer(accepted.status, accepted.automation, size=_size(accepted.automation))

    async def _output(self, call: Call) -> Answer:
        place = _place(call)
        output = await self._outputs.read(place.project_id, place.automation_id)
        if output is None:
            raise not_found()
        body = {"id": place.automation_id, "status": output.status, "size": output.size, "output": output.text}
        return Answer(HTTPStatus.OK, body, size=len(output.text or ""))

    async def _read(self, request: Request, judge: Callable[[object], dict[str, Value]]) -> dict[str, Value]:
        """Read a request's body and judge what it says."""
        raw = await read_body(request)
        content_type = request.headers.get("content-type", "")
        return await self._long_work.carry_out(lambda: judge(parse_body(raw, content_type)), size=len(raw))

    def _absolute_url(self, request: Request) -> str:
        # A query may hold any bytes, and a link only those that a URL may have.
        query = quote(request.scope["query_string"], safe=punctuation)
        if self._public_url:
            return f"{self._public_url}{request.url.path}?{query}"
        return str(URL(scope={**request.scope, "query_string": query.encode()}))

    @staticmethod
    def _describe(name: str, fields: tuple[Field, ...] | None) -> Callable[[Call], Awaitable[Answer]]:
        async def described(call: Call) -> Answer:
            return Answer(HTTPStatus.OK, describe(name, fields if call.key.may(Scope.WRITE) else None))

        return described


def _found(automation: Shown | None) -> Answer:
    if automation is None:
        raise not_found()
    return Answer(HTTPStatus.OK, automation, size=_size(automation))


def _size(automation: Shown) -> int:
    return sum(len(value) for value in automation.values() if isinstance(value, str))


def _idempotency_key(request: Request) -> str | None:
    """Return the client's name for its request, None for a request without one."""
    name = request.headers.get("idempotency-key", "")
    if len(name) > _MAX_IDEMPOTENCY_KEY:
        raise long_idempotency_key(_MAX_IDEMPOTENCY_KEY)
    return name or None


def _project(call: Call) -> int:
    """Find the project that the path names: the key's own, or there is none. What other projects there are, a key cannot learn."""
    named = call.request.path_params["project"]
    if named not in {_CURRENT, str(call.key.project_id)}:
        raise not_found()
    return call.key.project_id


def _place(call: Call) -> Place:
    try:
        return Place(_project(call), str(uuid.UUID(call.request.path_params["id"])))
    except ValueError:
        raise not_found() from None
