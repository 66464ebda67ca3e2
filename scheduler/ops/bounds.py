"""Size limits for the parts of a request before its body, checked before any parser reads them.

Within these limits every parser of a header or a query takes a few milliseconds at most. Common servers have
the same limits: Apache's LimitRequestLine and LimitRequestFieldSize are 8190 bytes, its LimitRequestFields is
100.
"""

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MAX_TARGET: Final = 8 * 1024
"""Limit for a path with its query, in bytes."""
MAX_FIELD: Final = 8 * 1024
"""Limit for one header, in bytes."""
MAX_FIELDS: Final = 100
"""Limit for the number of headers of a request."""


class RequestSizeLimit:
    """ASGI middleware for size limits: answers 414 or 431 to a larger request.

    The answer has the form of the embedded API's errors.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse a request beyond a limit."""
        refusal = _find_excess(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, code, detail = refusal
        body = {"type": "invalid_request", "code": code, "detail": detail, "attr": None}
        await JSONResponse(body, status, {"Connection": "close"})(scope, receive, send)


def _find_excess(scope: Scope) -> tuple[HTTPStatus, str, str] | None:
    """Return the status, the code and the sentence for the first limit beyond which a request goes.

    Return None for a request within all limits.
    """
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
        detail = f"The path and its query are longer than {MAX_TARGET} bytes."
        return HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", detail
    too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MAX_FIELDS:
        return *too_large, f"The request has more than {MAX_FIELDS} headers."
    if any(len(name) + len(value) > MAX_FIELD for name, value in headers):
        return *too_large, f"A header is longer than {MAX_FIELD} bytes."
    return None
