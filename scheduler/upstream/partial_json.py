"""A reader of the wanted fields of JSON objects in the bytes of an answer. All other content is skipped.

`json` builds every value of a document, and refuses the whole document for one bad value. This module is
different. A page of automations holds prompts of any size, and the daemon needs no prompt. Prompts are
skipped as bytes, so a prompt costs neither memory nor an automation. A bad object costs only this object: its
brackets give the beginning of the next object. Only small objects are given to `json`, one by one, for its
speed.

All readers are generators. They yield after each small piece of work, so a hostile answer of megabytes never
delays the event loop. Run the readers with `run_in_pieces`. The return value of a reader is its result. The
grammar is the grammar of RFC 8259. Skipped content is not checked.
"""

import asyncio
import json
import re
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from scheduler.core.model import Unreadable

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A reader: a generator with a yield between pieces of work, and with a result."""
Fields = dict[str, object]

PIECE: Final = 2**16
"""Bytes skipped between two yields."""
LONGEST_VALUE: Final = 2**20
"""Largest wanted value, in bytes. A longer value is `Unreadable`."""
SMALL: Final = 2**14
"""Largest object, in bytes, for `json`. Any content of this size is read without a noticeable delay."""
_STEPS: Final = 200
"""Members, brackets or rows between two yields: about a millisecond."""
_LONGEST_NUMBER: Final = 32
MOST_ITEMS: Final = 100_000
"""Largest number of objects in a list.

An answer of 8 MiB holds fewer automations than this, but millions of empty objects.
"""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
# Only repeats of single characters are possessive. Up to Python 3.11.4, possessive repeats of groups lose
# their place when they fail (CPython #106052).
STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*', re.DOTALL)
_IN_SCALAR: Final = re.compile(rb'[^"\[\]{},: \t\n\r]++')
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*' % STRING, re.DOTALL)
_DEPTHS: Final[Mapping[bytes, int]] = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_KINDS: Final[Mapping[bytes, type]] = {b"[": list, b"{": dict}


class Malformed(ValueError):
    """The bytes at this place are no JSON."""


_turns: "Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]]" = WeakKeyDictionary()


async def run_in_pieces(steps: Steps[T]) -> T:
    """Return the result of ``steps``, and let other tasks run between the pieces.

    Raise the errors of ``steps``. The event loop does one piece in each of its rounds, even with many large
    answers at the same time. A due occurrence waits for one piece at most.
    """
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    try:
        next(steps)  # a small answer has no other piece
        while True:
            async with turn:
                await asyncio.sleep(0)
                next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def read_value(body: bytes, wanted: Collection[str], items: "ReadItems | None" = None) -> Steps[object]:
    """Return the wanted fields of the object in ``body``. For any other value only the type counts.

    ``items`` reads the items of wanted lists. The last of several members with one key counts. Raise
    `Malformed`.
    """
    begin = _skip_space(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0)
    value: object
    if body[begin : begin + 1] == b"{":
        value = fields = Fields()
        end = yield from _read_members(body, begin, wanted, fields, items)
    else:
        end = yield from skip_value(body, begin)
        value = _decode(body, begin, end)
    if _skip_space(body, end) != len(body):
        raise Malformed("something follows it")
    if isinstance(value, Unreadable):
        raise Malformed(f"it is {value.reason}")
    return value


class ReadItems:
    """A reader of list items, with the results in ``rows``.

    An object becomes its wanted fields, and any other item a value of its type. An object without valid JSON
    has the readable part of its id and name, and `Unreadable` as its other fields. After `Malformed`,
    ``rows`` still has the items before the error. The last row may be the beginning of the object at the end
    of the body.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self.rows: list[object] = []
        self._wanted = wanted

    def read(self, body: bytes, at: int) -> Steps[int]:
        """Append the item at ``at`` and return the index of its end.

        Raise `Malformed` when the end is unknown, and after `MOST_ITEMS` items.
        """
        if len(self.rows) == MOST_ITEMS:
            raise Malformed(f"a list in it holds more than {MOST_ITEMS:,} objects")
        if body[at : at + 1] != b"{":
            end = yield from skip_value(body, at)
            self.rows.append(_decode(body, at, end))
            return end
        fields = Fields()
        self.rows.append(fields)
        with suppress(ValueError, RecursionError):
            end = body.find(b"}", at, at + SMALL) + 1  # the end of most objects
            fields.update(self._decode_object(body[at:end]))
            return end
        with suppress(ValueError, RecursionError):
            end = yield from skip_value(body, at)
            fields.update(self._decode_object(body[at:end]))
            return end
        return (yield from self._read_in_parts(body, at, fields))

    def _decode_object(self, text: bytes) -> Fields:
        """Return the wanted fields of a small object by `json`, which is several times as fast.

        A list or an object becomes an empty value of its type, since a page of small objects may hold a
        million lists. Raise ValueError or RecursionError.
        """
        if len(text) > SMALL:
            raise ValueError("too large")
        row = _JSON.decode(text.decode(errors="surrogateescape"))
        values = ((name, row[name]) for name in self._wanted if name in row)
        return {name: type(value)() if isinstance(value, list | dict) else value for name, value in values}

    def _read_in_parts(self, body: bytes, at: int, fields: Fields) -> Steps[int]:
        try:
            return (yield from _read_members(body, at, self._wanted, fields))
        except Malformed:
            self.spoil("the object is no JSON")
            return (yield from skip_value(body, at))

    def spoil(self, why: str) -> None:
        """Make the fields of the newest object unreadable, except its id and its name."""
        if self.rows and isinstance(fields := self.rows[-1], dict):
            unreadable = _make_unreadable(why)
            fields |= {name: unreadable for name in self._wanted if name not in {"id", "name"}}


