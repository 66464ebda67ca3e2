"""What an answer says, by table: nothing here needs a network."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from scheduler.upstream import answers
from scheduler.upstream.exchange import Failure, Reply
from tests.upstream.support import AUTOMATION, ID, KEY

NOW = datetime(2026, 11, 23, 19, 20, tzinfo=UTC)
DAY = 86400.0


def clean(text: str) -> str:
    return answers.clean_text(text, secret=KEY)


def reply(status: int = 200, body: object = AUTOMATION, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def attempt(came: Reply | Failure) -> AttemptResponse | NotStarted | MaybeStarted:
    return asyncio.run(answers.to_attempt_response(came, now=NOW, clean=clean))


def problem(detail: str, attr: str | None = None) -> dict[str, object]:
    return {"type": "x", "code": "y", "detail": detail, "attr": attr}


DAY = 86400.0


# ---------------------------------------------------------------- attempts


def test_a_success_carries_the_automation() -> None:
    came = attempt(reply())
    assert isinstance(came, AttemptResponse)
    assert came.automation is not None
    assert (came.automation.id, came.automation.run_id, came.error) == (ID, "run-1", None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({**AUTOMATION, "id": 7}, "its id is not a UUID"),
        ({**AUTOMATION, "enabled": None}, "its enabled is missing or null, expected bool"),
        ([AUTOMATION], "expected an object, got list"),
        (b"", "its body is no JSON (it ends too early; 0 bytes, of no type)"),
        (b"<html>", "its body is no JSON (it is no JSON; 6 bytes, of no type)"),
    ],
)
def test_a_success_with_anything_else_says_what_it_was_instead(body: object, error: str) -> None:
    assert attempt(reply(200, body)) == AttemptResponse(200, error=error)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (problem("Not found."), "Not found."),
        (
            problem("'UTC+99' is not a valid IANA timezone.", "timezone"),
            "timezone: 'UTC+99' is not a valid IANA timezone.",
        ),
        (b"<html>\r\n<h1>Bad\x00 Gateway</h1>", "<html> <h1>Bad Gateway</h1>"),
        (b"", None),
        (["unexpected"], '["unexpected"]'),
        (problem("x" * 10_000), "x" * 299 + "…"),
        (problem("red \x1b[31m\u202ered\u2028 \ud800"), "red [31m red"),
        (problem(f"Invalid key {KEY}."), "Invalid key [key]."),
    ],
)
def test_a_refusal_carries_the_apis_words_short_and_printable_and_without_the_key(
    body: object, error: str | None
) -> None:
    assert attempt(reply(400, body)) == AttemptResponse(400, error=error)


@pytest.mark.parametrize(
    ("status", "detail", "names_a_scope"),
    [
        (403, "API key missing required scope 'task:write'", True),
        (403, "You do not have permission to perform this action.", False),
        (400, "API key missing required scope 'task:write'", False),
    ],
)
def test_a_403_that_names_a_scope_is_told_from_any_other(
    status: int, detail: str, names_a_scope: bool
) -> None:
    came = attempt(reply(status, problem(detail)))
    assert isinstance(came, AttemptResponse)
    assert came.missing_scope is names_a_scope


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://eu.posthog.com/api/", "https://eu.posthog.com/api/"),
        ("https://user:secret@eu.posthog.com/api/?token=secret#secret", "https://eu.posthog.com/api/"),
        ("//[broken?secret", "//[broken"),
        ("/login\x1b", "/login"),
    ],
)
def test_where_a_redirect_leads_is_shown_without_what_may_be_secret(location: str, shown: str) -> None:
    came = attempt(reply(302, b"", location=location))
    assert isinstance(came, AttemptResponse)
    assert came.location == shown


def test_a_failure_is_not_sent_or_lost_as_it_says() -> None:
    assert attempt(Failure(sent=False, code="unreachable", error="connection refused")) == NotStarted(
        "connection refused"
    )
    assert attempt(Failure(sent=True, code="timeout", error="no whole answer")) == MaybeStarted(
        "no whole answer"
    )


# ---------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12.0),
        (" 12 ", 12.0),
        ("0", 0.0),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 18, DAY),
        ("9" * 400, DAY),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Mon, 23 Nov 2026 19:20:30 GMT", 30.0),
        ("Monday, 23-Nov-26 19:20:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 19:19:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Mon, 23 Nov 2026 19:20:30 -0000", 30.0),
        ("Mon, 23 Nov 99999 19:20:30 GMT", None),
        ("Mon, 99 Nov 2026 19:20:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms_within_bounds(text: str, seconds: float | None) -> None:
    assert answers.read_retry_after(reply(429, b"", retry_after=text), NOW) == seconds


@pytest.mark.parametrize("text", ["86400", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_any_other_answer_than_a_429_asks_for_an_hour_at_most(text: str) -> None:
    """It stops one request and not the target."""
    assert answers.read_retry_after(reply(503, b"", retry_after=text), NOW) == 3600.0


def test_a_retry_after_date_counts_from_the_servers_own_clock() -> None:
    ahead = reply(429, b"", retry_after="Mon, 23 Nov 2026 20:20:30 GMT", date="Mon, 23 Nov 2026 20:20:00 GMT")
    assert answers.read_retry_after(ahead, NOW) == 30.0


@given(st.text(max_size=50))
def test_no_header_breaks_the_reading_of_dates(text: str) -> None:
    instant = answers.parse_http_date(text)
    assert instant is None or instant.tzinfo is UTC


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("came", "text", "held"),
    [
        (
            Failure(sent=False, code="unreachable", error="connection refused"),
            "could not be sent: connection refused",
            False,
        ),
        (Failure(sent=True, code="timeout", error="too late"), "was not answered: too late", False),
        (reply(500, b""), "answered HTTP 500", False),
        (reply(401, problem("Bad key.")), "answered HTTP 401: Bad key.; check the key of target main", True),
        (
            reply(403, problem("API key missing required scope 'task:read'")),
            (
                "answered HTTP 403: API key missing required scope 'task:read'; give the key of target "
                "main that scope"
            ),
            True,
        ),
        (reply(403, problem("No.")), "answered HTTP 403: No.", False),
        (
            reply(404, problem("Not found.")),
            "answered HTTP 404: Not found.; check the url and the project_id of target main",
            True,
        ),
        (
            reply(301, b"", location="https://eu.posthog.com/x"),
            (
                "answered HTTP 301; it redirects to https://eu.posthog.com/x; set the url of target "
                "main to where the API really is"
            ),
            True,
        ),
    ],
)
def test_an_error_on_the_list_says_what_where_and_what_to_do(
    came: Reply | Failure, text: str, held: bool
) -> None:
    error = answers.to_error(
        came, request="GET https://a/b/", target="main", on_list=True, now=NOW, clean=clean
    )
    assert (str(error), error.held) == (f"GET https://a/b/ {text}", held)


def test_a_404_elsewhere_holds_nothing() -> None:
    error = answers.to_error(
        reply(404, b""), request="DELETE https://a/b/", target="main", on_list=False, now=NOW, clean=clean
    )
    assert (error.status, error.held) == (404, False)


def test_a_write_without_an_answer_may_have_been_carried_out() -> None:
    lost = Failure(sent=True, code="timeout", error="too late")
    error = answers.to_error(
        lost, request="POST https://a/b/", target="main", on_list=False, now=NOW, clean=clean
    )
    assert str(error) == "POST https://a/b/ was not answered, and may have been carried out: too late"


@given(st.text())
def test_what_the_other_side_wrote_is_one_short_printable_line(text: str) -> None:
    line = clean(text)
    assert line.isprintable()
    assert len(line) <= 300
