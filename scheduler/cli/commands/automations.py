"""``scheduler automations``: the six calls of a target's API."""

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
from click import Option

from scheduler.cli.completion_values import complete_zones
from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import SchedulerGroup, Source, as_json
from scheduler.cli.options import choose_target, name_automation
from scheduler.cli.output import Cell, Column, print_json, print_line, show
from scheduler.cli.record_columns import make_run_cell
from scheduler.cli.times import format_in_zone, format_zone_and_utc, now
from scheduler.core.command_line import format_command
from scheduler.core.instants import from_text
from scheduler.core.terminal_text import to_printable

if TYPE_CHECKING:
    from scheduler.upstream.client import ApiClient, Document
    from scheduler.upstream.fields import AutomationEdit

T = TypeVar("T")


def _make_field_options(*, new: bool) -> list[click.Parameter]:
    """Make the options for an automation's fields."""
    zone_help = "The zone of --cron. Default of the API: UTC." if new else "The zone of --cron."
    return [
        Option(["--name"], required=new, help="The name of the automation."),
        Option(["--prompt"], help="The prompt for the agent; - reads it from standard input."),
        Option(
            ["--prompt-file"], type=click.File("rb"), metavar="FILE", help="Read the prompt from this file."
        ),
        Option(["--repository"], required=new, metavar="ORG/REPO", help="The repository for the agent."),
        Option(
            ["--cron", "cron_expression"],
            required=new,
            metavar="EXPR",
            help="The cron expression, five fields.",
        ),
        Option(["--timezone"], metavar="TZ", help=zone_help, shell_complete=complete_zones),
        Option(["--enabled/--disabled", "enabled"], default=None, help="Switch the schedule on or off."),
        Option(["--template-id"], metavar="TEXT", help="The template of the automation."),
        Option(["--github-integration"], type=int, metavar="ID", help="The GitHub integration to use."),
    ]


@click.group("automations", cls=SchedulerGroup, section="Automations")
def command() -> None:
    """List, show, create, change, delete and run automations."""


@command.command(
    "list", examples=["scheduler automations list", "scheduler automations list --json | jq -r .name"]
)
@choose_target
@as_json
@click.pass_obj
def list_(source: Source, *, target_name: str | None, as_json: bool) -> None:
    """Print all automations."""
    documents = _carry_out(source, target_name, lambda api: api.list_documents())
    empty = f"no automations; make one with `{format_command('automations create', target=target_name)}`"
    show(documents, _COLUMNS, dict if as_json else None, empty=empty)


@command.command("get", examples=["scheduler automations get nightly-report"])
@name_automation
@choose_target
@as_json
@click.pass_obj
def get(source: Source, *, automation: str, target_name: str | None, as_json: bool) -> None:
    """Print AUTOMATION with all its fields."""
    _print(_find(source, target_name, automation), as_json=as_json)


_CREATE = (
    "scheduler automations create --name nightly --repository acme/app"
    " --cron '0 2 * * *' --timezone Europe/Berlin --prompt 'Fix a bug'"
)


@command.command("create", examples=[_CREATE], params=_make_field_options(new=True))
@choose_target
@as_json
@click.pass_obj
def create(source: Source, /, *, target_name: str | None, as_json: bool, **fields: Any) -> None:
    """Create an automation, and print its first fire time."""
    written = _collect_fields(source, **fields)
    if "prompt" not in written:
        raise click.UsageError("an automation needs a prompt; give --prompt or --prompt-file")
    document = _change(source, target_name, lambda api: api.create(written))  # type: ignore[arg-type]  # the options are required
    _print_change(source, target_name, document, "first fire", as_json=as_json)


@command.command(
    "update",
    examples=[
        "scheduler automations update nightly --cron '30 3 * * *'",
        "scheduler automations update nightly --disabled",
    ],
    params=_make_field_options(new=False),
)
@name_automation
@choose_target
@as_json
@click.pass_obj
def update(
    source: Source, /, *, automation: str, target_name: str | None, as_json: bool, **fields: Any
) -> None:
    """Change the given fields of AUTOMATION."""
    edit = _collect_fields(source, **fields)
    if not edit:
        raise click.UsageError("there is nothing to change; give at least one field, such as --cron")
    document = _change(source, target_name, lambda api: _update(api, automation, edit))
    _print_change(source, target_name, document, "next fire", as_json=as_json)


@command.command(
    "delete", examples=["scheduler automations delete nightly", "scheduler automations delete nightly --yes"]
)
@name_automation
@click.option("--yes", is_flag=True, help="Do not ask.")
@choose_target
@click.pass_obj
def delete(source: Source, *, automation: str, yes: bool, target_name: str | None) -> None:
    """Delete AUTOMATION. On a terminal, ask first."""
    document = _find(source, target_name, automation)
    automation_id = str(document["id"])
    named = f"{to_printable(str(document.get('name')))} ({automation_id})"
    is_asked = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if is_asked and not click.confirm(f"delete {named}?", err=True):
        raise AnswerIsNo("nothing was deleted")
    _change(source, target_name, lambda api: api.delete(automation_id))
    print_line(f"deleted: {named}")


