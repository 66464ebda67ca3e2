"""The JSON of an answer: an automation or a page in the daemon's form, or whole documents for people.

The daemon takes from an object the fields of `parse_automation`, and skips all other content, above all the
prompt. No other content can therefore be too large or too strange. Whole documents are for commands. They are
bounded, and an object beyond the bound has only its readable fields.
"""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from scheduler.core.model import AUTOMATION_FIELDS, Unreadable
from scheduler.core.quantities import pluralize
from scheduler.upstream.exchange import Reply
from scheduler.upstream.partial_json import STRING, Fields, Malformed, ReadItems, read_value, run_in_pieces

MAX_VALUES: Final = 200_000
"""Largest number of JSON values in a whole document, by its commas and brackets outside of texts.

Eight megabytes of ``[],[],`` would become two hundred megabytes of lists.
"""
_PAGE: Final = ("count", "results")
_LONGEST_INTEGER: Final = 1000
"""Largest number of digits of an integer. The conversion takes quadratic time."""
_STRING: Final = re.compile(STRING, re.DOTALL)


class Undecodable(ValueError):
    """The body of an answer is missing, or is no acceptable JSON."""


async def read_automation(reply: Reply) -> object:
    """Return the input of `parse_automation`. Raise `Undecodable`."""
    return await _read_fields(reply, AUTOMATION_FIELDS)


async def read_page(reply: Reply) -> object:
    """Return an object with ``count`` and ``results``. Raise `Undecodable`.

    Each item of ``results`` is an input of `parse_automation`.
    """
    return await _read_fields(reply, _PAGE, ReadItems(AUTOMATION_FIELDS))


async def read_whole_page(reply: Reply) -> object:
    """Return a page as `read_page` does, with whole documents. Raise `Undecodable`.

    A document without valid JSON, or beyond the bound, has only its readable fields.
    """
    return await _read_fields(reply, _PAGE, _ReadWholeItems(AUTOMATION_FIELDS))


async def read_first_row(reply: Reply) -> object:
    """Return the readable fields of the first object of an incomplete page.

    Return None when the body does not reach the beginning of an object.
    """
    items = ReadItems(AUTOMATION_FIELDS)
    with suppress(Malformed):
        await run_in_pieces(read_value(reply.body or b"", _PAGE, items))
    items.spoil(f"the object is too large: {reply.problem}")  # also when the end of the object arrived
    return items.rows[0] if items.rows else None


async def _read_fields(reply: Reply, wanted: Collection[str], items: ReadItems | None = None) -> object:
    try:
        return await run_in_pieces(read_value(_require_body(reply), wanted, items))
    except Malformed as error:
        raise _make_undecodable(reply, str(error)) from None


def decode_whole(reply: Reply) -> object:
    """Return the whole body as JSON. Raise `Undecodable`, also for too deep nesting.

    The function is not for the event loop of a daemon.
    """
    body = _require_body(reply)
    try:
        return _decode(body)
    except Malformed as error:
        raise _make_undecodable(reply, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _make_undecodable(reply, type(error).__name__) from None


def _require_body(reply: Reply) -> bytes:
    if reply.body is None or reply.problem is not None:
        raise Undecodable(reply.problem or "it has no body")
    return reply.body


def _make_undecodable(reply: Reply, why: str) -> Undecodable:
    kind = reply.headers.get("content-type", "of no type")
    return Undecodable(f"its body is no JSON ({why}; {pluralize(len(reply.body or b''), 'byte')}, {kind})")


# ---------------------------------------------------------------- whole documents


class _ReadWholeItems(ReadItems):
    """Reads the objects of a list as whole documents."""

    def _decode_object(self, text: bytes) -> Fields:
        document: Fields = _decode(text)
        return document


def drop_unreadable(row: Fields) -> Fields:
    """Return the readable fields of an object."""
    return {name: value for name, value in row.items() if not isinstance(value, Unreadable)}


def _decode(body: bytes) -> Any:
    values = _STRING.sub(b"", body)
    if sum(values.count(mark) for mark in b",[{") > MAX_VALUES:
        raise Malformed(f"it holds more than {MAX_VALUES} values")
    return _JSON.decode(body.decode("utf-8-sig"))


def _parse_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


_JSON: Final = json.JSONDecoder(parse_int=_parse_integer)
