"""How large the parts of a request may be that come before its body, checked before anything reads them.

Below these bounds every parser of a header or a query takes a few milliseconds at most. They are those of common servers: Apache's
LimitRequestLine and LimitRequestFieldSize are 8190 bytes, its LimitRequestFields is 100.
"""

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MAX_TARGET: Final = 8 * 1024
"""Bytes of a path with its query."""
MAX_FIELD: Final = 8 * 1024
"""Bytes of one header."""
MAX_FIELDS: Final = 100
"""Headers of a request."""


class RequestSizeLimit:
    """ASGI middleware that answers 414 or 431 to a request that goes beyond a bound, in the form of the embedded API's errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        refusal = _find_excess(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, code, detail = refusal
        body = {"type": "invalid_request", "code": code, "detail": detail, "attr": None}
        await JSONResponse(body, status, {"Connection": "close"})(scope, receive, send)


def _find_excess(scope: Scope) -> tuple[HTTPStatus, str, str] | None:
    """Return the status, the code and the sentence for the first bound that a request goes beyond, None for a request within all."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
        return HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", f"The path and its query are longer than {MAX_TARGET} bytes."
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MAX_FIELDS:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", f"The request has more than {MAX_FIELDS} headers."
    if any(len(name) + len(value) > MAX_FIELD for name, value in headers):
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", f"A header is longer than {MAX_FIELD} bytes."
    return None
