"""The JSON of an answer: an automation or a page of them as far as the daemon needs it, or whole documents, for people.

The daemon takes from an object what `parse_automation` reads; whatever else is in it, a prompt above all, is passed over, so that nothing
in it can be too large or too strange. Whole documents are for commands: they are bounded, and an object beyond the bound shows what it can.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from scheduler.core.model import AUTOMATION_FIELDS, Unreadable
from scheduler.core.plural import pluralize
from scheduler.upstream.exchange import Reply
from scheduler.upstream.partial_json import Malformed, ReadItems, Steps, make_keys, read_value, run_in_pieces, skip_value

MAX_VALUES: Final = 200_000
"""JSON values of a whole document, by its commas and brackets outside of texts. Eight megabytes of ``[],[],`` would become two hundred
megabytes of lists."""
_AUTOMATION: Final = make_keys(AUTOMATION_FIELDS)
_PAGE: Final = make_keys(("count", "results"))
_LONGEST_INTEGER: Final = 1000
"""Digits. Making a number of them takes quadratic time."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"', re.DOTALL)


class Undecodable(ValueError):
    """An answer whose body is missing, or is no JSON that we take."""


async def read_automation(reply: Reply) -> object:
    """What `parse_automation` takes. Raises `Undecodable`."""
    try:
        return await run_in_pieces(read_value(_require_body(reply), _AUTOMATION))
    except Malformed as error:
        raise _make_undecodable(reply, str(error)) from None


async def read_page(reply: Reply) -> object:
    """An object with ``count`` and ``results``, of which each is what `parse_automation` takes. Raises `Undecodable`."""
    return await _read_page(reply, ReadItems(_AUTOMATION))


async def read_whole_page(reply: Reply) -> object:
    """The same with whole documents. One that is no JSON, or too much, has the fields that could be read. Raises `Undecodable`."""
    return await _read_page(reply, _ReadWholeItems(_AUTOMATION))


async def read_first_row(reply: Reply) -> object:
    """The first object of a page of which only the beginning was taken, as far as it can be read; None when it does not even begin."""
    items = ReadItems(_AUTOMATION)
    with suppress(Malformed):
        await run_in_pieces(read_value(reply.body or b"", _PAGE, {"results": items}))
    items.spoil(f"the object is too large: {reply.problem}")  # also where its end happened to come along
    return items.rows[0] if items.rows else None


async def _read_page(reply: Reply, items: ReadItems) -> object:
    try:
        return await run_in_pieces(read_value(_require_body(reply), _PAGE, {"results": items}))
    except Malformed as error:
        raise _make_undecodable(reply, str(error)) from None


def decode_whole(reply: Reply) -> object:
    """The whole body. Raises `Undecodable`, also for what is nested too deeply. Not for the event loop of a daemon."""
    body = _require_body(reply)
    try:
        return _decode(body)
    except (ValueError, RecursionError) as error:
        raise _make_undecodable(reply, str(error) if isinstance(error, _TooManyValues) else type(error).__name__) from None


def _require_body(reply: Reply) -> bytes:
    if reply.body is None or reply.problem is not None:
        raise Undecodable(reply.problem or "it has no body")
    return reply.body


def _make_undecodable(reply: Reply, why: str) -> Undecodable:
    kind = reply.headers.get("content-type", "of no type")
    return Undecodable(f"its body is no JSON ({why}; {pluralize(len(reply.body or b''), 'byte')}, {kind})")


# ---------------------------------------------------------------- whole documents


class _TooManyValues(ValueError):
    """A document holds more values than are taken."""


class _ReadWholeItems(ReadItems):
    """Reads the items of a list as they are."""

    def read(self, body: bytes, at: int) -> Steps[int]:
        """See `ReadItems`."""
        end = yield from skip_value(body, at)
        try:
            self.rows.append(_decode(body[at:end]))
        except (ValueError, RecursionError):
            yield from super().read(body, at)
            self.rows[-1] = _drop_unreadable(self.rows[-1])
        return end


def _drop_unreadable(row: object) -> object:
    return {name: value for name, value in row.items() if not isinstance(value, Unreadable)} if isinstance(row, Mapping) else None


def _decode(body: bytes) -> object:
    values = _STRING.sub(b"", body)
    if sum(values.count(mark) for mark in b",[{") > MAX_VALUES:
        raise _TooManyValues(f"it holds more than {MAX_VALUES} values")
    return _JSON.decode(body.decode("utf-8-sig"))


def _parse_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


_JSON: Final = json.JSONDecoder(parse_int=_parse_integer)
