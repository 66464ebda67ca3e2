"""The wanted fields of objects are what `json` makes of them, whatever stands around them, and every piece of
work is small.
"""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model import Unreadable
from scheduler.upstream import partial_json
from scheduler.upstream.partial_json import (
    MOST_ITEMS,
    PIECE,
    SMALL,
    Malformed,
    ReadItems,
    Steps,
    read_value,
    run_in_pieces,
)

WANTED = ("id", "name", "enabled")
PAGE = ("count", "results")


def done(steps: Steps[object]) -> object:
    """The result, with every piece of work done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def read(body: bytes) -> object:
    return done(read_value(body, WANTED))


def rows(body: bytes) -> list[object]:
    items: ReadItems = ReadItems(WANTED)
    page: object = done(read_value(body, PAGE, items))
    assert isinstance(page, dict)
    return items.rows


def wanted_of(value: object) -> object:
    """The same by `json`: of nested values no more than their kind."""
    if not isinstance(value, dict):
        return type(value)() if isinstance(value, list) else value
    return {name: field for name, field in value.items() if name in {"id", "name", "enabled"}}


def kinds(value: object) -> object:
    return (
        {name: type(field)() if isinstance(field, list | dict) else field for name, field in value.items()}
        if isinstance(value, dict)
        else value
    )


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "name", "x"]) | st.text(), inner, max_size=4)
    ),
)
OBJECTS = st.dictionaries(
    st.sampled_from(["id", "name", "enabled", "prompt", 'i"d', "n\\ame"]) | st.text(), VALUES, max_size=8
)
FORMS: list[dict[str, Any]] = [
    {},
    {"indent": 2},
    {"separators": (",", ":")},
    {"ensure_ascii": False},
    {"indent": "\t", "ensure_ascii": False},
]


@given(value=OBJECTS, form=st.sampled_from(FORMS), mark=st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_an_object_gives_what_json_gives(value: dict[str, object], form: dict[str, Any], mark: bytes) -> None:
    body = json.dumps(value, **form).encode(errors="surrogatepass")
    expected = kinds(wanted_of(json.loads(body.decode(errors="surrogatepass"))))
    if b"\xed" not in body:  # half a surrogate pair that is not spelt as an escape is no UTF-8
        assert read(mark + body) == expected


@given(
    values=st.lists(OBJECTS | LEAVES, max_size=6),
    form=st.sampled_from(FORMS),
    padding=st.sampled_from([0, SMALL, PIECE]),
)
def test_a_page_gives_its_rows_however_large_they_are(
    values: list[object], form: dict[str, Any], padding: int
) -> None:
    padded = [
        {**value, "prompt": '[{,\\"' * padding} if isinstance(value, dict) else value for value in values
    ]
    body = json.dumps({"next": [None], "results": padded, "count": len(values)}, **form).encode(
        errors="replace"
    )
    again = json.loads(body)["results"]
    assert [kinds(wanted_of(row)) for row in rows(body)] == [kinds(wanted_of(row)) for row in again]


@pytest.mark.parametrize("ending", ["", '\\"', "\\\\", "\\u00e4", '\\"]}', '"'])
@pytest.mark.parametrize("limit", [SMALL, PIECE, 2 * PIECE])
def test_nothing_is_lost_where_one_piece_ends_and_the_next_begins(limit: int, ending: str) -> None:
    for short in range(-36, 4, 3 if limit > PIECE else 1):
        text = "x" * (limit + short) + ending * 5
        body = json.dumps(
            {"results": [{"prompt": text, "id": "1"}, {"x": [{"prompt": text}], "id": "2"}, {"id": "3"}]}
        ).encode()
        assert [kinds(wanted_of(row)) for row in rows(body)] == [{"id": "1"}, {"id": "2"}, {"id": "3"}], short


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        b'{"id": "2", "name": }',
        b'{"id": "2", "x" 1}',
        b'{"id": "2" "name": "n"}',
        b'{"id": "2", nope}',
        b'{"id": "2", "x": {"y": [nope}]}',
        b'{"id": "2",, "name": "n"}',
    ],
)
def test_an_object_that_is_no_json_costs_that_object(bad: bytes, large: bool) -> None:
    padding = b'"prompt": "%b", ' % (b"x" * SMALL * large)
    body = b'{"count": 3, "results": [{"id": "1"}, {' + padding + bad[1:] + b', {"id": "3"}]}'
    first, spoilt, last = rows(body)
    assert (first, last) == ({"id": "1"}, {"id": "3"})
    assert isinstance(spoilt, dict)
    assert spoilt.get("id", "2") == "2"


def test_a_number_of_any_length_costs_that_number() -> None:
    body = b'{"count": 2, "results": [{"id": %b, "name": "n"}, {"x": %b, "id": "2"}]}' % (
        b"9" * 33,
        b"9" * 100_000,
    )
    first, second = rows(body)
    assert first == {"id": Unreadable("a number of 33 characters"), "name": "n"}
    assert second == {"id": "2"}


def test_a_wanted_text_without_measure_is_not_read() -> None:
    (only,) = rows(b'{"results": [{"id": "1", "name": "%b"}]}' % (b"x" * 2**21))
    assert only == {"id": "1", "name": Unreadable("2097154 bytes long")}


def test_bytes_that_are_no_utf8_cost_the_text_that_holds_them() -> None:
    first, second = rows(
        b'{"results": [{"id": "a\xff", "prompt": "\xfe"}, {"id": "2", "prompt": "\xc3\xa4 \xe2\x82"}]}'
    )
    assert first == {"id": "a\udcff"}
    assert isinstance(second, dict)
    assert second["id"] == "2"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"id": 1',
        b'{"id": 1} x',
        b"[1, 2",
        b"nope",
        b'"',
        b'"\\',
        b"{}{}",
        b'{"a": 1,}',
        b"NaN",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(body)


@given(body=st.binary(max_size=200) | st.text(st.sampled_from('{}[],:"\\ aid1'), max_size=60).map(str.encode))
def test_nothing_else_is_raised_and_whatever_json_takes_is_taken(body: bytes) -> None:
    try:
        taken = json.loads(body)
    except (ValueError, RecursionError):
        taken = None
    try:
        value = read(body)
    except Malformed:
        assert not isinstance(taken, dict)
    else:
        assert not isinstance(taken, dict) or value == kinds(wanted_of(taken))


HOSTILE = {
    "nested lists": b"[" * 2**20,
    "nested objects": b'{"a":' * 2**18,
    "many lists": b"[" + b"[]," * 2**18 + b"[]]",
    "many keys": b"{" + b'"a":1,' * 2**18 + b'"b":2}',
    "many texts": b"[" + b'"",' * 2**18 + b"1]",
    "one text": b'"' + b"x" * 2**20 + b'"',
    "escapes": b'"' + b'\\"' * 2**19 + b'"',
    "one number": b"9" * 2**20,
    "small rows": b'{"results": [' + b"{}," * 2**18 + b"{}]}",
    "rows of lists": b'{"results": [' + (b'{"x": [' + b"[]," * 5_000 + b"1]},") * 64 + b"{}]}",
    "broken rows": b'{"results": [' + b"{nope}," * 2**16 + b"{}]}",
    "long members": b'{"results": [{' + (b'"id": "' + b"\xff" * (PIECE - 100) + b'",') * 32 + b'"name": 1}]}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_large_value_is_read_in_many_pieces(body: bytes) -> None:
    """Each a bounded count of steps, or of bytes: so the pieces are in proportion to the size."""
    steps = read_value(body, (*WANTED, *PAGE), ReadItems(WANTED))
    pieces = 0
    try:
        while True:
            next(steps)
            pieces += 1
    except (StopIteration, Malformed):
        pass
    assert pieces >= len(body) // (2 * PIECE)


@pytest.mark.parametrize(
    "bad",
    [b"{nope}", b"{\xff}", b'{"a": "\xff", }', b'{"a": "}", nope}', b'{"a": {"b": 1} "c"}'],
    ids=lambda bad: bad.decode("latin-1"),
)
def test_thousands_of_bad_objects_cost_no_more_than_their_bytes(
    bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them once had `json` look at the next 16 KiB, which are 17 s of work in 8 MiB."""
    given_to_json = [0]

    class Counting(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
            given_to_json[0] += len(s)
            return super().raw_decode(s, idx)

    monkeypatch.setattr(partial_json, "_JSON", Counting())
    body = b'{"results": [' + (bad + b",") * 5_000 + b'{"id": "last"}]}'
    found = rows(body)
    assert len(found) == 5_001
    assert found[-1] == {"id": "last"}
    assert len(found[:-1]) * len(bad) <= given_to_json[0] <= 600 * 5_001


def test_between_two_pieces_json_reads_few_objects() -> None:
    body = b'{"results": [' + b", ".join([b'{"id": "%b"}' % (b"x" * 1_000)] * 2_000) + b"]}"
    pieces = sum(1 for _ in read_value(body, PAGE, ReadItems(WANTED)))
    assert pieces >= len(body) // (2 * SMALL)


def test_many_large_values_together_take_one_piece_in_each_round_of_the_loop() -> None:
    rounds, pieces_in, is_over = [0], Counter[int](), [False]

    def read_slowly(number: int) -> Steps[int]:
        for _ in range(10):
            pieces_in[rounds[0]] += 1
            yield
        return number

    def turn() -> None:
        rounds[0] += 1
        if not is_over[0]:
            asyncio.get_running_loop().call_soon(turn)

    async def main() -> list[int]:
        turn()
        results = await asyncio.gather(*(run_in_pieces(read_slowly(number)) for number in range(20)))
        is_over[0] = True
        return results

    assert asyncio.run(main()) == list(range(20))
    assert pieces_in.total() == 200
    first, *others = pieces_in.values()
    assert first == 20, "a small answer needs no other piece, and does not wait"
    assert max(others) == 1


def test_of_a_small_object_nothing_is_kept_but_the_wanted_fields() -> None:
    """A page of them once became millions of lists, which were kept until its end."""
    lists = b"[" + b"[]," * 1_000 + b"1]"
    row = b'{"id": %b, "name": "a", "x": %b}' % (lists, lists)
    assert rows(b'{"results": [%b, %b]}' % (row, row)) == [{"id": [], "name": "a"}] * 2


def test_a_list_without_measure_is_refused_before_it_is_read() -> None:
    with pytest.raises(Malformed, match="more than 100,000 objects"):
        rows(b'{"results": [' + b"{}," * MOST_ITEMS + b"{}]}")
    assert len(rows(b'{"results": [' + b"{}," * (MOST_ITEMS - 1) + b"{}]}")) == MOST_ITEMS
