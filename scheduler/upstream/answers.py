"""The meaning of an answer.

The result of an attempt is an `AttemptResponse`, `NotStarted` or `MaybeStarted`. Any other request without
success is an `UpstreamError`.

Text from the API is never passed on unchanged. It is shortened, and control characters and our own key are
removed.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.errors import UpstreamError
from scheduler.core.model import Automation, InvalidAutomation, parse_automation
from scheduler.core.response import AttemptAnswer, AttemptResponse, MaybeStarted, NotStarted
from scheduler.upstream.documents import Undecodable, decode_whole, read_automation
from scheduler.upstream.exchange import Failure, Reply

Clean = Callable[[str], str]
"""Makes a text from the API fit for display."""

LONGEST_WAIT: Final = 3600.0
"""Longest ``Retry-After`` in seconds; a longer value counts as this."""
LONGEST_THROTTLE: Final = 24 * 3600.0
"""Longest ``Retry-After`` of a 429 in seconds. Daily limits exist, and a longer wait may be a mistake."""
_MOST_DIGITS: Final = 18
"""Largest number of digits; more digits exceed every limit."""
_LONGEST_TEXT: Final = 300
_LONGEST_ERROR: Final = 2**16
"""Largest error body, in bytes, to be read as JSON. Only the beginning of a larger body is shown."""
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


# ---------------------------------------------------------------- an attempt


async def to_attempt_response(result: Reply | Failure, *, now: datetime, clean: Clean) -> AttemptAnswer:
    """Return the result of a ``POST …/run/``."""
    if isinstance(result, Failure):
        return MaybeStarted(clean(result.error)) if result.sent else NotStarted(clean(result.error))
    automation, error = await _parse_automation(result, clean)
    return AttemptResponse(
        status=result.status,
        automation=automation,
        retry_after=read_retry_after(result, now),
        location=_read_location(result, clean),
        missing_scope=_is_missing_scope(result),
        error=error,
    )


async def _parse_automation(reply: Reply, clean: Clean) -> tuple[Automation | None, str | None]:
    if not is_success(reply):
        return None, read_error_text(reply, clean)
    try:
        return parse_automation(await read_automation(reply)), None
    except InvalidAutomation as error:
        return None, error.reason
    except Undecodable as error:
        return None, clean(str(error))


# ---------------------------------------------------------------- any other request


def to_error(
    result: Reply | Failure, *, request: str, target: str, on_list: bool, now: datetime, clean: Clean
) -> UpstreamError:
    """Return an error with the cause of the failed ``request`` and the remedy.

    ``on_list``: a 404 means a wrong target, and not a missing automation.
    """
    if isinstance(result, Failure):
        return UpstreamError(f"{request} {_describe_failure(result, request)}: {clean(result.error)}")
    remedy = _find_remedy(result, target, on_list=on_list, clean=clean)
    words = read_error_text(result, clean)
    text = f"{request} answered HTTP {result.status}" + (f": {words}" if words else "")
    text += f"; {remedy}" if remedy else ""
    retry_after = read_retry_after(result, now)
    return UpstreamError(text, status=result.status, retry_after=retry_after, held=remedy is not None)


def _describe_failure(failure: Failure, request: str) -> str:
    if not failure.sent:
        return "could not be sent"
    read_only = request.startswith("GET ")
    return "was not answered" + ("" if read_only else ", and may have been carried out")


def _find_remedy(reply: Reply, target: str, *, on_list: bool, clean: Clean) -> str | None:
    """Return the remedy for a fault of the whole target, or None when no person has to act."""
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return f"check the key of target {target}"
    if reply.status == HTTPStatus.FORBIDDEN and _is_missing_scope(reply):
        return f"give the key of target {target} that scope"
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        return (
            f"it redirects to {_read_location(reply, clean)}; set the url of target {target} to where "
            "the API really is"
        )
    if on_list and reply.status == HTTPStatus.NOT_FOUND:
        return f"check the url and the project_id of target {target}"
    return None


# ---------------------------------------------------------------- the parts of an answer


def is_success(reply: Reply) -> bool:
    """Return whether the status is a 2xx."""
    return HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES


def read_error_text(reply: Reply, clean: Clean) -> str | None:
    """Return the text of an error's body as ``attr: detail``, or None for an empty body.

    Return the beginning of the body when the body is not in this form.
    """
    value: object = None
    with suppress(Undecodable):
        value = decode_whole(reply) if len(reply.body or b"") <= _LONGEST_ERROR else None
    if isinstance(value, Mapping) and isinstance(detail := value.get("detail"), str):
        attr = value.get("attr")
        return clean(f"{attr}: {detail}" if isinstance(attr, str) else detail)
    text = reply.problem or (reply.body or b"")[: 8 * _LONGEST_TEXT].decode("utf-8", "replace")
    return clean(text) or None


def read_retry_after(reply: Reply, now: datetime) -> float | None:
    """Return the seconds of ``Retry-After``, or None for garbage.

    RFC 9110, section 10.2.3, has its two forms. The result is at most a day for a 429, which stops the whole
    target, and an hour for any other answer.
    """
    longest = LONGEST_THROTTLE if reply.status == HTTPStatus.TOO_MANY_REQUESTS else LONGEST_WAIT
    text = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return longest if len(text) > _MOST_DIGITS else min(float(text), longest)
    instant = parse_http_date(text)
    if instant is None:
        return None
    return min(max((instant - (read_date(reply) or now)).total_seconds(), 0.0), longest)


def read_date(reply: Reply) -> datetime | None:
    """Return the server's clock from ``Date`` (whole seconds, UTC), or None without a readable date."""
    return parse_http_date(reply.headers.get("date", ""))


@lru_cache(maxsize=64)
def parse_http_date(text: str) -> datetime | None:
    """Return an HTTP date in UTC, or None for any other text."""
    try:
        instant = parsedate_to_datetime(text)
        return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_missing_scope(reply: Reply) -> bool:
    """Return whether a 403 is about a scope of the key, and not about this automation alone."""
    return reply.status == HTTPStatus.FORBIDDEN and "scope" in (read_error_text(reply, str) or "").lower()


def _read_location(reply: Reply, clean: Clean) -> str | None:
    """Return the destination of a redirect without the parts that may be secret."""
    location = reply.headers.get("location")
    if location is None:
        return None
    try:
        parts = urlsplit(location)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return clean(location.partition("?")[0])
    return clean(parts._replace(netloc=host, query="", fragment="").geturl())


# ---------------------------------------------------------------- text


def clean_text(text: str, *, secret: str) -> str:
    """Return one short printable line of ``text``, with ``secret`` replaced."""
    printable = "".join(
        " " if unicodedata.category(character) in _UNPRINTABLE else character
        for character in text[: 8 * _LONGEST_TEXT]
    )
    line = " ".join(printable.split()).replace(secret, "[key]")
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
