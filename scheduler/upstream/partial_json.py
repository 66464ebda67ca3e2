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
from collections.abc import Generator, Iterable, Mapping
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
_WINDOWS: Final = (2**9, 2**12, SMALL)
"""Numbers of bytes of a small object for `json`, tried in turn while the object goes on behind them."""
_LONGEST_ESCAPE: Final = len("\\u0000")
_STEPS: Final = 200
"""Members, brackets or rows between two yields: less than a millisecond."""
_LONGEST_NUMBER: Final = 32
MOST_ITEMS: Final = 100_000
"""Largest number of objects in a list.

An answer of 8 MiB holds fewer automations than this, but millions of empty objects.
"""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
# Only repeats of single characters are possessive. Up to Python 3.11.4, possessive repeats of groups lose
# their place when they fail (CPython #106052).
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_SCALAR: Final = rb'[^"\[\]{},: \t\n\r]++'
_S: Final = _SPACE.pattern
_MEMBER: Final = re.compile(
    b"(%b)%b:%b(%b|%b)%b([,}])%b" % (_STRING, _S, _S, _STRING, _SCALAR, _S, _S), re.DOTALL
)
"""A member of an object with a text, a number or a word as its value, and the mark behind the member."""
_KEY: Final = re.compile(b"(%b)%b:%b" % (_STRING, _S, _S), re.DOTALL)
_MARK: Final = re.compile(b"%b([,}])%b" % (_S, _S))
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*', re.DOTALL)
_IN_SCALAR: Final = re.compile(_SCALAR)
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*' % _STRING, re.DOTALL)
_WORDS: Final[Mapping[bytes, object]] = {b"true": True, b"false": False, b"null": None}
_KINDS: Final[Mapping[bytes, type]] = {b"[": list, b"{": dict}


class Malformed(ValueError):
    """The bytes at this place are no JSON."""


def make_keys(names: Iterable[str]) -> Mapping[bytes, str]:
    """Return field names in the form that `read_value` uses."""
    return {f'"{name}"'.encode(): name for name in names}


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


def read_value(
    body: bytes, wanted: Mapping[bytes, str], items: Mapping[str, "ReadItems"] | None = None
) -> Steps[object]:
    """Return the wanted fields of the object in ``body``. For any other value only the type counts.

    ``wanted`` is made by `make_keys`. ``items`` gives the readers of list items, by field. The last of
    several members with one key counts. Raise `Malformed`.
    """
    at = _skip_space(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0)
    value, end = yield from _read(body, at, wanted, items or {})
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

    def __init__(self, wanted: Mapping[bytes, str]) -> None:
        self.rows: list[object] = []
        self._wanted = wanted

    def read(self, body: bytes, at: int) -> Steps[int]:
        """Append the item at ``at`` and return the index of its end.

        Raise `Malformed` when the end is unknown.
        """
        if body[at : at + 1] != b"{":
            value, end = yield from _read(body, at, {}, {})
            self.rows.append(value)
            return end
        if (small := _read_small(body, at)) is not None:
            self.rows.append(self._pick(small[0]))
            return small[1]
        fields: Fields = {}
        self.rows.append(fields)
        try:
            return (yield from _read_members(body, at + 1, self._wanted, {}, fields))
        except Malformed:
            self.spoil("the object is no JSON")
            return (yield from skip_value(body, at))

    def _pick(self, row: Fields) -> Fields:
        """Return only the wanted fields, since a page of small objects may hold a million lists.

        A list or an object becomes an empty value of its type.
        """
        values = ((name, row[name]) for name in self._wanted.values() if name in row)
        return {name: type(value)() if isinstance(value, list | dict) else value for name, value in values}

    def spoil(self, why: str) -> None:
        """Make the fields of the newest object unreadable, except its id and its name."""
        if self.rows and isinstance(fields := self.rows[-1], dict):
            unreadable = _make_unreadable(why)
            fields |= {name: unreadable for name in self._wanted.values() if name not in {"id", "name"}}


@lru_cache(maxsize=8)
def _make_unreadable(why: str) -> Unreadable:
    """Return one shared object for thousands of bad rows.

    Python's garbage collector stops the event loop to visit every object.
    """
    return Unreadable(f"unreadable, since {why}")


# ---------------------------------------------------------------- reading


def _read(
    body: bytes, at: int, wanted: Mapping[bytes, str], items: Mapping[str, ReadItems]
) -> Steps[tuple[object, int]]:
    if body[at : at + 1] == b"{":
        fields: Fields = {}
        return fields, (yield from _read_members(body, at + 1, wanted, items, fields))
    end = yield from skip_value(body, at)
    return _decode(body, at, end), end


def _read_members(
    body: bytes, at: int, wanted: Mapping[bytes, str], items: Mapping[str, ReadItems], fields: Fields
) -> Steps[int]:
    """Read the members behind the opening bracket into ``fields``.

    Return the index behind the closing bracket.
    """
    at = _skip_space(body, at)
    if body[at : at + 1] == b"}":
        return at + 1
    count, paused_at = 0, at
    while True:
        count += 1
        if count % _STEPS == 0 or at - paused_at > PIECE:
            yield
            paused_at = at
        member = _MEMBER.match(body, at, at + PIECE)
        if member is not None and member[3] == b"," and member.end() == at + PIECE:
            member = None  # the space behind the member may go on
        if member is not None:
            name = _find_name(member[1], wanted)
            if name is not None:
                fields[name] = _decode(body, *member.span(2))
            mark, at = member[3], member.end()
        else:
            mark, at = yield from _read_long_member(body, at, wanted, items, fields)
        if mark == b"}":
            return at


