"""``scheduler keys``: the keys of the embedded API."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import SchedulerGroup, Source, as_json
from scheduler.cli.output import Cell, Column, Json, print_json, print_line, show
from scheduler.cli.times import now
from scheduler.core.command_line import format_command
from scheduler.core.instants import from_text, to_text_seconds

if TYPE_CHECKING:
    from scheduler.localapi.keys import ApiKey, ApiKeys

T = TypeVar("T")


@click.group("keys", cls=SchedulerGroup, section="Setup")
def command() -> None:
    """Create, list and revoke keys of the embedded API."""


@command.command(
    "create",
    examples=[
        "scheduler keys create --scopes task:read,task:write",
        "scheduler keys create --scopes task:read --project 2 --json",
    ],
)
@click.option(
    "--scopes",
    default="task:read,task:write",
    show_default=True,
    metavar="SCOPES",
    help="The scopes of the key, separated by commas.",
)
@click.option(
    "--project",
    type=click.IntRange(1, 2**63 - 1),
    default=1,
    show_default=True,
    metavar="ID",
    help="The project of the key.",
)
@as_json
@click.pass_obj
def create(source: Source, *, scopes: str, project: int, as_json: bool) -> None:
    """Create a key and print it. The key is never shown again.

    A running server accepts the key at once. With --json: {"id", "key", "scopes", "project_id"}.
    """
    names = [name.strip() for name in scopes.split(",") if name.strip()]
    new = _carry_out(source, lambda keys: keys.create(names, project), make=True)
    key, sorted_scopes = new.key, sorted(new.key.scopes)
    if as_json:
        print_json({"id": key.id, "key": new.text, "scopes": sorted_scopes, "project_id": key.project_id})
        return
    print_line(f"key      {new.text}")
    print_line(f"id       {key.id}")
    print_line(f"scopes   {', '.join(sorted_scopes)}")
    print_line(f"project  {key.project_id}")
    print_line("\nSave the key now, for example in a file of mode 0600: the key is not shown again.")


@command.command("list", examples=["scheduler keys list"])
@as_json
@click.pass_obj
def list_(source: Source, *, as_json: bool) -> None:
    """Print all keys, also revoked ones, without their secrets."""
    keys = _carry_out(source, lambda keys: keys.list_all())
    empty = f"no keys; make one with `{format_command('keys create')}`"
    show(keys, _COLUMNS, _make_json if as_json else None, empty=empty)


@command.command("revoke", examples=["scheduler keys revoke 9f86d081884c7d65"])
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke(source: Source, *, key_id: str) -> None:
    """Revoke a key: the next request with the key is refused.

    If the key is revoked already, the command says so. The exit status is 0.
    """

    async def revoke_key(keys: "ApiKeys") -> bool:
        """Return whether the key was in force. Raises `AnswerIsNo` when there is no such key."""
        if await keys.revoke(key_id):
            return True
        if all(key.id != key_id for key in await keys.list_all()):
            raise AnswerIsNo(f"there is no key {key_id!r}; see `{format_command('keys list')}`")
        return False

    was_in_force = _carry_out(source, revoke_key)
    print_line(f"{'revoked' if was_in_force else 'was revoked already'}: {key_id}")


def _carry_out(source: Source, use: Callable[["ApiKeys"], Awaitable[T]], *, make: bool = False) -> T:
    """Return the result of ``use``. ``make``: create a missing database."""
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import ApiKeys

    path = source.load().settings.api.database.path
    return carry_out(path, lambda database: use(ApiKeys(database, now)), make=make)


def _make_json(key: "ApiKey") -> Json:
    return {**asdict(key), "scopes": sorted(key.scopes)}


def _format_instant(instant: str | None) -> str:
    return "" if instant is None else to_text_seconds(from_text(instant))


_COLUMNS: tuple[Column["ApiKey"], ...] = (
    Column("id", lambda key: key.id),
    Column("project", lambda key: str(key.project_id)),
    Column("scopes", lambda key: ", ".join(sorted(key.scopes))),
    Column.make_detail("created (UTC)", lambda key: _format_instant(key.created_at)),
    Column.make_detail("last used (UTC)", lambda key: _format_instant(key.last_used_at), rank=3),
    Column("revoked (UTC)", lambda key: Cell(_format_instant(key.revoked_at), "red")),
)
