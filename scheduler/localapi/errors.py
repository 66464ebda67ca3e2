"""The API's error answers: one exception and one function for each row of the contract's table.

Apart, because every other room raises them and only `app` turns them into a response.
"""

from collections.abc import Mapping
from http import HTTPStatus

from scheduler.localapi.charsets import CHARSETS


class ApiError(Exception):
    """An answer that is no success. ``attr`` is the field that is wrong, None when no single one is."""

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

    def body(self) -> dict[str, str | None]:
        """The JSON object of the answer."""
        return {"type": self.kind, "code": self.code, "detail": self.detail, "attr": self.attr}


def invalid(code: str, detail: str, *, attr: str | None = None) -> ApiError:
    """400: a value is refused. ``invalid`` is spelled ``invalid_input``, as the hosted API does for every validation."""
    return ApiError(HTTPStatus.BAD_REQUEST, "validation_error", "invalid_input" if code == "invalid" else code, detail, attr=attr)


def unreadable(detail: str) -> ApiError:
    """400: the body could not be parsed at all."""
    return ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", "parse_error", detail)


def no_credentials() -> ApiError:
    """401: the request names no key."""
    return _unauthorized("not_authenticated", "Authentication credentials were not provided.")


def wrong_key() -> ApiError:
    """401: the key is unknown or revoked."""
    return _unauthorized("authentication_failed", "Personal API key found in request Authorization header is invalid.")


def _unauthorized(code: str, detail: str) -> ApiError:
    # RFC 9110, 11.6.1: a 401 must carry a challenge.
    return ApiError(HTTPStatus.UNAUTHORIZED, "authentication_error", code, detail, headers={"WWW-Authenticate": "Bearer"})


def missing_scope(scope: str) -> ApiError:
    """403: the key is good, but not for this."""
    detail = f"API key missing required scope '{scope}'"
    return ApiError(HTTPStatus.FORBIDDEN, "authentication_error", "permission_denied", detail)


def not_found() -> ApiError:
    """404: no such automation, or none that this key may know of."""
    return ApiError(HTTPStatus.NOT_FOUND, "invalid_request", "not_found", "Not found.")


def no_such_endpoint() -> ApiError:
    """404: no such route."""
    return ApiError(HTTPStatus.NOT_FOUND, "invalid_request", "not_found", "Endpoint not found.")


def method_not_allowed(method: str) -> ApiError:
    """405: the route is there, but not for this method."""
    return ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "invalid_request", "method_not_allowed", f'Method "{method}" not allowed.')


def not_acceptable() -> ApiError:
    """406: the client takes no JSON."""
    return ApiError(HTTPStatus.NOT_ACCEPTABLE, "invalid_request", "not_acceptable", "Could not satisfy the request Accept header.")


def unsupported_media_type(content_type: str) -> ApiError:
    """415: a body that is neither JSON nor a form."""
    detail = f'Unsupported media type "{content_type}" in request.'
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid_request", "unsupported_media_type", detail)


def unsupported_charset(charset: str) -> ApiError:
    """415: a body in a charset that is not taken. The framework takes a charset that it does not know for UTF-8."""
    detail = f'Unsupported charset "{charset}" in request Content-Type header; use one of {", ".join(CHARSETS)}.'
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid_request", "unsupported_media_type", detail)


def long_idempotency_key(most: int) -> ApiError:
    """400: an Idempotency-Key of more than ``most`` characters."""
    return ApiError(HTTPStatus.BAD_REQUEST, "invalid_request", "bad_request", f"The Idempotency-Key is longer than {most} characters.")


def throttled(seconds: int) -> ApiError:
    """429: the key has made too many requests; the next one is taken in so many seconds."""
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return ApiError(HTTPStatus.TOO_MANY_REQUESTS, "throttled_error", "throttled", detail, headers={"Retry-After": str(seconds)})


def too_large(most: int, *, what: str = "body") -> ApiError:
    """413: the body has more than ``most`` bytes. The framework has no such answer of its own."""
    detail = f"The {what} is larger than {most} bytes."
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid_request", "payload_too_large", detail, headers={"Connection": "close"})


def too_slow(seconds: float) -> ApiError:
    """408: the body did not arrive in time."""
    detail = f"The body did not arrive within {seconds:g} seconds."
    return ApiError(HTTPStatus.REQUEST_TIMEOUT, "invalid_request", "request_timeout", detail, headers={"Connection": "close"})


def server_error() -> ApiError:
    """500: a fault of ours; what it was is in the log, not in the answer."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "error", "A server error occurred.")


def unavailable() -> ApiError:
    """503: the database can be neither read nor written just now. Nothing was done; the same request may succeed later."""
    detail = "The API's database could not be reached. Nothing was done; try again later."
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "unavailable", detail, headers={"Retry-After": "1"})