@lru_cache(maxsize=8)
def _make_unreadable(why: str) -> Unreadable:
    """Return one shared object for thousands of bad rows.

    Python's garbage collector stops the event loop to visit every object.
    """
    return Unreadable(f"unreadable, since {why}")


# ---------------------------------------------------------------- reading


def _read_members(
    body: bytes, at: int, wanted: Collection[str], fields: Fields, items: ReadItems | None = None
) -> Steps[int]:
    """Read the object at ``at`` into ``fields``. Return the index of its end."""
    return _read_series(body, at, lambda begin: _read_member(body, begin, wanted, fields, items))


def _read_series(body: bytes, at: int, read_next: Callable[[int], Steps[int]]) -> Steps[int]:
    """Read the members or items behind the opening bracket at ``at``, each by ``read_next``.

    Return the index behind the closing bracket.
    """
    mark, closing = b",", b"}" if body[at : at + 1] == b"{" else b"]"
    at = _skip_space(body, at + 1)
    if body[at : at + 1] == closing:
        return at + 1
    count, paused_at = 0, at
    while mark != closing:
        count += 1
        if count % _STEPS == 0 or at - paused_at > SMALL:
            yield
            paused_at = at
        end = yield from read_next(at)
        mark, at = _read_mark(body, end, b"," + closing)
    return at


def _read_member(
    body: bytes, at: int, wanted: Collection[str], fields: Fields, items: ReadItems | None
) -> Steps[int]:
    """Read the member at ``at``. Return the index of its end."""
    if body[at : at + 1] != b'"':
        _fail(body, at)
    key_end = yield from skip_value(body, at)
    name = _decode(body, at, key_end)
    _, begin = _read_mark(body, key_end, b":")
    if not isinstance(name, str) or name not in wanted:
        return (yield from skip_value(body, begin))
    if items is not None and body[begin : begin + 1] == b"[":
        fields[name] = items.rows
        return (yield from _read_series(body, begin, lambda item: items.read(body, item)))
    end = yield from skip_value(body, begin)
    fields[name] = _decode(body, begin, end)
    return end


def _read_mark(body: bytes, at: int, allowed: bytes) -> tuple[bytes, int]:
    """Return the mark behind the space at ``at``, and the index of the value behind the mark."""
    at = _skip_space(body, at)
    mark = body[at : at + 1]
    if not mark or mark not in allowed:
        _fail(body, at)
    return mark, _skip_space(body, at + 1)


def _skip_space(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    assert space is not None  # the pattern also matches an empty text
    return space.end()


def _fail(body: bytes, at: int) -> NoReturn:
    raise Malformed("it ends too early" if at >= len(body) else f"it is no JSON at byte {at}")


# ---------------------------------------------------------------- passing over


def skip_value(body: bytes, at: int) -> Steps[int]:
    """Return the index behind the value at ``at``."""
    first = body[at : at + 1]
    if first == b'"':
        return (yield from _skip_string(body, at))
    if first in _KINDS:
        return (yield from _skip_brackets(body, at))
    end = at
    while (piece := _IN_SCALAR.match(body, end, end + PIECE)) is not None:
        if end > at:
            yield
        end = piece.end()
    if end == at:
        _fail(body, at)
    return end


def _skip_string(body: bytes, at: int) -> Steps[int]:
    at += 1
    while True:
        piece = _IN_STRING.match(body, at, at + PIECE)
        assert piece is not None  # the pattern also matches an empty text
        if body[piece.end() : piece.end() + 1] == b'"':
            return piece.end() + 1
        if piece.end() == at:
            _fail(body, at)
        at = piece.end()
        yield


def _skip_brackets(body: bytes, at: int) -> Steps[int]:
    """Skip a value in brackets by the depth of its brackets, without regard to their kinds.

    The depth gives the end of the value even when other parts of the value are wrong.
    """
    depth = count = 0
    while True:
        count += 1
        piece = _TO_BRACKET.match(body, at, at + PIECE)
        assert piece is not None  # the pattern also matches an empty text
        if count % _STEPS == 0 or piece.end() - at > PIECE // 2:
            yield
        at = piece.end()
        mark = body[at : at + 1]
        if mark in _DEPTHS:
            depth, at = depth + _DEPTHS[mark], at + 1
            if not depth:
                return at
        elif mark == b'"':
            at = yield from _skip_string(body, at)
        elif not mark:
            _fail(body, at)


# ---------------------------------------------------------------- values


def _decode(body: bytes, begin: int, end: int) -> object:
    """Return the value between two indexes.

    A list or an object becomes empty, since no field is a list or an object. Bytes that are no UTF-8 become
    halves of surrogate pairs, which a text that decides may not contain.
    """
    if end - begin > LONGEST_VALUE:
        return Unreadable(f"{end - begin} bytes long")
    if (kind := _KINDS.get(body[begin : begin + 1])) is not None:
        return kind()
    try:
        value: object = _JSON.decode(body[begin:end].decode(errors="surrogateescape"))
    except ValueError:
        return Unreadable("no JSON")
    return value


def _parse_integer(digits: str) -> object:
    if len(digits) > _LONGEST_NUMBER:
        return Unreadable(f"a number of {len(digits)} characters")
    return int(digits)


def _parse_constant(_: str) -> Unreadable:
    return Unreadable("no JSON")


_JSON: Final = json.JSONDecoder(parse_int=_parse_integer, parse_constant=_parse_constant)
