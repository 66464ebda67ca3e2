"""`scheduler automations`, and what a running daemon makes of it: against the embedded API and a daemon, each
a process of its own.
"""

import io
import json
import re
import shlex
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scheduler.cli import output
from scheduler.cli.commands.automations import _COLUMNS
from scheduler.ledger.wake import locate_wake_file
from tests.cli.conftest import Done, Scheduler
from tests.operated import Place, Running, page, place, until

FIELDS = ("--repository", "acme/app", "--cron", "0 3 * * *", "--prompt", "Fix a bug")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Place, Running]]:
    """The API and a daemon, with a key that may do everything."""
    with tempfile.TemporaryDirectory() as folder, place(Path(folder)) as made:
        made.start("serve")
        (made.folder / "key").write_text(json.loads(made.command("keys", "create", "--json").stdout)["key"])
        daemon = made.start("run")
        until(lambda: made.ready()[0] == 200, "the daemon to be ready")
        yield made, daemon


@pytest.fixture
def here(served: tuple[Place, Running], monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("SCHEDULER_CONFIG", str(served[0].file))
    return served[0]


@pytest.fixture
def daemon(served: tuple[Place, Running]) -> Running:
    return served[1]


@pytest.fixture
def name(request: pytest.FixtureRequest, scheduler: Scheduler, here: Place, daemon: Running) -> str:  # noqa: ARG001  it configures
    """An automation of the test's own, which the daemon knows."""
    name = str(request.node.name)
    assert scheduler("automations", "create", "--name", name, *FIELDS).status == 0
    until(
        lambda: any(event["automation"] == name for event in daemon.events("automation.added")),
        "the daemon to know it",
    )
    return name


def shown(scheduler: Scheduler, name: str) -> dict[str, object]:
    done = scheduler("automations", "get", name, "--json")
    assert (done.status, done.err) == (0, "")
    document: dict[str, object] = json.loads(done.out)
    return document


@pytest.mark.usefixtures("here")
def test_an_automation_is_made_shown_changed_listed_and_deleted(scheduler: Scheduler) -> None:
    made = scheduler(
        "automations", "create", "--name", "whole", *FIELDS, "--timezone", "Europe/Berlin", "--json"
    )
    assert (made.status, made.err) == (0, "")
    document = shown(scheduler, "whole")
    assert document == json.loads(made.out)
    assert document["timezone"] == "Europe/Berlin"
    assert shown(scheduler, str(document["id"])) == document
    assert scheduler("automations", "update", "whole", "--disabled", "--cron", "30 3 * * *").status == 0
    changed = shown(scheduler, "whole")
    assert (changed["enabled"], changed["cron_expression"], changed["prompt"]) == (
        False,
        "30 3 * * *",
        "Fix a bug",
    )
    listed = [json.loads(line) for line in scheduler("automations", "list", "--json").out.splitlines()]
    assert changed in listed
    row = next(line for line in scheduler("automations", "list").out.splitlines() if " whole " in line)
    assert row.split()[-1] == "no", "it never ran, and is disabled"
    deleted = scheduler("automations", "delete", "whole")
    assert (deleted.status, deleted.out) == (0, f"deleted: whole ({document['id']})\n")
    gone = scheduler("automations", "get", str(document["id"]))
    assert (gone.status, gone.out) == (1, "")
    assert "see `scheduler automations list`" in gone.err


def test_a_prompt_comes_from_a_file_as_it_is(scheduler: Scheduler, name: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_bytes("Tidy up.\r\n\nUse ünïcode 日本.".encode())
    assert scheduler("automations", "update", name, "--prompt-file", str(file)).status == 0
    assert shown(scheduler, name)["prompt"] == "Tidy up.\r\n\nUse ünïcode 日本."
    file.write_bytes(b"ab\xff")
    done = scheduler("automations", "update", name, "--prompt-file", str(file))
    assert (done.status, done.err.splitlines()[0]) == (
        2,
        f"error: the prompt in {file} is not UTF-8 text: byte 3 is 0xff",
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("create", "--name", "x", *FIELDS[:4]), 2, "an automation needs a prompt"),
        (("create", "--name", "x", *FIELDS, "--prompt-file", __file__), 2, "give one of them"),
        (
            ("create", "--name", "x", *FIELDS, "--timezone", "Mars/Olympus"),
            2,
            "the timezone 'Mars/Olympus' is unknown",
        ),
        (
            ("create", "--name", "x", "--repository", "a/b", "--prompt", "p", "--cron", "nope"),
            2,
            "the expression has 1 field instead of five",
        ),
        (
            ("create", "--name", "x", *FIELDS, "--timezone", "Europe/Berln"),
            2,
            "unknown; did you mean 'Europe/Berlin'?",
        ),
        (("update", "nothing", "--cron", "61 * * * *"), 2, "61"),
        (("update", "nothing", "--timezone", "berlin"), 2, "unknown; did you mean 'Europe/Berlin'?"),
        (("update", "nothing"), 2, "there is nothing to change"),
        (("update", "nothing", "--disabled"), 1, "there is no automation 'nothing'"),
        (("delete", "nothing"), 1, "there is no automation 'nothing'"),
        (("run", "nothing"), 1, "there is no automation 'nothing'"),
        (("run", "0190e1a0-0000-7000-8000-00000000000a"), 1, "there is no automation '0190e1a0"),
        (("list", "--target", "other"), 2, "there is no target 'other'; there are main"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_told(
    scheduler: Scheduler, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = scheduler("automations", *arguments)
    assert (done.status, done.out) == (status, "")
    assert message in done.err


def test_a_disabled_automation_stands_out_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_has_colours", lambda _: True)
    assert "\x1b[33mno\x1b[0m" in output.format_table([{"name": "off", "enabled": False}], _COLUMNS)[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "command", [("create", "--name", "x", *FIELDS), ("update", "nothing")], ids=lambda command: command[0]
)
@pytest.mark.parametrize("schedule", [("61 * * * *", "UTC"), ("0 3 * * *", "Berlin"), ("L5 * * * *", "UTC")])
def test_a_schedule_that_is_none_is_refused_with_the_words_of_explain_before_the_api_is_asked(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], schedule: tuple[str, str]
) -> None:
    monkeypatch.setenv("SCHEDULER_TARGET__URL", "http://127.0.0.1:1")
    given = ("--cron", schedule[0], "--timezone", schedule[1])
    explained = scheduler("explain", *given)
    assert explained.status == 2
    assert scheduler("automations", *command, *given) == explained


@pytest.mark.usefixtures("here")
def test_what_is_created_or_changed_says_when_it_fires(scheduler: Scheduler) -> None:
    fields = ("--repository", "acme/app", "--prompt", "x", "--timezone", "Asia/Tokyo")
    made = scheduler("automations", "create", "--name", "far", *fields, "--cron", "30 9 29 2 *")
    assert re.search(
        r"^first fire +Tue 2028-02-29 09:30 JST in Asia/Tokyo \(2028-02-29T00:30:00Z\), in \d+ d",
        made.out,
        re.MULTILINE,
    )
    assert re.search(
        r"^created_at +\w{3} \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? JST in Asia/Tokyo \(", made.out, re.MULTILINE
    )
    changed = scheduler("automations", "update", "far", "--cron", "31 9 29 2 *")
    assert re.search(r"^next fire +Tue 2028-02-29 09:31 JST ", changed.out, re.MULTILINE)
    disabled = scheduler("automations", "update", "far", "--disabled")
    assert re.search(r"^next fire +none: the automation is disabled$", disabled.out, re.MULTILINE)


def test_a_run_by_hand_says_how_to_follow_it(scheduler: Scheduler, name: str) -> None:
    (follow,) = re.findall(r"^follow it +(.+)$", scheduler("automations", "run", name).out, re.MULTILINE)
    command = shlex.split(follow)
    done = scheduler(*command[command.index("runs") :])
    assert (done.status, f"automation  {name} (" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("answer", "yes", "is_deleted"), [("n\n", (), False), ("y\n", (), True), ("", ("--yes",), True)]
)
def test_a_person_is_asked_before_an_automation_is_deleted(
    scheduler: Scheduler,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    yes: tuple[str, ...],
    *,
    is_deleted: bool,
) -> None:
    asked = Keyboard(answer)
    monkeypatch.setattr(sys, "stdin", asked)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    done = scheduler("automations", "delete", name, *yes)
    assert (done.status, done.out.startswith("deleted: ")) == ((0, True) if is_deleted else (1, False))
    assert (f"delete {name} (" in done.err) == (not yes)
    assert (scheduler("automations", "get", name).status == 0) == (not is_deleted)


class Keyboard(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("here")
def test_a_name_that_two_have_is_no_answer(scheduler: Scheduler) -> None:
    ids = [
        json.loads(scheduler("automations", "create", "--name", "twin", *FIELDS, "--json").out)["id"]
        for _ in range(2)
    ]
    done = scheduler("automations", "run", "twin")
    assert done.status == 1
    assert all(each in done.err for each in ids)


@pytest.mark.usefixtures("here")
def test_a_key_that_is_refused_and_an_api_that_is_down_are_told_apart(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("phx_wrong")
    monkeypatch.setenv("SCHEDULER_TARGET__KEY_FILE", str(tmp_path / "wrong"))
    refused = scheduler("automations", "list")
    assert refused.status == 2
    assert "HTTP 401" in refused.err
    assert "phx_wrong" not in refused.err
    monkeypatch.setenv("SCHEDULER_TARGET__URL", "http://127.0.0.1:1")
    down = scheduler("automations", "list")
    assert (down.status, down.err) == (
        3,
        (
            "error: GET http://127.0.0.1:1/api/projects/1/task_automations/ could not be sent: "
            "connection refused; "
            "start the embedded API with `sudo systemctl start scheduler-api`, or `scheduler serve`\n"
        ),
    )


def test_a_run_by_hand_is_known_for_one_and_somebody_elses_is_foreign(
    scheduler: Scheduler, here: Place, daemon: Running, name: str
) -> None:
    by_hand = scheduler("automations", "run", name, "--json")
    assert (by_hand.status, by_hand.err) == (0, "")
    ours = json.loads(by_hand.out)["last_task_run_id"]
    until(
        lambda: ours in {event["task_run_id"] for event in daemon.events("run.finished")},
        "the run by hand to have ended",
    )
    request = urllib.request.Request(
        f"http://127.0.0.1:{here.api_port}/api/projects/1/task_automations/"
        f"{json.loads(by_hand.out)['id']}/run/",
        method="POST",
        headers={"Authorization": f"Bearer {(here.folder / 'key').read_text()}"},
    )
    with urllib.request.urlopen(request) as answer:
        theirs = json.loads(answer.read())["last_task_run_id"]
    until(
        lambda: theirs in {event["task_run_id"] for event in daemon.events("run.foreign")},
        "their run to be foreign",
    )
    assert ours not in {event["task_run_id"] for event in daemon.events("run.foreign")}
    assert 'scheduler_foreign_runs_total{target="main"} 1.0' in here.metrics()
    assert shown(scheduler, name)["last_run_status"] == "success"


def test_a_run_by_hand_needs_no_ledger(
    scheduler: Scheduler, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{tmp_path}/none.db")
    done = scheduler("automations", "run", name, "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["last_task_run_id"]
    assert not (tmp_path / "none.db").exists()


@pytest.mark.usefixtures("here")
def test_what_changes_an_automation_wakes_the_daemon_and_what_reads_it_does_not(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")

    def is_woken_by(*arguments: str) -> bool:
        assert scheduler("automations", *arguments).status == 0
        try:
            return woken.recv(1) == b""
        except BlockingIOError:
            return False

    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as woken:
        woken.bind(str(locate_wake_file(tmp_path / "ledger.db")))
        woken.settimeout(0.0)
        assert is_woken_by("create", "--name", "waker", *FIELDS)
        assert is_woken_by("update", "waker", "--disabled")
        assert is_woken_by("run", "waker")
        assert not is_woken_by("get", "waker")
        assert not is_woken_by("list")
        assert is_woken_by("delete", "waker")


def status_of(scheduler: Scheduler) -> Done:
    done = scheduler("status")
    assert (done.status, done.err) == (0, "")
    return done


def test_a_pause_shows_in_the_status_as_soon_as_it_is_made(
    scheduler: Scheduler, here: Place, name: str
) -> None:
    cron = ("automations", "update", name, "--cron", "* * * * *", "--timezone", "UTC")
    assert scheduler(*cron).status == 0
    until(lambda: f"  {name}\n" in status_of(scheduler).out, "it to be among what fires next")
    assert scheduler("pause", name).out == f"paused: {name}\n"
    paused = status_of(scheduler).out
    assert f"\npaused\n  {name} on target main, since " in paused
    assert re.search(rf"  {name} +paused\n", paused)
    until(
        lambda: page(here.server_port, "/api/v1/status")[1]["targets"][0]["automations"]["paused"] == 1,
        "the daemon to honour it",
    )
    (told,) = json.loads(scheduler("status", "--json").out)["paused"]
    assert (told["name"], told["target"]) == (name, "main")
    assert scheduler("resume", name).out == f"resumed: {name}\n"
    until(
        lambda: page(here.server_port, "/api/v1/status")[1]["targets"][0]["automations"]["paused"] == 0,
        "the daemon to go on",
    )
    assert "paused" not in status_of(scheduler).out


@pytest.mark.usefixtures("here")
def test_the_status_is_told_also_when_the_ledger_is_somewhere_else(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCHEDULER_LEDGER__URL", f"sqlite:///{tmp_path}/none.db")
    done = scheduler("status")
    assert done.status == 0
    assert done.out.startswith("ready  node ")
    assert done.err.startswith(f"the pauses cannot be read: there is no ledger {tmp_path}/none.db")


def test_without_a_daemon_the_status_says_where_it_was_looked_for(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_SERVER__LISTEN", "127.0.0.1:1")
    done = scheduler("status")
    assert (done.status, done.out) == (3, "")
    assert done.err == (
        "error: no daemon runs here: http://127.0.0.1:1/api/v1/status refuses the connection; "
        "start the daemon with `sudo systemctl start scheduler`, or `scheduler run`. "
        "If one runs, compare [server] listen with its configuration\n"
    )
    monkeypatch.setenv("SCHEDULER_SERVER__LISTEN", "")
    assert scheduler("status").status == 2
