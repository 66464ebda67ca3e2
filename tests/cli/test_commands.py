"""What holds for every command."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scheduler.cli import root
from scheduler.cli.group import SECTIONS, SchedulerCommand, Source, find_program
from tests.cli.conftest import Scheduler
from tests.commands_page import PAGE, WIDTH


def tree(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its name, groups too."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from tree(found, (*path, name))


ALL = dict(tree(root))
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_and_the_page_of_commands_shows_the_same(
    path: tuple[str, ...], scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(root.context_settings, "terminal_width", WIDTH)
    done = scheduler(*path, "--help")
    assert done.status == 0
    assert done.err == ""
    assert scheduler(*path, "-h").out == done.out
    assert ALL[path].help
    assert " ".join(("Usage: scheduler", *path)) in done.out
    is_on_page = path == () or path in LEAVES
    assert not is_on_page or f"```\n{done.out}```\n" in PAGE.read_text(), "run `make docs`"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_an_example_of_itself_that_is_right_use(
    path: tuple[str, ...], scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = LEAVES[path]
    assert isinstance(command, SchedulerCommand)
    assert command.examples
    called: list[click.Command] = []
    monkeypatch.setattr(SchedulerCommand, "invoke", lambda self, _context: called.append(self))
    help_text = scheduler(*path, "--help").out
    for example in command.examples:
        assert f"$ {example}\n" in help_text
        (words,) = re.findall(r"\bscheduler ([^|>#)]+)", example)
        done = scheduler(*shlex.split(words))
        assert (done.status, done.err) == (0, ""), example
    assert called == [command] * len(command.examples)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_takes_a_configuration(path: tuple[str, ...]) -> None:
    options = {option for parameter in LEAVES[path].params for option in parameter.opts}
    assert {"--config", "--state-dir"} <= options


@pytest.mark.parametrize("path", [path for path in ALL if len(path) == 1], ids=" ".join)
def test_every_command_is_under_a_heading_of_the_help(path: tuple[str, ...], scheduler: Scheduler) -> None:
    assert getattr(ALL[path], "section", "") in SECTIONS
    assert re.search(rf"^  {path[0]}  ", scheduler("--help").out, re.MULTILINE)


def test_an_unknown_command_names_the_nearest_one(scheduler: Scheduler) -> None:
    done = scheduler("confg")
    assert (done.status, done.out) == (2, "")
    assert done.err == "error: there is no command 'confg'; did you mean 'config'?\ntry: scheduler --help\n"


def test_an_unknown_option_is_wrong_use(scheduler: Scheduler) -> None:
    done = scheduler("config", "show", "--jsno")
    assert done.status == 2
    assert "--json" in done.err
    assert "try: scheduler config show --help" in done.err


def test_two_places_for_the_configuration_are_wrong_use(scheduler: Scheduler) -> None:
    done = scheduler("config", "show", "--config", "a.toml", "--state-dir", "var")
    assert done.status == 2
    assert "give one of them" in done.err


def test_a_state_directory_that_nothing_has_made_is_an_error_that_names_the_file(
    scheduler: Scheduler,
) -> None:
    done = scheduler("config", "show", "--state-dir", "/nonexistent")
    assert done.status == 2
    assert "/nonexistent/scheduler.toml" in done.err


def test_a_command_in_an_error_has_the_options_and_the_program_of_the_caller(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_SERVER__LISTEN", "127.0.0.1:1")
    (tmp_path / "scheduler.toml").touch()
    assert "`scheduler run`" in scheduler("status").err
    assert f"`scheduler up --state-dir {tmp_path}`" in scheduler("status", "--state-dir", str(tmp_path)).err
    file = tmp_path / "scheduler.toml"
    monkeypatch.setattr(sys, "argv", [".venv/bin/scheduler"])
    assert f"`.venv/bin/scheduler run --config {file}`" in scheduler("status", "--config", str(file)).err
    assert scheduler("config", "show", "--nothing").err.endswith(
        "\ntry: .venv/bin/scheduler config show --help\n"
    )


def test_pages_and_logs_name_the_absolute_place_of_the_configuration_and_no_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Source(state_dir=Path("var")).find_absolute({}).options == ("--state-dir", f"{tmp_path}/var")
    assert Source().find_absolute({"SCHEDULER_CONFIG": "a.toml"}).options == (
        "--config",
        f"{tmp_path}/a.toml",
    )
    assert Source(Path("/etc/scheduler/scheduler.toml")).find_absolute({}).options == ()
    monkeypatch.setattr(sys, "argv", [".venv/bin/scheduler"])
    assert find_program(absolute=True) == f"{tmp_path}/.venv/bin/scheduler"


def test_the_version_is_told(scheduler: Scheduler) -> None:
    assert re.fullmatch(r"scheduler \d+\.\d+\.\d+( \(revision [0-9a-f]{12}\))?\n", scheduler("--version").out)
