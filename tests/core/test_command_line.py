"""Commands in messages: each works as it is printed, and none is written without the options of the
reader.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import scheduler
from scheduler.core.command_line import (
    advise_start_api,
    advise_start_daemon,
    complete_commands,
    format_command,
    keep_caller,
    set_caller,
    set_targets,
)

PACKAGE = Path(scheduler.__file__).parent
COMMANDS = "|".join(path.stem for path in (PACKAGE / "cli/commands").glob("[a-z]*.py"))
IN_A_MESSAGE = re.compile(rf"scheduler ({COMMANDS})\b|{{(command_line|start_\w+|see_list)\(")
SENTENCES = re.compile(
    r"(made with|that|which|to) `scheduler (up|backup)`|^# Made by `scheduler up`|written by `scheduler"
)
"""What tells of a command that was used, and is not for copying."""


@pytest.fixture(autouse=True)
def _caller() -> Iterator[None]:
    with keep_caller():
        yield


def test_a_command_has_the_options_that_lead_to_the_readers_configuration() -> None:
    assert format_command("history") == "scheduler history"
    set_caller(".venv/bin/scheduler", ("--state-dir", "my var"))
    assert format_command("why a 03:00") == ".venv/bin/scheduler why a 03:00 --state-dir 'my var'"


def test_a_command_names_the_target_where_several_are_configured() -> None:
    assert format_command("pause --all", target="main") == "scheduler pause --all"
    set_targets(2)
    assert format_command("pause --all", target="main") == "scheduler pause --all --target main"
    assert format_command("status") == "scheduler status"


def test_a_constant_text_gets_the_options_in_each_of_its_commands() -> None:
    set_caller("scheduler", ("--config", "a.toml"))
    text = complete_commands("stop the daemon, `scheduler target unthrottle TARGET`, and see `settle_time`")
    assert (
        text == "stop the daemon, `scheduler target unthrottle TARGET --config a.toml`, and see `settle_time`"
    )


def test_a_state_directory_is_started_by_up_and_everything_else_by_its_service_or_by_run_and_serve() -> None:
    assert (
        advise_start_daemon() == "start the daemon with `sudo systemctl start scheduler`, or `scheduler run`"
    )
    set_caller("scheduler", ("--config", "a.toml"))
    assert advise_start_api().endswith("`scheduler serve --config a.toml`")
    set_caller("scheduler", ("--state-dir", "var"))
    assert advise_start_api() == "start the embedded API with `scheduler up --state-dir var`"


def test_no_message_writes_a_command_by_itself() -> None:
    written = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in PACKAGE.rglob("*.py")
        for line, text in _texts(ast.parse(path.read_text()))
        if IN_A_MESSAGE.search(text) and not SENTENCES.search(text) and not _is_completed(path, text)
    ]
    written += [
        f"{path.name}: {line.strip()}"
        for path in (PACKAGE / "ops/page/templates").glob("*.html")
        for line in path.read_text().splitlines()
        if IN_A_MESSAGE.search(line)
    ]
    assert written == []


def _is_completed(path: Path, text: str) -> bool:
    """Return whether the text passes `complete_commands`: the advice of the runbook."""
    return path.name == "findings.py" and path.parent.name == "page" and "`scheduler " in text


def _texts(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that are no docstrings, and neither examples nor help of commands."""
    passed: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {"_EXAMPLES", "_CREATE"}:
            passed |= {id(inner) for inner in ast.walk(node.value)}
        if isinstance(node, ast.keyword) and node.arg in {"examples", "help"}:
            passed |= {id(inner) for inner in ast.walk(node.value)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.lineno, node.value
