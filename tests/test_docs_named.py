"""Every command, option, setting, metric and log event that a document names is there.

That each of them is in its own document is said by the tests of those: docs/commands.md here,
docs/configuration.md in tests/settings, docs/metrics.md in tests/ops, docs/api.md in tests/localapi.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scheduler.cli import root
from scheduler.settings.registry import SETTINGS, make_variable_name
from tests.commands_page import PAGE, page

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {each.name: each.read_text() for each in DOCUMENTS}


def code(text: str) -> Iterator[str]:
    """What is set as code: the lines of every block, and what stands between backticks elsewhere."""
    for number, part in enumerate(re.split(r"^ *```.*$", text, flags=re.MULTILINE)):
        yield from part.splitlines() if number % 2 else re.findall(r"`([^`\n]+)`", part)


def test_the_page_of_commands_is_what_they_say_of_themselves() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


# ------------------------------------------------------------ commands

CALL = re.compile(r"(?:^|[;&|(] *|sudo |-- )(?:\S*/)?scheduler ((?:[a-z]|--)[^|;&#>]*)")


def calls() -> list[tuple[str, str]]:
    found = {
        (name, call.strip())
        for name, text in TEXTS.items()
        if name != PAGE.name
        for line in code(text)
        for call in CALL.findall(line)
    }
    return sorted(found)


def resolved(words: list[str]) -> tuple[click.Context, list[str]]:
    """A context of the command that these words name, and what is left of them. Raises click.UsageError."""
    context = root.make_context("scheduler", [], resilient_parsing=True)
    while isinstance(context.command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = context.command.resolve_command(context, words)
        assert found is not None
        context = click.Context(found, parent=context, info_name=name)
    return context, words


@pytest.mark.parametrize(("document", "call"), calls())
def test_every_command_and_option_that_is_named_is_there(document: str, call: str) -> None:
    context, words = resolved(shlex.split(call.replace("…", ""), comments=True))
    known = {
        option
        for parameter in context.command.get_params(context)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = {word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2}
    assert named <= known, f"{document}: scheduler {call}"


def test_commands_are_found_in_the_documents() -> None:
    assert len(calls()) > 60


# ------------------------------------------------------------ settings


SECTIONS = {path[:-1] for path in SETTINGS}


def settings() -> list[tuple[str, tuple[str, ...]]]:
    found = {
        (name, (*section.split("."), key))
        for name, text in TEXTS.items()
        for span in code(text)
        for section, key in re.findall(r"^\[+([a-z.]+)\]+ ([a-z_]+)", span)
    }
    return sorted(each for each in found if each[1][:-1] in SECTIONS)


@pytest.mark.parametrize(("document", "path"), settings())
def test_every_setting_that_is_named_is_there(document: str, path: tuple[str, ...]) -> None:
    assert path in SETTINGS, f"{document}: [{'.'.join(path[:-1])}] {path[-1]}"


MISTAKEN_ON_PURPOSE = {
    "SCHEDULER_SECTION__KEY",
    "SCHEDULER_SERVER__LISTEM",
    "SCHEDULER_SERVICE_HOST",
    "SCHEDULER_API__RUNNER",
}
"""Forms, and what docs/configuration.md shows to be refused or left alone."""
VARIABLES = {make_variable_name(path) for path in SETTINGS} | {"SCHEDULER_CONFIG"}


@pytest.mark.parametrize(
    ("document", "variable"),
    sorted(
        {
            (name, each)
            for name, text in TEXTS.items()
            for each in re.findall(r"\bSCHEDULER_[A-Z_]+[A-Z]\b", text)
        }
    ),
)
def test_every_variable_that_is_named_is_there(document: str, variable: str) -> None:
    assert variable in VARIABLES | MISTAKEN_ON_PURPOSE, f"{document}: {variable}"


# ------------------------------------------------------------ metrics and log events


def first_cells(pattern: str) -> set[str]:
    """What the tables that are held against the code say there is."""
    return {
        cell
        for page in ("metrics.md", "api.md")
        for cell in re.findall(rf"^\| `({pattern})`", TEXTS[page], re.MULTILINE)
    }


METRICS = {*first_cells(r"scheduler_\w+"), "scheduler_api_"}  # the last one as what their names begin with
EVENTS = first_cells(r"[a-z]+\.[a-z_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


@pytest.mark.parametrize(
    ("document", "metric"),
    sorted(
        {(name, each) for name, text in TEXTS.items() for each in re.findall(r"\bscheduler_[a-z_]+", text)}
    ),
)
def test_every_metric_that_is_named_is_there(document: str, metric: str) -> None:
    assert {metric, *(metric.removesuffix(suffix) for suffix in SUFFIXES)} & METRICS, f"{document}: {metric}"


@pytest.mark.parametrize(
    ("document", "event"),
    sorted(
        {
            (name, each)
            for name, text in TEXTS.items()
            for span in code(text)
            for each in re.findall(r"^[a-z]+\.[a-z]+(?:ed|ing|d)$", span)
        }
    ),
)
def test_every_log_event_that_is_named_is_there(document: str, event: str) -> None:
    assert event in EVENTS, f"{document}: {event}"


def test_there_is_much_to_check() -> None:
    assert len(METRICS) > 30
    assert len(EVENTS) > 30
