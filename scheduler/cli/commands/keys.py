"""``scheduler keys``: the keys of the embedded API."""

from typing import TYPE_CHECKING

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import Group, Source, as_json
from scheduler.cli.output import Cell, Column, Json, detail_column, line, print_json, show
from scheduler.cli.times import now
from scheduler.core.command_line import command_line
from scheduler.core.instants import from_text, to_text_seconds

if TYPE_CHECKING:
    from scheduler.database import Database
    from scheduler.localapi.keys import Key, NewKey


@click.group("keys", cls=Group, section="Setup")
def command() -> None:
    """Make, list and revoke keys of the embedded API."""


@command.command(
    "create",
    examples=["scheduler keys create --scopes task:read,task:write", "scheduler keys create --scopes task:read --project 2 --json"],
)
@click.option(
    "--scopes", default="task:read,task:write", show_default=True, metavar="SCOPES", help="What the key may do, separated by commas."
)
@click.option(
    "--project", type=click.IntRange(1, 2**63 - 1), default=1, show_default=True, metavar="ID", help="The project that it is for."
)
@as_json
@click.pass_obj
def create(source: Source, *, scopes: str, project: int, as_json: bool) -> None:
    """Make a key and print it, the only time that it can be seen.

    A running server takes it at once. With --json: {"id", "key", "scopes", "project_id"}.
    """
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import Keys

    names = [name.strip() for name in scopes.split(",") if name.strip()]
    path = source.load().settings.api.database.path
    made = carry_out(path, lambda database: Keys(database, now).create(names, project), make=True)
    _print_new(made, as_json=as_json)


@command.command("list", examples=["scheduler keys list"])
@as_json
@click.pass_obj
def list_(source: Source, *, as_json: bool) -> None:
    """Print all keys, revoked ones too, without what makes them keys."""
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import Keys

    keys = carry_out(source.load().settings.api.database.path, lambda database: Keys(database, now).listed())
    show(keys, _COLUMNS, _json if as_json else None, empty=f"no keys; make one with `{command_line('keys create')}`")


@command.command("revoke", examples=["scheduler keys revoke 9f86d081884c7d65"])
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke(source: Source, *, key_id: str) -> None:
    """End a key: the next request with it is refused. Of a key that is revoked already, says so; the exit status is 0."""
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import Keys

    async def revoke_key(database: "Database") -> bool:
        """Return whether the key was in force. Raises `AnswerIsNo` when there is no such key."""
        keys = Keys(database, now)
        if await keys.revoke(key_id):
            return True
        if all(key.id != key_id for key in await keys.listed()):
            raise AnswerIsNo(f"there is no key {key_id!r}; see `{command_line('keys list')}`")
        return False

    was_in_force = carry_out(source.load().settings.api.database.path, revoke_key)
    line(f"{'revoked' if was_in_force else 'was revoked already'}: {key_id}")


def _print_new(made: "NewKey", *, as_json: bool) -> None:
    key = made.key
    if as_json:
        print_json({"id": key.id, "key": made.text, "scopes": sorted(key.scopes), "project_id": key.project_id})
        return
    for title, text in (("key", made.text), ("id", key.id), ("scopes", ", ".join(sorted(key.scopes))), ("project", str(key.project_id))):
        line(f"{title:<9}{text}")
    line("\nKeep the key now, for example in a file of mode 0600: it is not shown again.")


def _json(key: "Key") -> Json:
    return {
        "id": key.id,
        "scopes": sorted(key.scopes),
        "project_id": key.project_id,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }


def _second(instant: str | None) -> str:
    return "" if instant is None else to_text_seconds(from_text(instant))


_COLUMNS: tuple[Column["Key"], ...] = (
    Column("id", lambda key: key.id),
    Column("project", lambda key: str(key.project_id)),
    Column("scopes", lambda key: ", ".join(sorted(key.scopes))),
    detail_column("created (UTC)", lambda key: _second(key.created_at)),
    detail_column("last used (UTC)", lambda key: _second(key.last_used_at), rank=3),
    Column("revoked (UTC)", lambda key: Cell(_second(key.revoked_at), "red")),
)