@command.command("run", examples=["scheduler automations run nightly"])
@name_automation
@choose_target
@as_json
@click.pass_obj
def run(source: Source, *, automation: str, target_name: str | None, as_json: bool) -> None:
    """Start a run of AUTOMATION now. The run belongs to no occurrence, and costs as much as any other run."""
    from scheduler.cli.manual_run import start_run
    from scheduler.cli.next_steps import describe_follow

    settings = source.load().settings
    document = start_run(settings, settings.choose_target(target_name), automation)
    _print(document, as_json=as_json)
    if not as_json:
        follow = to_printable(describe_follow(document, settings, settings.choose_target(target_name)))
        print_line(f"{'follow it':<{max(map(len, document))}}  {follow}", is_whole=True)


def _carry_out(source: Source, target_name: str | None, use: "Callable[[ApiClient], Awaitable[T]]") -> T:
    from scheduler.cli.target_api import carry_out

    return carry_out(source.load().settings.choose_target(target_name), use)


def _find(source: Source, target_name: str | None, automation: str) -> "Document":
    from scheduler.cli.target_api import find_document

    return _carry_out(source, target_name, lambda api: find_document(api, automation))


def _change(source: Source, target_name: str | None, use: "Callable[[ApiClient], Awaitable[T]]") -> T:
    """Carry out a change. Wake the daemon on this machine, so that the daemon polls at once."""
    from scheduler.cli.ledger_file import wake_daemon_after

    with wake_daemon_after(source.load().settings.ledger.url.path):
        return _carry_out(source, target_name, use)


async def _update(api: "ApiClient", automation: str, edit: "AutomationEdit") -> "Document":
    from scheduler.cli.target_api import find_document

    return await api.update(str((await find_document(api, automation))["id"]), edit)


def _print_change(
    source: Source, target_name: str | None, document: "Document", title: str, *, as_json: bool
) -> None:
    """Print a changed automation, and for people the next fire under the title."""
    from scheduler.cli.next_steps import describe_first_fire

    if as_json:
        print_json(document)
        return
    settings = source.load().settings
    fire = describe_first_fire(document, settings, settings.choose_target(target_name), now())
    _print({**document, title: fire}, as_json=False)


def _collect_fields(
    source: Source, *, prompt: str | None, prompt_file: IO[bytes] | None, **fields: Any
) -> "AutomationEdit":
    """Return the given fields. Raises `InvalidSchedule`, before any request to the API."""
    from scheduler.cli.next_steps import check_schedule

    if prompt is not None and prompt_file is not None:
        raise click.UsageError("--prompt and --prompt-file exclude each other; give one of them")
    given: AutomationEdit = {name: value for name, value in fields.items() if value is not None}  # type: ignore[assignment]  # click named them
    check_schedule(given, source.load().settings)
    text = _read_prompt(prompt, prompt_file)
    return given if text is None else {**given, "prompt": text}


def _read_prompt(prompt: str | None, prompt_file: IO[bytes] | None) -> str | None:
    source = sys.stdin.buffer if prompt == "-" else prompt_file
    if source is None:
        return prompt
    try:
        return source.read().decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is {error.object[error.start]:#04x}"
        raise click.UsageError(f"the prompt in {source.name} is not UTF-8 text: {byte}") from None


def _print(document: "Document", *, as_json: bool) -> None:
    """Print an automation."""
    if as_json:
        print_json(document)
        return
    width = max(map(len, document))
    for name in document:
        print_line(f"{to_printable(name):<{width}}  {to_printable(_format_value(name, document))}")


def _format_value(name: str, document: "Document") -> str:
    """Return a field for people; an instant in the automation's zone."""
    text = _get_text(name, document)
    return _format_instant(text, document, format_zone_and_utc) if name.endswith("_at") else text


def _format_instant(text: str, document: "Document", format_: Callable[[datetime, str | None], str]) -> str:
    """Format an instant in the automation's zone. An API may show anything."""
    try:
        return format_(from_text(text), _get_text("timezone", document))
    except (ValueError, OverflowError):
        return text


def _get_text(name: str, document: "Document") -> str:
    value = document.get(name)
    return "" if value is None else str(value)


def _format_last_run(document: "Document") -> str:
    """Return the time of the last run in the automation's zone, which has a column of its own."""
    return _format_instant(_get_text("last_run_at", document), document, format_in_zone)


def _make_enabled_cell(document: "Document") -> str | Cell:
    enabled = document.get("enabled")
    return "yes" if enabled else "" if enabled is None else Cell("no", "yellow")  # None: it could not be read


_COLUMNS: "tuple[Column[Document], ...]" = (
    Column.make_id("id", partial(_get_text, "id")),
    Column.make_name("name", partial(_get_text, "name")),
    Column("schedule", partial(_get_text, "cron_expression"), rank=4),
    Column("zone", partial(_get_text, "timezone"), rank=4),
    Column("enabled", _make_enabled_cell),
    Column.make_detail("last run", _format_last_run),
    Column("status", lambda document: make_run_cell(_get_text("last_run_status", document))),
)
