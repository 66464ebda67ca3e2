"""Options shared by commands, and options with an instant as value."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from scheduler.cli.completion_values import complete_automations, complete_targets, complete_zones
from scheduler.cli.group import AUTOMATION_FORMS
from scheduler.cli.output import print_to_stderr
from scheduler.cli.times import format_local_time, now
from scheduler.core.instants import to_text_seconds

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

name_automation: Final = click.argument("automation", shell_complete=complete_automations)
name_optional_automation: Final = click.argument(
    "automation", required=False, shell_complete=complete_automations
)


def _make_target_option(text: str, *names: str) -> Callable[[Decorated], Decorated]:
    return click.option("--target", *names, metavar="NAME", help=text, shell_complete=complete_targets)


choose_target: Final = _make_target_option("The target. Necessary if several are configured.", "target_name")
choose_target_of_automation: Final = _make_target_option(
    "The target of AUTOMATION. Necessary if several targets have one with this name."
)
filter_by_target: Final = _make_target_option("Only this target.")
filter_by_automation: Final = click.option(
    "--automation",
    metavar="NAME",
    help=f"Only this automation: {AUTOMATION_FORMS}, or a pattern such as 'nightly-*'.",
    shell_complete=complete_automations,
)
choose_zone_of_cron: Final = click.option(
    "--timezone", metavar="TZ", help="The zone of --cron. Default: UTC.", shell_complete=complete_zones
)

_UTC_KEY: Final = "scheduler.cli.options.utc"
_FORMS: Final = (
    "write a date (2026-11-28), a local time ('2026-11-28 09:00') or an instant with its offset "
    "(2026-11-28T09:00:00Z)"
)


class InstantType(click.ParamType[datetime]):
    """The type of an option with an instant as value. The value is converted to UTC.

    A time without an offset is read in the zone of this machine, or in UTC with ``--utc``. A line on standard
    error names the zone. With ``ago``, a duration is accepted too: ``24h`` is the present minus 24 hours.
    """

    name = "instant"

    def __init__(self, *, ago: bool = False) -> None:
        self._ago = ago

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the instant. Raises `click.BadParameter`."""
        text = str(value)
        if self._ago and (instant := _read_duration(text)):
            return instant
        try:
            instant = datetime.fromisoformat(text)
            if instant.tzinfo is not None:
                return instant.astimezone(UTC)
            local = instant.replace(tzinfo=UTC) if ctx and ctx.meta.get(_UTC_KEY) else instant.astimezone()
            instant = local.astimezone(UTC)
        except (ValueError, OverflowError, OSError):  # OSError: the zone arithmetic of the C library
            forms = f"{_FORMS}, or how long ago it was (24h)" if self._ago else _FORMS
            self.fail(f"{text!r} is no time; {forms}", param, ctx)
        zone = "in UTC" if local.tzinfo is UTC else "in the zone of this machine; --utc reads UTC"
        option = param.opts[0] if param else "the time"
        meaning = f"{format_local_time(local)} ({to_text_seconds(instant)})"
        print_to_stderr(f"{option}: {text} is {meaning}, read {zone}")
        return instant


def _read_duration(text: str) -> datetime | None:
    from scheduler.settings.problems import InvalidSetting
    from scheduler.settings.units import parse_duration

    try:
        return now() - parse_duration(text)
    except (InvalidSetting, OverflowError):
        return None


choose_begin: Final = click.option(
    "--from",
    "after",
    type=InstantType(),
    metavar="TIME",
    help="Show fire times after this time. Default: now.",
)


def make_time_option(name: str, text: str, *, required: bool = False) -> Callable[[Decorated], Decorated]:
    """Make an option with an instant as value, or with a duration up to now."""
    return click.option(name, type=InstantType(ago=True), metavar="TIME|AGO", required=required, help=text)


def make_number_option(name: str, default: int, most: int, text: str) -> Callable[[Decorated], Decorated]:
    """Make an option with a number from 1 to ``most`` as value."""
    return click.option(name, type=click.IntRange(1, most), default=default, show_default=True, help=text)


def _remember_utc(ctx: click.Context, param: click.Parameter, value: object) -> None:
    del param
    ctx.meta[_UTC_KEY] = value


add_utc_option: Final = click.option(
    "--utc",
    is_flag=True,
    is_eager=True,  # before the values read in this zone
    expose_value=False,
    callback=_remember_utc,
    help="Read times without an offset in UTC, not in the zone of this machine.",
)
"""The option ``--utc``, for a command with options of the type `InstantType`."""
