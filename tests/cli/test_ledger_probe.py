"""The process that looks at a ledger for the doctor."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.cli.ledger_probe import run_ledger_probe


@pytest.mark.filterwarnings("error")
def test_a_look_that_takes_too_long_ends_with_its_process_and_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def look_briefly() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(run_ledger_probe(tmp_path / "none.db", datetime.now(UTC)), 0.01)

    for _ in range(2):
        asyncio.run(look_briefly())
    assert capfd.readouterr().err == ""
