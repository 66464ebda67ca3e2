"""Where a key is found, and that it shows itself nowhere."""

import copy
import json
import pickle
import traceback
import tracemalloc
from pathlib import Path

import pytest

from scheduler.core.command_line import keep_caller, set_caller
from scheduler.core.secret import SecretKey
from scheduler.settings.keys import UnusableKey, load_key
from scheduler.settings.models import TargetSection

SECRET = "phx_abcdefghijklmnop"


def target(**fields: object) -> TargetSection:
    return TargetSection.model_validate({"url": "https://a.example", "project_id": "1", **fields})


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return folder


def test_the_key_file_comes_first(tmp_path: Path, credentials: Path) -> None:
    (credentials / "posthog-api-key").write_text("credential")
    file = tmp_path / "key"
    file.write_text("file\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "POSTHOG_PERSONAL_API_KEY": "variable"}
    assert load_key(target(key_file=str(file)), environ).reveal() == "file"
    assert load_key(target(), environ).reveal() == "credential"
    (credentials / "posthog-api-key").unlink()
    assert load_key(target(), environ).reveal() == "variable"


def test_a_named_target_has_a_credential_of_its_own(credentials: Path) -> None:
    (credentials / "posthog-api-key").write_text("default")
    (credentials / "posthog-api-key.eu").write_text("eu")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load_key(target(name="eu"), environ).reveal() == "eu"
    with pytest.raises(UnusableKey, match=r"posthog-api-key\.us"):
        load_key(target(name="us"), environ)


def test_a_key_file_that_is_set_is_the_only_place_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="none is not there; check the path"):
        load_key(target(key_file=str(tmp_path / "none")), {"POSTHOG_PERSONAL_API_KEY": SECRET})


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("http://127.0.0.1:8040", "start `scheduler up --state-dir var`, which makes the key"),
        ("https://a.example", "check the path"),
    ],
)
def test_a_missing_key_of_the_embedded_api_is_made_by_up(tmp_path: Path, url: str, advice: str) -> None:
    """`check` advised to check the path, between `restore` into a new state directory and the first `up`."""
    with keep_caller():
        set_caller("scheduler", ("--state-dir", "var"))
        with pytest.raises(UnusableKey) as caught:
            load_key(target(url=url, key_file=str(tmp_path / "api-key")), {})
    assert str(caught.value) == f"target default: the key file {tmp_path}/api-key is not there; {advice}"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_line_breaks_at_the_end_are_no_part_of_the_key(ending: str) -> None:
    assert load_key(target(), {"POSTHOG_PERSONAL_API_KEY": SECRET + ending}).reveal() == SECRET


def test_without_a_key_the_error_names_every_place(credentials: Path) -> None:
    with pytest.raises(UnusableKey) as caught:
        load_key(target(), {"CREDENTIALS_DIRECTORY": str(credentials)})
    for place in (
        "target default",
        "key_file",
        f"{credentials}/posthog-api-key",
        "$POSTHOG_PERSONAL_API_KEY",
    ):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        f"{SECRET} x".encode(),
        f" {SECRET}".encode(),
        f"{SECRET}\nX-Evil: 1".encode(),
        f"{SECRET}\0".encode(),
        f"{SECRET}é".encode(),
        b"\xff\xfe",
        SECRET.encode() * 1000,
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UnusableKey) as caught:
        load_key(target(key_file=str(file)), {})
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert str(file) in str(caught.value)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnusableKey, match="too long"):
            load_key(target(key_file="/dev/zero"), {})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_key_shows_itself_nowhere() -> None:
    key = SecretKey(SECRET)
    shown = [
        repr(key),
        str(key),
        f"{key}",
        f"{key!r:>20}",
        f"{key:>20}",
        "%s" % key,  # noqa: UP031 -- one of the ways
        repr([key]),
        json.dumps({"key": key}, default=str),
    ]
    assert not [text for text in shown if SECRET[4:8] in text]


def test_a_key_cannot_be_copied_out() -> None:
    key = SecretKey(SECRET)
    for attempt in (
        lambda: pickle.dumps(key),
        lambda: copy.copy(key),
        lambda: copy.deepcopy(key),
        key.__getstate__,
        lambda: vars(key),
        lambda: json.dumps(key),
    ):
        with pytest.raises(TypeError):
            attempt()
