"""The meaning of an answer.

An attempt has an `AttemptResponse`, `NotSent` or `NoResponse`; every other answer that is no success is an `UpstreamError`.

What the other side wrote is never passed on as it is: it is shortened, and control characters and our own key are taken out.
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
from scheduler.core.verdict import AttemptResponse, NoResponse, NotSent
from scheduler.upstream.documents import Undecodable, decode_whole, read_automation
from scheduler.upstream.exchange import Failure, Reply

Clean = Callable[[str], str]
"""Makes a text of the other side fit to be shown."""

LONGEST_WAIT: Final = 3600.0
"""A ``Retry-After`` counts as no longer than this. Seconds."""
LONGEST_THROTTLE: Final = 24 * 3600.0
"""Seconds. The ``Retry-After`` of a 429 counts as no longer: limits by the day exist, a longer wait may be a mistake."""
_MOST_DIGITS: Final = 18
"""A number with more digits is beyond every limit."""
_LONGEST_TEXT: Final = 300
_LONGEST_ERROR: Final = 2**16
"""Bytes of an error's body that are read as JSON; of a longer one the beginning is shown."""
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


# ---------------------------------------------------------------- an attempt


async def to_attempt_response(came: Reply | Failure, *, now: datetime, clean: Clean) -> AttemptResponse | NotSent | NoResponse:
    """What came back of a ``POST …/run/``."""
    if isinstance(came, Failure):
        return NoResponse(clean(came.error)) if came.sent else NotSent(clean(came.error))
    automation, error = await _parse_automation(came, clean)
    return AttemptResponse(
        status=came.status,
        automation=automation,
        retry_after=read_retry_after(came, now),
        location=_read_location(came, clean),
        missing_scope=_is_missing_scope(came),
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


def to_error(came: Reply | Failure, *, request: str, target: str, on_list: bool, now: datetime, clean: Clean) -> UpstreamError:
    """Why ``request`` failed and what to do about it. ``on_list``: a 404 says that the target is wrong, not that something is gone."""
    if isinstance(came, Failure):
        return UpstreamError(f"{request} {_describe_failure(came, request)}: {clean(came.error)}")
    remedy = _find_remedy(came, target, on_list=on_list, clean=clean)
    words = read_error_text(came, clean)
    text = f"{request} answered HTTP {came.status}" + (f": {words}" if words else "") + (f"; {remedy}" if remedy else "")
    return UpstreamError(text, status=came.status, retry_after=read_retry_after(came, now), held=remedy is not None)


def _describe_failure(failure: Failure, request: str) -> str:
    if not failure.sent:
        return "could not be sent"
    return "was not answered" if request.startswith("GET ") else "was not answered and may have been carried out all the same"


def _find_remedy(reply: Reply, target: str, *, on_list: bool, clean: Clean) -> str | None:
    """What somebody has to mend before anything works on this target; None when nobody has to."""
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return f"check the key of target {target}"
    if reply.status == HTTPStatus.FORBIDDEN and _is_missing_scope(reply):
        return f"give the key of target {target} that scope"
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        return f"it redirects to {_read_location(reply, clean)}; set the url of target {target} to where the API really is"
    if on_list and reply.status == HTTPStatus.NOT_FOUND:
        return f"check the url and the project_id of target {target}"
    return None


# ---------------------------------------------------------------- the parts of an answer


def is_success(reply: Reply) -> bool:
    """Whether its status is a 2xx."""
    return HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES


def read_error_text(reply: Reply, clean: Clean) -> str | None:
    """The words of an error's body, ``attr: detail``; of a body that is no such error, its beginning. None when there are none."""
    value: object = None
    with suppress(Undecodable):
        value = decode_whole(reply) if len(reply.body or b"") <= _LONGEST_ERROR else None
    if isinstance(value, Mapping) and isinstance(detail := value.get("detail"), str):
        attr = value.get("attr")
        return clean(f"{attr}: {detail}" if isinstance(attr, str) else detail)
    text = reply.problem or (reply.body or b"")[: 8 * _LONGEST_TEXT].decode("utf-8", "replace")
    return clean(text) or None


def read_retry_after(reply: Reply, now: datetime) -> float | None:
    """Return the seconds that ``Retry-After`` asks to wait, None for garbage. RFC 9110, section 10.2.3, has its two forms.

    At most a day for a 429, which stops the whole target, and an hour for any other answer.
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
    """The server's clock, from ``Date``: whole seconds, UTC. None when there is none to read."""
    return parse_http_date(reply.headers.get("date", ""))


@lru_cache(maxsize=64)
def parse_http_date(text: str) -> datetime | None:
    """A date as HTTP writes it, in UTC; None for anything else."""
    try:
        instant = parsedate_to_datetime(text)
        return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_missing_scope(reply: Reply) -> bool:
    """Whether a 403 is about a scope of the key, and not about this one automation."""
    return reply.status == HTTPStatus.FORBIDDEN and "scope" in (read_error_text(reply, str) or "").lower()


def _read_location(reply: Reply, clean: Clean) -> str | None:
    """Where a redirect leads, without what might be secret in it."""
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
    """One short printable line of ``text``, in which ``secret`` does not occur."""
    printable = "".join(" " if unicodedata.category(character) in _UNPRINTABLE else character for character in text[: 8 * _LONGEST_TEXT])
    line = " ".join(printable.split()).replace(secret, "[key]")
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
