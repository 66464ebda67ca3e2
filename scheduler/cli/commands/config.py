"""``scheduler config``: the settings in force, their sources, and their mistakes."""

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import SchedulerGroup, Source, as_json
from scheduler.cli.output import Cell, Column, Json, print_json, print_line, print_to_stderr, show
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.settings.load import Configuration
    from scheduler.settings.problems import SettingsError
    from scheduler.settings.sources import Assignment

_KEY: Final = re.compile(r"phx_[\w-]*")  # a personal API key, wherever it may have been put


@click.group("config", cls=SchedulerGroup, section="Setup")
def command() -> None:
    """Print the settings in force, or check the configuration."""


@command.command(
    "show", examples=["scheduler config show", "SCHEDULER_LOG__LEVEL=debug scheduler config show --json"]
)
@as_json
@click.pass_obj
def show_settings(source: Source, *, as_json: bool) -> None:
    """Print every setting in force, and its source.

    Keys are not settings, and are never shown.
    """
    settings = [_make_record(one) for one in source.load().list_effective()]
    columns = (
        Column[Json]("setting", lambda one: str(one["setting"])),
        Column[Json]("value", lambda one: json.dumps(one["value"]), rank=2),
        Column[Json]("from", _make_source_cell, rank=1),
    )
    show(settings, columns, dict if as_json else None)


@command.command("validate", examples=["scheduler config validate --config scheduler.toml"])
@as_json
@click.pass_obj
def validate_settings(source: Source, *, as_json: bool) -> None:
    """Check the configuration without starting anything.

    Exit status 0: the configuration is right. 1: it has mistakes, and all of them are printed. With --json,
    one line per mistake.
    """
    from scheduler.settings.problems import SettingsError, SettingsUnreadable

    try:
        configuration = source.load()
    except SettingsUnreadable:
        raise
    except SettingsError as error:
        _print_problems(error, as_json=as_json)
        raise click.exceptions.Exit(ANSWER_IS_NO) from None
    if not as_json:
        print_line(_describe_success(configuration))


def _make_record(setting: "Assignment") -> Json:
    from scheduler.settings.registry import format_path

    path, value = format_path(setting.path), _mask_keys(setting.value)
    return {"setting": path, "value": value, "source": str(setting.origin)}


def _mask_keys(value: object) -> object:
    if isinstance(value, list):
        return [_mask_keys(item) for item in value]
    return _KEY.sub("(a key)", value) if isinstance(value, str) else value


def _make_source_cell(record: Json) -> Cell:
    source = str(record["source"])
    return Cell(source, "bright_black" if source == "default" else "cyan")


def _print_problems(error: "SettingsError", *, as_json: bool) -> None:
    for problem in error.problems:
        if as_json:
            print_json(asdict(problem))
        else:
            print_to_stderr("\n".join(to_printable(part) for part in str(problem).splitlines()))


def _describe_success(configuration: "Configuration") -> str:
    targets, overrides = len(configuration.settings.targets), len(configuration.settings.overrides)
    file = to_printable(str(configuration.file)) if configuration.file else "no file"
    return f"right: {file}; targets: {targets}, overrides: {overrides}"
