"""What is malformed in an answer costs the object that holds it, or that one answer, and nothing else."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from uuid import UUID

import pytest

from scheduler.core.errors import UpstreamError
from scheduler.core.model import Automation, Snapshot
from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from scheduler.upstream.client import Document
from scheduler.upstream.exchange import MAX_BODY
from tests.fault_server import Received, always, by_request, fault_server, response
from tests.upstream.support import AUTOMATION, ID, client

COMMAS = "," * 200_000


def numbered(number: int, **changes: object) -> dict[str, object]:
    return {**AUTOMATION, "id": str(UUID(int=number)), **changes}


def page(*rows: object) -> bytes:
    return json.dumps({"count": len(rows), "next": None, "previous": None, "results": rows}).encode()


def answered(body: bytes, headers: dict[str, str] | None = None) -> Callable[[Received], bytes]:
    return lambda _: response(200, body, headers)


def snapshot_of(answer: Callable[[Received], bytes]) -> Snapshot:
    async def main() -> Snapshot:
        async with fault_server(by_request(answer)) as server, client(server) as api:
            return await api.read_snapshot()

    return asyncio.run(main())


def paged(rows: list[dict[str, object]]) -> Callable[[Received], bytes]:
    """A server that pages the list as it is asked to."""

    def answer(request: Received) -> bytes:
        query = dict(part.split("=") for part in request.target.partition("?")[2].split("&"))
        begin = int(query["offset"])
        return response(200, {"count": len(rows), "results": rows[begin : begin + int(query["limit"])]})

    return answer


def run_of(body: bytes, headers: dict[str, str] | None = None) -> AttemptResponse:
    async def main() -> AttemptResponse | NotStarted | MaybeStarted:
        async with fault_server(always(response(200, body, headers))) as server, client(server) as api:
            return await api.run(ID, "key")

    came = asyncio.run(main())
    assert isinstance(came, AttemptResponse)
    return came


def retrieved(body: bytes, headers: dict[str, str] | None = None) -> Automation | None:
    async def main() -> Automation | None:
        async with fault_server(always(response(200, body, headers))) as server, client(server) as api:
            return await api.retrieve(ID)

    return asyncio.run(main())


# ---------------------------------------------------------------- objects


def test_prompts_of_nothing_but_commas_cost_nothing() -> None:
    """Eleven of them, two hundred thousand commas each, once stopped their whole target."""
    rows = [numbered(number, prompt=COMMAS, enabled=False) for number in range(11)] + [numbered(11)]
    requests: list[Received] = []

    def answer(request: Received) -> bytes:
        requests.append(request)
        return paged(rows)(request)

    snapshot = snapshot_of(answer)
    assert len(snapshot.automations) == 12
    assert len(requests) == 1


@pytest.mark.parametrize("field", ["github_integration", "prompt", "name", "last_error"])
def test_an_integer_of_any_length_costs_no_automation_where_nothing_depends_on_it(field: str) -> None:
    body = page(numbered(1), numbered(2, **{field: "?"}), numbered(3)).replace(b'"?"', b"9" * 5000)
    assert len(snapshot_of(answered(body)).automations) == 3


@pytest.mark.parametrize(
    "field", ["cron_expression", "timezone", "enabled", "last_task_run_id", "updated_at"]
)
def test_an_integer_of_any_length_costs_the_automation_that_depends_on_it(field: str) -> None:
    body = page(numbered(1), numbered(2, **{field: "?"}), numbered(3)).replace(b'"?"', b"9" * 50)
    snapshot = snapshot_of(answered(body))
    assert (len(snapshot.automations), snapshot.unidentified) == (2, 0)
    assert f"its {field} is a number of 50 characters" in snapshot.broken[str(UUID(int=2))].reason


def test_integer_ids_are_objects_without_an_id_and_said_to_be() -> None:
    snapshot = snapshot_of(answered(page(numbered(1), numbered(2, id=7), numbered(3, id=10**50, name=None))))
    assert (len(snapshot.automations), snapshot.unidentified) == (1, 2)
    assert snapshot.anonymous == (
        "Nightly: its id is not a UUID",
        "object 3 of the list: its id is not a UUID",
    )


def test_an_automation_too_large_for_any_answer_is_named_and_costs_itself_alone() -> None:
    rows = [numbered(1), numbered(2, name="Giant", prompt="x" * 2 * MAX_BODY), numbered(3)]
    snapshot = snapshot_of(paged(rows))
    assert (len(snapshot.automations), snapshot.unidentified, snapshot.complete) == (2, 0, True)
    giant = snapshot.broken[str(UUID(int=2))]
    assert giant.name == "Giant"
    assert "the object is too large: its body is larger than 8 MiB" in giant.reason


@pytest.mark.parametrize("beyond", [0, 1, 1_000, 100_000, 2_000_000])
def test_how_an_automation_that_is_too_large_comes_along_makes_no_difference(beyond: int) -> None:
    """The last piece that was read sometimes held the end of the object: it was fired then, and its answer
    could not be read.
    """
    giant = numbered(2, name="Giant", prompt="")
    others = len(json.dumps({"count": 2, "results": [giant]}))
    giant["prompt"] = "x" * (MAX_BODY + 1 + beyond - others)
    snapshot = snapshot_of(paged([numbered(1), giant]))
    assert list(snapshot.broken) == [giant["id"]]


def test_an_automation_with_a_prompt_that_fits_into_an_answer_is_used_whatever_its_size() -> None:
    snapshot = snapshot_of(paged([numbered(number, prompt="[{,\\" * 1_000_000) for number in range(3)]))
    assert len(snapshot.automations) == 3


def test_an_object_that_is_no_json_costs_that_object() -> None:
    body = page(numbered(1), numbered(2, enabled="?"), numbered(3)).replace(b'"?"', b"")
    snapshot = snapshot_of(answered(body))
    assert (len(snapshot.automations), snapshot.unidentified) == (2, 0)
    assert "the object is no JSON" in snapshot.broken[str(UUID(int=2))].reason


def test_half_a_page_is_no_page() -> None:
    """A proxy that cuts an answer off and says that it is whole: what is missing must not count as absent."""
    with pytest.raises(UpstreamError, match="its body is no JSON"):
        snapshot_of(answered(page(numbered(1), numbered(2))[:-40]))


# ---------------------------------------------------------------- answers

BODIES: dict[str, tuple[Callable[[bytes], bytes], dict[str, str]]] = {
    "a long header": (bytes, {"Content-Security-Policy": "x" * 2**16}),
    "many headers": (bytes, {f"X-{number}": "x" for number in range(250)}),
    "an empty Content-Encoding": (bytes, {"Content-Encoding": ""}),
    "identity twice": (bytes, {"Content-Encoding": "identity, identity"}),
    "a byte order mark": (lambda body: b"\xef\xbb\xbf" + body, {}),
    "gzip": (gzip.compress, {"Content-Encoding": "gzip"}),
    "GZIP": (gzip.compress, {"Content-Encoding": "X-GZIP"}),
    "gzip in two members": (
        lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:]),
        {"Content-Encoding": "gzip"},
    ),
    "deflate": (zlib.compress, {"Content-Encoding": "deflate"}),
}


@pytest.mark.parametrize("form", BODIES.values(), ids=BODIES)
def test_an_answer_is_read_in_whatever_form_it_comes(
    form: tuple[Callable[[bytes], bytes], dict[str, str]],
) -> None:
    make, headers = form
    assert len(snapshot_of(answered(make(page(AUTOMATION)), headers)).automations) == 1
    whole = json.dumps(AUTOMATION).encode()
    came = run_of(make(whole), headers)
    assert came.automation is not None
    assert came.automation.run_id == "run-1"
    assert retrieved(make(whole), headers) is not None


@pytest.mark.parametrize("size", [2**18, 2**19, 2**20 + 7])
def test_a_packed_answer_is_whole_whatever_its_size(size: int) -> None:
    """Also when it ends where a piece does, of which so much is unpacked at a time."""
    plain = json.dumps({**AUTOMATION, "prompt": ""}).encode()
    for more in (-1, 0, 1):
        packed = gzip.compress(
            plain.replace(b'"prompt": ""', b'"prompt": "%b"' % (b"x" * (size + more - len(plain))))
        )
        assert run_of(packed, {"Content-Encoding": "gzip"}).automation is not None, more


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"x", {"Content-Encoding": "br"}, "its body has an encoding that was not requested: br"),
        (
            b"x",
            {"Content-Encoding": "gzip, gzip"},
            "its body has an encoding that was not requested: gzip, gzip",
        ),
        (b"no gzip", {"Content-Encoding": "gzip"}, "its body is no valid gzip"),
        (
            gzip.compress(b"{}" * 1000)[:-9],
            {"Content-Encoding": "gzip"},
            "its body is no valid gzip",
        ),
    ],
    ids=[
        "brotli",
        "packed twice",
        "no gzip",
        "cut off",
    ],  # a packed body holds the time, and would be a name of its own each time
)
def test_an_answer_that_cannot_be_unpacked_is_an_answer_without_an_automation(
    body: bytes, headers: dict[str, str], error: str
) -> None:
    came = run_of(body, headers)
    assert (came.status, came.automation, came.error) == (200, None, error)


@pytest.mark.parametrize(
    "headers",
    [{"X": "x" * (2**16 + 1)}, {f"X-{number}": "x" for number in range(257)}],
    ids=["too long", "too many"],
)
def test_a_header_without_measure_costs_that_answer(headers: dict[str, str]) -> None:
    async def main() -> tuple[object, Snapshot]:
        answers = [response(200, page(AUTOMATION), headers), response(200, page(AUTOMATION))]
        async with fault_server(by_request(lambda _: answers.pop(0))) as server, client(server) as api:
            with pytest.raises(UpstreamError) as refused:
                await api.read_snapshot()
            return refused.value, await api.read_snapshot()

    error, snapshot = asyncio.run(main())
    assert "the answer is no HTTP" in str(error)
    assert len(snapshot.automations) == 1


@pytest.mark.parametrize(
    "prompt", [COMMAS * 3, "x" * 5_000_000, '\\"' * 1_000_000], ids=["commas", "long", "escapes"]
)
def test_the_answer_to_an_attempt_is_understood_whatever_the_prompt(prompt: str) -> None:
    body = json.dumps({**AUTOMATION, "prompt": prompt, "github_integration": 10**50}).encode()
    came = run_of(body)
    assert came.automation is not None
    assert came.automation.id == ID
    assert retrieved(body) == came.automation


def test_an_answer_to_an_attempt_that_is_cut_off_or_too_large_names_no_run() -> None:
    body = json.dumps({**AUTOMATION, "prompt": "x" * 2 * MAX_BODY}).encode()
    assert run_of(body) == AttemptResponse(200, error="its body is larger than 8 MiB")
    cut = run_of(json.dumps(AUTOMATION).encode()[:-1])
    assert cut.automation is None
    assert "it ends too early" in str(cut.error)


# ---------------------------------------------------------------- whole documents, for commands


def documents_of(answer: Callable[[Received], bytes]) -> list[Document]:
    async def main() -> list[Document]:
        async with fault_server(by_request(answer)) as server, client(server) as api:
            return await api.list_documents()

    return asyncio.run(main())


def test_a_command_shows_all_automations_although_one_is_too_large_for_any_answer() -> None:
    rows = [numbered(1), numbered(2, name="Giant", prompt="x" * 2 * MAX_BODY), *map(numbered, range(3, 20))]
    shown = documents_of(paged(rows))
    assert [each["id"] for each in shown] == [each["id"] for each in rows]
    assert shown[1] == {"id": str(UUID(int=2)), "name": "Giant"}
    assert [each for each in shown if each["name"] != "Giant"] == [rows[0], *rows[2:]]


def test_a_command_shows_what_can_be_read_of_each_object() -> None:
    rows = [
        numbered(1, prompt=COMMAS * 2),
        numbered(2, github_integration="?"),
        numbered(3, enabled="!"),
        numbered(4),
    ]
    body = page(*rows).replace(b'"?"', b"9" * 3000).replace(b'"!"', b"maybe")

    shown = documents_of(answered(body))
    assert [shown[0], shown[1], shown[3]] == [rows[0], {**rows[1], "github_integration": "9" * 3000}, rows[3]]
    assert (shown[2]["id"], "enabled" in shown[2]) == (rows[2]["id"], False)
