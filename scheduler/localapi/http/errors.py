"""The API's error answers: an exception, and a function for each row of the contract's table.

All modules raise these errors, and only `endpoint` and `app` turn them into a response.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus


class ApiError(Exception):
    """An error answer. ``attr`` is the wrong field, None when no single field is wrong."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        kind: str = "invalid_request",
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
    """Make a 400: a value is refused. ``invalid`` becomes ``invalid_input``, as in the hosted API."""
    code = "invalid_input" if code == "invalid" else code
    return ApiError(HTTPStatus.BAD_REQUEST, code, detail, kind="validation_error", attr=attr)


def make_parse_error(detail: str) -> ApiError:
    """Make a 400: the body could not be parsed at all."""
    return ApiError(HTTPStatus.BAD_REQUEST, "parse_error", detail)


def make_idempotency_key_error(most: int) -> ApiError:
    """Make a 400: an Idempotency-Key of more than ``most`` characters."""
    detail = f"The Idempotency-Key is longer than {most} characters."
    return ApiError(HTTPStatus.BAD_REQUEST, "bad_request", detail)


def make_missing_key_error() -> ApiError:
    """Make a 401: the request names no key."""
    return _make_unauthorized_error("not_authenticated", "Authentication credentials were not provided.")


def make_invalid_key_error() -> ApiError:
    """Make a 401: the key is unknown or revoked."""
    detail = "Personal API key found in request Authorization header is invalid."
    return _make_unauthorized_error("authentication_failed", detail)


def _make_unauthorized_error(code: str, detail: str) -> ApiError:
    headers = {"WWW-Authenticate": "Bearer"}  # RFC 9110, 11.6.1: a 401 must have a challenge
    return ApiError(HTTPStatus.UNAUTHORIZED, code, detail, kind="authentication_error", headers=headers)


def make_missing_scope_error(scope: str) -> ApiError:
    """Make a 403: the key is valid, but lacks the scope."""
    detail = f"API key missing required scope '{scope}'"
    return ApiError(HTTPStatus.FORBIDDEN, "permission_denied", detail, kind="authentication_error")


def make_not_found_error(detail: str = "Not found.") -> ApiError:
    """Make a 404: no such object or route, or no object that this key may know."""
    return ApiError(HTTPStatus.NOT_FOUND, "not_found", detail)


def make_method_error(method: str) -> ApiError:
    """Make a 405: the route exists, but not for this method."""
    detail = f'Method "{method}" not allowed.'
    return ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail)


def make_not_acceptable_error() -> ApiError:
    """Make a 406: the client does not accept JSON."""
    detail = "Could not satisfy the request Accept header."
    return ApiError(HTTPStatus.NOT_ACCEPTABLE, "not_acceptable", detail)


def make_too_slow_error(seconds: float) -> ApiError:
    """Make a 408: the body did not arrive in time."""
    detail = f"The body did not arrive within {seconds:g} seconds."
    return ApiError(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail, headers={"Connection": "close"})


def make_too_large_error(most: int, *, what: str = "body") -> ApiError:
    """Make a 413: the body has more than ``most`` bytes. The framework has no answer of this kind."""
    detail, headers = f"The {what} is larger than {most} bytes.", {"Connection": "close"}
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload_too_large", detail, headers=headers)


def make_media_type_error(content_type: str) -> ApiError:
    """Make a 415: a body that is neither JSON nor a URL-encoded form."""
    return _make_unsupported_error(f'Unsupported media type "{content_type}" in request.')


def make_charset_error(charset: str, supported: Collection[str]) -> ApiError:
    """Make a 415: a body in an unsupported charset. The framework reads an unknown charset as UTF-8."""
    return _make_unsupported_error(
        f'Unsupported charset "{charset}" in request Content-Type header; use one of {", ".join(supported)}.'
    )


def _make_unsupported_error(detail: str) -> ApiError:
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)


def make_throttled_error(seconds: int) -> ApiError:
    """Make a 429: the key has made too many requests; the next request is accepted after these seconds."""
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    headers = {"Retry-After": str(seconds)}
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS, "throttled", detail, kind="throttled_error", headers=headers
    )


def make_server_error() -> ApiError:
    """Make a 500: an error of the server; the log describes the error, not the answer."""
    detail = "A server error occurred."
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "error", detail, kind="server_error")


def make_unavailable_error() -> ApiError:
    """Make a 503: the database can be neither read nor written now. Nothing was done; a retry may succeed."""
    detail = "The API's database could not be reached. Nothing was done; try again later."
    headers = {"Retry-After": "1"}
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, kind="server_error", headers=headers
    )
