"""``scheduler config``: which settings are in force and where they came from, and whether they are right."""

import re
from typing import TYPE_CHECKING, Final

import click

from scheduler.cli.failures import ANSWER_IS_NO
from scheduler.cli.group import Group, Source, as_json
from scheduler.cli.output import Cell, Column, Json, complain, json_text, line, print_json, show
from scheduler.core.printable import escaped

if TYPE_CHECKING:
    from scheduler.settings import Configuration, Effective, SettingsError

_KEY: Final = re.compile(r"phx_[\w-]*")  # a personal API key, wherever it may have been put


@click.group("config", cls=Group, section="Setup")
def command() -> None:
    """Show the settings in force, or check them."""


@command.command("show", examples=["scheduler config show", "SCHEDULER_LOG__LEVEL=debug scheduler config show --json"])
@as_json
@click.pass_obj
def config_show(source: Source, *, as_json: bool) -> None:
    """Print every setting in force and where it came from.

    Keys are not settings and are never shown.
    """
    settings = [_record(one) for one in source.load().effective()]
    columns = (
        Column[Json]("setting", lambda one: str(one["setting"])),
        Column[Json]("value", lambda one: _value_text(one["value"]), rank=2),
        Column[Json]("from", _source_cell, rank=1),
    )
    show(settings, columns, (lambda one: one) if as_json else None)


@command.command("validate", examples=["scheduler config validate --config scheduler.toml"])
@as_json
@click.pass_context
def config_validate(context: click.Context, *, as_json: bool) -> None:
    """Check the configuration without starting anything.

    Exit status 0 when it is right, 1 when it is not, with all mistakes. With --json, a line for each mistake.
    """
    from scheduler.settings import SettingsError, SettingsUnreadable

    try:
        configuration = context.ensure_object(Source).load()
    except SettingsUnreadable:
        raise
    except SettingsError as error:
        _print_problems(error, as_json=as_json)
        context.exit(ANSWER_IS_NO)
    if not as_json:
        line(_praise(configuration))


def _record(one: "Effective") -> Json:
    from scheduler.settings.catalogue import dotted

    return {"setting": dotted(one.path), "value": _without_keys(one.value), "source": str(one.origin)}


def _without_keys(value: object) -> object:
    if isinstance(value, list):
        return [_without_keys(item) for item in value]
    return _KEY.sub("(a key)", value) if isinstance(value, str) else value


def _value_text(value: object) -> str:
    return json_text(value)


def _source_cell(one: Json) -> Cell:
    source = str(one["source"])
    return Cell(source, "bright_black" if source == "default" else "cyan")


def _print_problems(error: "SettingsError", *, as_json: bool) -> None:
    for problem in error.problems:
        if as_json:
            print_json({"where": problem.where, "what": problem.what, "remedy": problem.remedy})
        else:
            complain("\n".join(escaped(part) for part in str(problem).splitlines()))


def _praise(configuration: "Configuration") -> str:
    targets, overrides = len(configuration.settings.targets), len(configuration.settings.overrides)
    file = escaped(str(configuration.file)) if configuration.file else "no file"
    return f"right: {file}; targets: {targets}, overrides: {overrides}"
