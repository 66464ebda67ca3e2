"""The API's error answers: an exception, and the contract's table of statuses.

All modules raise these errors, and only `endpoint` and `app` turn them into a response.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

_ANSWERS: Final[Mapping[HTTPStatus, tuple[str, str, Mapping[str, str]]]] = {
    HTTPStatus.BAD_REQUEST: ("invalid_request", "bad_request", {}),
    # RFC 9110, 11.6.1: a 401 must have a challenge
    HTTPStatus.UNAUTHORIZED: (
        "authentication_error",
        "authentication_failed",
        {"WWW-Authenticate": "Bearer"},
    ),
    HTTPStatus.FORBIDDEN: ("authentication_error", "permission_denied", {}),
    HTTPStatus.NOT_FOUND: ("invalid_request", "not_found", {}),
    HTTPStatus.METHOD_NOT_ALLOWED: ("invalid_request", "method_not_allowed", {}),
    HTTPStatus.NOT_ACCEPTABLE: ("invalid_request", "not_acceptable", {}),
    HTTPStatus.REQUEST_TIMEOUT: ("invalid_request", "request_timeout", {"Connection": "close"}),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("invalid_request", "payload_too_large", {"Connection": "close"}),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("invalid_request", "unsupported_media_type", {}),
    HTTPStatus.TOO_MANY_REQUESTS: ("throttled_error", "throttled", {}),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("server_error", "error", {}),
    HTTPStatus.SERVICE_UNAVAILABLE: ("server_error", "unavailable", {"Retry-After": "1"}),
}
"""The type, the usual code and the headers of an error answer, by status."""


class ApiError(Exception):
    """An error answer. ``attr`` is the wrong field, None when no single field is wrong.

    The status decides on everything that is not given.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: str | None = None,
        kind: str | None = None,
        attr: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        usual_kind, usual_code, usual_headers = _ANSWERS[status]
        self.status = status
        self.kind = kind or usual_kind
        self.code = code or usual_code
        self.detail = detail
        self.attr = attr
        self.headers = headers or usual_headers

    def make_body(self) -> dict[str, str | None]:
        """Make the JSON object of the answer."""
        return {"type": self.kind, "code": self.code, "detail": self.detail, "attr": self.attr}


def make_validation_error(code: str, detail: str, *, attr: str | None = None) -> ApiError:
    """Make a 400: a value is refused. The hosted API calls the framework's ``invalid`` ``invalid_input``."""
    return ApiError(HTTPStatus.BAD_REQUEST, detail, code=code, kind="validation_error", attr=attr)


def make_parse_error(detail: str) -> ApiError:
    """Make a 400: the body could not be parsed at all."""
    return ApiError(HTTPStatus.BAD_REQUEST, detail, code="parse_error")


def make_not_found_error(detail: str = "Not found.") -> ApiError:
    """Make a 404: no such object or route, or no object that this key may know."""
    return ApiError(HTTPStatus.NOT_FOUND, detail)
