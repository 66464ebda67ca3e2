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
from scheduler.localapi.errors import not_found
from scheduler.localapi.fields import Field
from scheduler.localapi.keys import Scope
from scheduler.localapi.metadata import describe
from scheduler.localapi.paging import Page
from scheduler.localapi.store import Place, Shown, Store

_CURRENT: Final = "@current"


class Views:
    """The six calls over one store.

    ``on_run`` is told that a run was accepted. ``public_url`` is what links begin with, "" for what the request names.
    """

    def __init__(self, contract: Contract, store: Store, on_run: Callable[[], None], public_url: str = "") -> None:
        self._contract = contract
        self._store = store
        self._on_run = on_run
        self._public_url = public_url

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

    async def _list(self, call: Call) -> Answer:
        request = call.request
        page = Page.asked(request.query_params)
        count, automations = await self._store.page(_project(call), page)
        url = self._absolute_url(request)
        return Answer(
            HTTPStatus.OK,
            {"count": count, "next": page.next_link(url, count), "previous": page.previous_link(url), "results": automations},
        )

    async def _create(self, call: Call) -> Answer:
        values = self._contract.new(await _data(call.request))
        return Answer(HTTPStatus.CREATED, await self._store.create(_project(call), values))

    async def _retrieve(self, call: Call) -> Answer:
        return _found(await self._store.get(_place(call)))

    async def _update(self, call: Call) -> Answer:
        changes = self._contract.changes(await _data(call.request))
        return _found(await self._store.update(_place(call), changes))

    async def _delete(self, call: Call) -> Answer:
        if not await self._store.delete(_place(call)):
            raise not_found()
        return Answer(HTTPStatus.NO_CONTENT)

    async def _run(self, call: Call) -> Answer:
        accepted = await self._store.start_run(_place(call), call.request.headers.get("idempotency-key") or None)
        if accepted is None:
            raise not_found()
        if accepted.is_new:
            self._on_run()
        return Answer(accepted.status, accepted.automation)

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


async def _data(request: Request) -> object:
    return parse_body(await read_body(request), request.headers.get("content-type", ""))


def _found(automation: Shown | None) -> Answer:
    if automation is None:
        raise not_found()
    return Answer(HTTPStatus.OK, automation)


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
