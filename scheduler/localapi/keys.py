"""API keys: made once, shown once, kept as a hash.

A key is ``phx_``, the public id, and 256 random bits. The id finds the row; the whole key is compared by its
SHA-256 in constant time: neither the file nor the time of an answer reveals a key. A slow hash (argon2,
scrypt) is for secrets that can be guessed; nobody guesses 256 random bits, and each request would pay for the
slow hash.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from scheduler.core.errors import ConfigurationError, Unreachable
from scheduler.core.instants import to_text
from scheduler.database import Database

_PREFIX: Final = "phx_"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_ID_END: Final = len(_PREFIX) + 2 * _ID_BYTES
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_USE_INTERVAL: Final = timedelta(minutes=1)


class Scope(StrEnum):
    """The rights of a key. Writing includes reading."""

    READ = "task:read"
    WRITE = "task:write"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without the secret."""

    id: str
    project_id: int
    scopes: frozenset[Scope]
    created_at: str
    last_used_at: str | None = None
    revoked_at: str | None = None

    def may(self, scope: Scope) -> bool:
        """Return whether this key has the right ``scope``."""
        return scope in self.scopes or Scope.WRITE in self.scopes


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A new key, with the key's text. The text exists only here."""

    key: ApiKey
    text: str = field(repr=False)


class ApiKeys:
    """The keys of a database. ``now`` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        # when the last use of each key was written, or a write was tried
        self._used: dict[str, datetime] = {}

    async def create(self, scopes: Iterable[str], project_id: int = 1) -> NewApiKey:
        """Make a key. Raises `ConfigurationError` without a scope, or for an unknown scope."""
        key_id = secrets.token_hex(_ID_BYTES)
        text = _PREFIX + key_id + secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(key_id, project_id, parse_scopes(scopes), to_text(self._now()))
        row = key.id, _digest(text), project_id, " ".join(sorted(key.scopes)), key.created_at
        statement = "INSERT INTO keys (id, sha256, project_id, scopes, created_at) VALUES (?, ?, ?, ?, ?)"
        await self._database.change(statement, *row)
        return NewApiKey(key, text)

    async def list_all(self) -> list[ApiKey]:
        """List all keys, the oldest first, with the revoked keys."""
        rows = await self._database.fetch_all("SELECT * FROM keys ORDER BY created_at, id")
        return list(map(_to_key, rows))

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key, from the next request on. Return False for an unknown or revoked key."""
        statement = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
        return await self._database.change(statement, to_text(self._now()), key_id) == 1

    async def check(self, text: str) -> ApiKey | None:
        """Return the key for this text, None for an unknown or revoked key."""
        key_id = text[len(_PREFIX) : _ID_END]
        rows = await self._database.fetch_all(
            "SELECT * FROM keys WHERE id = ? AND revoked_at IS NULL", key_id
        )
        if not rows or not hmac.compare_digest(rows[0]["sha256"], _digest(text)):
            return None
        await self._note_use(key_id)
        return _to_key(rows[0])

    async def _note_use(self, key_id: str) -> None:
        """Record the use of a key, at most once a minute; a failed write does not fail the request."""
        now = self._now()
        if abs(now - self._used.get(key_id, _NEVER)) < _USE_INTERVAL:
            return
        self._used[key_id] = now
        with suppress(Unreachable):
            await self._database.change("UPDATE keys SET last_used_at = ? WHERE id = ?", to_text(now), key_id)


def parse_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes with these names. Raises `ConfigurationError` naming the unknown scopes."""
    names = frozenset(scopes)
    unknown = sorted(names - set(Scope))
    if unknown or not names:
        wrong = (
            f"unknown scope {', '.join(map(repr, unknown))}" if unknown else "a key needs at least one scope"
        )
        raise ConfigurationError(f"{wrong}; the scopes are {', '.join(Scope)}")
    return frozenset(map(Scope, names))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _to_key(row: sqlite3.Row) -> ApiKey:
    scopes = frozenset(map(Scope, row["scopes"].split()))
    return ApiKey(
        row["id"], row["project_id"], scopes, row["created_at"], row["last_used_at"], row["revoked_at"]
    )
