"""The API's error answers: an exception, and a function for each row of the contract's table.

All modules raise these errors, and only `endpoint` and `app` turn them into a response.
"""

from collections.abc import Mapping
from http import HTTPStatus

from scheduler.localapi.http.charsets import CHARSETS


class ApiError(Exception):
    """An error answer. ``attr`` is the wrong field, None when no single field is wrong."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        code: str,
        detail: str,
        *,
        attr: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.code = code
        self.detail = detail
        self.attr = attr
        self.headers = headers or {}

    def make_body(self) -> dict[str, str | None]:
        """Make the JSON object of the answer."""
        return {"type": self.kind, "code": self.code, "detail": self.detail, "attr": self.attr}


def make_validation_error(code: str, detail: str, *, attr: str | None = None) -> ApiError:
    """Make a 400: a value is refused.

    ``invalid`` becomes ``invalid_input``, as in the hosted API for every validation.
    """
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        "validation_error",
        "invalid_input" if code == "invalid" else code,
        detail,
        attr=attr,
    )


def make_parse_error(detail: str) -> ApiError:
    """Make a 400: the body could not be parsed at all."""
    return ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", "parse_error", detail)


def make_missing_key_error() -> ApiError:
    """Make a 401: the request names no key."""
    return _make_unauthorized_error("not_authenticated", "Authentication credentials were not provided.")


def make_invalid_key_error() -> ApiError:
    """Make a 401: the key is unknown or revoked."""
    return _make_unauthorized_error(
        "authentication_failed", "Personal API key found in request Authorization header is invalid."
    )


def _make_unauthorized_error(code: str, detail: str) -> ApiError:
    # RFC 9110, 11.6.1: a 401 must have a challenge.
    return ApiError(
        HTTPStatus.UNAUTHORIZED, "authentication_error", code, detail, headers={"WWW-Authenticate": "Bearer"}
    )


def make_missing_scope_error(scope: str) -> ApiError:
    """Make a 403: the key is valid, but lacks the scope."""
    detail = f"API key missing required scope '{scope}'"
    return ApiError(HTTPStatus.FORBIDDEN, "authentication_error", "permission_denied", detail)


def make_not_found_error() -> ApiError:
    """Make a 404: no such automation, or none that this key may know."""
    return ApiError(HTTPStatus.NOT_FOUND, "invalid_request", "not_found", "Not found.")


def make_unknown_route_error() -> ApiError:
    """Make a 404: no such route."""
    return ApiError(HTTPStatus.NOT_FOUND, "invalid_request", "not_found", "Endpoint not found.")


def make_method_error(method: str) -> ApiError:
    """Make a 405: the route exists, but not for this method."""
    return ApiError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "invalid_request",
        "method_not_allowed",
        f'Method "{method}" not allowed.',
    )


def make_not_acceptable_error() -> ApiError:
    """Make a 406: the client does not accept JSON."""
    return ApiError(
        HTTPStatus.NOT_ACCEPTABLE,
        "invalid_request",
        "not_acceptable",
        "Could not satisfy the request Accept header.",
    )


def make_media_type_error(content_type: str) -> ApiError:
    """Make a 415: a body that is neither JSON nor a form."""
    detail = f'Unsupported media type "{content_type}" in request.'
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid_request", "unsupported_media_type", detail)


def make_charset_error(charset: str) -> ApiError:
    """Make a 415: a body in an unsupported charset. The framework reads an unknown charset as UTF-8."""
    detail = (
        f'Unsupported charset "{charset}" in request Content-Type header; use one of {", ".join(CHARSETS)}.'
    )
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid_request", "unsupported_media_type", detail)


def make_idempotency_key_error(most: int) -> ApiError:
    """Make a 400: an Idempotency-Key of more than ``most`` characters."""
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        "invalid_request",
        "bad_request",
        f"The Idempotency-Key is longer than {most} characters.",
    )


def make_throttled_error(seconds: int) -> ApiError:
    """Make a 429: the key has made too many requests; the next request is accepted after these seconds."""
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "throttled_error",
        "throttled",
        detail,
        headers={"Retry-After": str(seconds)},
    )


def make_too_large_error(most: int, *, what: str = "body") -> ApiError:
    """Make a 413: the body has more than ``most`` bytes. The framework has no answer of this kind."""
    detail = f"The {what} is larger than {most} bytes."
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "invalid_request",
        "payload_too_large",
        detail,
        headers={"Connection": "close"},
    )


def make_too_slow_error(seconds: float) -> ApiError:
    """Make a 408: the body did not arrive in time."""
    detail = f"The body did not arrive within {seconds:g} seconds."
    return ApiError(
        HTTPStatus.REQUEST_TIMEOUT,
        "invalid_request",
        "request_timeout",
        detail,
        headers={"Connection": "close"},
    )


def make_server_error() -> ApiError:
    """Make a 500: an error of the server; the log describes the error, not the answer."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "error", "A server error occurred.")


def make_unavailable_error() -> ApiError:
    """Make a 503: the database can be neither read nor written now.

    Nothing was done; the same request may succeed later.
    """
    detail = "The API's database could not be reached. Nothing was done; try again later."
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "unavailable", detail, headers={"Retry-After": "1"}
    )