def _read_long_member(
    body: bytes, at: int, wanted: Mapping[bytes, str], items: Mapping[str, ReadItems], fields: Fields
) -> Steps[tuple[bytes, int]]:
    """Read a nested or long member. Return the mark behind the member, and the index behind the mark."""
    key = _KEY.match(body, at, at + PIECE)
    if key is None:
        _fail(body, at)
    name, begin = _find_name(key[1], wanted), key.end()
    if name is not None and name in items and body[begin : begin + 1] == b"[":
        fields[name] = items[name].rows
        end = yield from _read_items(body, begin + 1, items[name])
    else:
        end = yield from skip_value(body, begin)
        if name is not None:
            fields[name] = _decode(body, begin, end)
    mark = _MARK.match(body, end)
    if mark is None:
        _fail(body, end)
    return mark[1], mark.end()


def _read_items(body: bytes, at: int, items: ReadItems) -> Steps[int]:
    at = _skip_space(body, at)
    if body[at : at + 1] == b"]":
        return at + 1
    paused_at = at
    while True:
        if len(items.rows) % _STEPS == 0 or at - paused_at > SMALL:
            yield
            paused_at = at
        if len(items.rows) == MOST_ITEMS:
            raise Malformed(f"a list in it holds more than {MOST_ITEMS:,} objects")
        end = yield from items.read(body, _skip_space(body, at))
        at = _skip_space(body, end)
        mark = body[at : at + 1]
        at += 1
        if mark == b"]":
            return at
        if mark != b",":
            _fail(body, at)


def _find_name(key: bytes, wanted: Mapping[bytes, str]) -> str | None:
    """Return the name of the field with this key, or None. The key may contain escapes."""
    if b"\\" in key and isinstance(text := _decode_text(key), str):
        key = b'"%b"' % text.encode(errors="replace")
    return wanted.get(key)


# ---------------------------------------------------------------- small objects


def _read_small(body: bytes, at: int) -> tuple[Fields, int] | None:
    """Read a small object with `json`, which is several times as fast, and return the object and its end.

    Return None for an object that is not small, or that `json` refuses. The text for `json` usually ends with
    the object. `json` gets more text only when the object goes on behind the text, so thousands of bad
    objects cost no more than their bytes.
    """
    for end in (body.find(b"}", at, at + SMALL) + 1, *(at + size for size in _WINDOWS)):
        text = body[at:end].decode(errors="surrogateescape")
        try:
            value, length = _JSON.raw_decode(text)
        except json.JSONDecodeError as error:
            if error.pos < len(text) - _LONGEST_ESCAPE and not error.msg.startswith("Unterminated"):
                return None
        except (ValueError, RecursionError):
            return None
        else:
            read = text[:length]
            return value, at + (length if text.isascii() else len(read.encode(errors="surrogateescape")))
    return None


def _parse_integer(digits: str) -> object:
    if len(digits) > _LONGEST_NUMBER:
        return Unreadable(f"a number of {len(digits)} characters")
    return int(digits)


_JSON: Final = json.JSONDecoder(parse_int=_parse_integer)


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
        end = piece.end()
        yield
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
        if count % _STEPS == 0:
            yield
        piece = _TO_BRACKET.match(body, at, at + PIECE)
        assert piece is not None  # the pattern also matches an empty text
        if piece.end() - at > PIECE // 2:
            yield
        at = piece.end()
        mark = body[at : at + 1]
        if mark == b'"':
            at = yield from _skip_string(body, at)
        elif mark in {b"[", b"{"}:
            depth, at = depth + 1, at + 1
        elif mark in {b"]", b"}"}:
            depth, at = depth - 1, at + 1
            if not depth:
                return at
        elif not mark:
            _fail(body, at)


def _skip_space(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    assert space is not None  # the pattern also matches an empty text
    return space.end()


def _fail(body: bytes, at: int) -> NoReturn:
    raise Malformed("it ends too early" if at >= len(body) else f"it is no JSON at byte {at}")


# ---------------------------------------------------------------- values


def _decode(body: bytes, begin: int, end: int) -> object:
    """Return the value between two indexes.

    A list or an object becomes empty, since no field is a list or an object.
    """
    if end - begin > LONGEST_VALUE:
        return Unreadable(f"{end - begin} bytes long")
    value = body[begin:end]
    if value.startswith(b'"'):
        return _decode_text(value)
    if value in _WORDS:
        return _WORDS[value]
    kind = _KINDS.get(value[:1])
    return _parse_number(value) if kind is None else kind()


def _decode_text(value: bytes) -> object:
    """Return the text.

    Bytes that are no UTF-8 become halves of surrogate pairs, which a text that decides may not contain.
    """
    try:
        text: object = _JSON.decode(value.decode(errors="surrogateescape"))
    except ValueError:
        return Unreadable("no JSON")
    return text


def _parse_number(value: bytes) -> object:
    if len(value) > _LONGEST_NUMBER:
        return Unreadable(f"a number of {len(value)} characters")
    try:
        return float(value) if re.search(rb"[.eE]", value) else int(value)
    except ValueError:
        return Unreadable("no JSON")
