"""Keys: shown once, kept as hashes, revoked at once, and found in nothing that is written."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError, Unreachable
from scheduler.localapi.keys import ApiKey, Scope
from tests.localapi.support import COLLECTION, serving


def test_a_key_is_random_and_its_text_is_nowhere_but_in_the_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            new = await served.api.keys.create([Scope.READ], 3)
            assert re.fullmatch(r"phx_[0-9a-f]{16}[\w-]{43}", new.text)
            assert new.text != (await served.api.keys.create([Scope.READ])).text
            assert new.text not in repr(new)
            assert await served.api.keys.check(new.text) == new.key
            await served.client.get(COLLECTION, headers={"Authorization": f"Bearer {new.text}"})
            await served.client.get(COLLECTION, headers={"Authorization": f"Bearer {new.text}x"})
            secret = new.text[20:].encode()
            assert not written(tmp_path, secret)
            printed = capfd.readouterr()
            assert secret.decode() not in printed.out + printed.err

    asyncio.run(story())


def written(folder: Path, secret: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_revoked_key_is_refused_from_the_next_request_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            new = await served.api.keys.create([Scope.READ])
            header = {"Authorization": f"Bearer {new.text}"}
            assert (await served.client.get(COLLECTION, headers=header)).status_code == 200
            assert await served.api.keys.revoke(new.key.id)
            assert (await served.client.get(COLLECTION, headers=header)).status_code == 401
            assert not await served.api.keys.revoke(new.key.id)
            assert not await served.api.keys.revoke("none")
            listed = {key.id: key for key in await served.api.keys.list_all()}
            assert listed[new.key.id].revoked_at is not None

    asyncio.run(story())


def test_only_the_whole_key_is_the_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            text = (await served.api.keys.create([Scope.READ])).text
            for wrong in (text[:-1], text + "x", text[:20], "", "phx_", text.upper(), text[4:]):
                assert await served.api.keys.check(wrong) is None

    asyncio.run(story())


def test_a_key_knows_when_it_was_last_used_to_the_minute(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            new = await served.api.keys.create([Scope.READ])

            async def last_used() -> str | None:
                return next(
                    key.last_used_at for key in await served.api.keys.list_all() if key.id == new.key.id
                )

            assert await last_used() is None
            assert await served.api.keys.check(new.text[:-1] + "x") is None
            assert await last_used() is None, "a wrong key is no use"
            await served.api.keys.check(new.text)
            first = await last_used()
            assert first is not None
            await served.api.keys.check(new.text)
            assert await last_used() == first
            served.clock.instant += timedelta(minutes=1)
            await served.api.keys.check(new.text)
            later = await last_used()
            assert later is not None
            assert later > first

    asyncio.run(story())


def test_a_key_is_good_though_its_use_cannot_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            new = await served.api.keys.create([Scope.READ])

            async def full(_: object) -> None:
                raise Unreachable("the disk is full")

            monkeypatch.setattr(served.api.keys._database, "write", full)
            assert await served.api.keys.check(new.text) is not None

    asyncio.run(story())


@pytest.mark.parametrize("scopes", [[], ["task:delete"], ["task:read", "TASK:WRITE"], ["*"]])
def test_a_key_needs_scopes_that_there_are(tmp_path: Path, scopes: list[str]) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            before = await served.api.keys.list_all()
            with pytest.raises(ConfigurationError, match="task:read, task:write"):
                await served.api.keys.create(scopes)
            assert await served.api.keys.list_all() == before

    asyncio.run(story())


def test_writing_includes_reading_and_reading_does_not_include_writing() -> None:
    reader = ApiKey("r", 1, frozenset({Scope.READ}), "2026-11-23T19:20:00.000000Z")
    writer = ApiKey("w", 1, frozenset({Scope.WRITE}), "2026-11-23T19:20:00.000000Z")
    assert [key.may(scope) for key in (reader, writer) for scope in (Scope.READ, Scope.WRITE)] == [
        True,
        False,
        True,
        True,
    ]
