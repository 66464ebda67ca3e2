"""``scheduler keys``: the keys of the embedded API."""

from typing import TYPE_CHECKING

import click

from scheduler.cli.failures import AnswerIsNo
from scheduler.cli.group import SchedulerGroup, Source, as_json
from scheduler.cli.output import Cell, Column, Json, make_detail_column, print_json, print_line, show
from scheduler.cli.times import now
from scheduler.core.command_line import format_command
from scheduler.core.instants import from_text, to_text_seconds

if TYPE_CHECKING:
    from scheduler.database import Database
    from scheduler.localapi.keys import ApiKey, NewApiKey


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
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import ApiKeys

    names = [name.strip() for name in scopes.split(",") if name.strip()]
    path = source.load().settings.api.database.path
    key = carry_out(path, lambda database: ApiKeys(database, now).create(names, project), make=True)
    _print_new(key, as_json=as_json)


@command.command("list", examples=["scheduler keys list"])
@as_json
@click.pass_obj
def list_(source: Source, *, as_json: bool) -> None:
    """Print all keys, also revoked ones, without their secrets."""
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import ApiKeys

    keys = carry_out(
        source.load().settings.api.database.path, lambda database: ApiKeys(database, now).list_all()
    )
    show(
        keys,
        _COLUMNS,
        _make_json if as_json else None,
        empty=f"no keys; make one with `{format_command('keys create')}`",
    )


@command.command("revoke", examples=["scheduler keys revoke 9f86d081884c7d65"])
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke(source: Source, *, key_id: str) -> None:
    """Revoke a key: the next request with the key is refused.

    If the key is revoked already, the command says so. The exit status is 0.
    """
    from scheduler.cli.api_database import carry_out
    from scheduler.localapi.keys import ApiKeys

    async def revoke_key(database: "Database") -> bool:
        """Return whether the key was in force. Raises `AnswerIsNo` when there is no such key."""
        keys = ApiKeys(database, now)
        if await keys.revoke(key_id):
            return True
        if all(key.id != key_id for key in await keys.list_all()):
            raise AnswerIsNo(f"there is no key {key_id!r}; see `{format_command('keys list')}`")
        return False

    was_in_force = carry_out(source.load().settings.api.database.path, revoke_key)
    print_line(f"{'revoked' if was_in_force else 'was revoked already'}: {key_id}")


def _print_new(new: "NewApiKey", *, as_json: bool) -> None:
    key = new.key
    if as_json:
        print_json(
            {"id": key.id, "key": new.text, "scopes": sorted(key.scopes), "project_id": key.project_id}
        )
        return
    for title, text in (
        ("key", new.text),
        ("id", key.id),
        ("scopes", ", ".join(sorted(key.scopes))),
        ("project", str(key.project_id)),
    ):
        print_line(f"{title:<9}{text}")
    print_line("\nSave the key now, for example in a file of mode 0600: the key is not shown again.")


def _make_json(key: "ApiKey") -> Json:
    return {
        "id": key.id,
        "scopes": sorted(key.scopes),
        "project_id": key.project_id,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }


def _format_instant(instant: str | None) -> str:
    return "" if instant is None else to_text_seconds(from_text(instant))


_COLUMNS: tuple[Column["ApiKey"], ...] = (
    Column("id", lambda key: key.id),
    Column("project", lambda key: str(key.project_id)),
    Column("scopes", lambda key: ", ".join(sorted(key.scopes))),
    make_detail_column("created (UTC)", lambda key: _format_instant(key.created_at)),
    make_detail_column("last used (UTC)", lambda key: _format_instant(key.last_used_at), rank=3),
    Column("revoked (UTC)", lambda key: Cell(_format_instant(key.revoked_at), "red")),
)
