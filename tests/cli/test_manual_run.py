"""A refused or doubtful manual run: the message keeps the text of the API on one line."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from scheduler.cli import manual_run
from scheduler.core.errors import UpstreamError
from scheduler.core.response import AttemptResponse


def test_a_line_break_in_a_run_id_of_the_api_makes_no_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = "r\nerror: a forged line"
    monkeypatch.setattr(
        manual_run, "find_document", AsyncMock(return_value={"id": "a", "last_task_run_id": run_id})
    )
    answer = Mock(
        spec=AttemptResponse,
        status=HTTPStatus.OK,
        automation=SimpleNamespace(id="a", run_id=run_id),
        error=None,
        retry_after=None,
    )
    target: Any = SimpleNamespace(name="main")
    api: Any = SimpleNamespace(admit=AsyncMock(), run=AsyncMock(return_value=answer))
    started = manual_run._start_run(tmp_path / "none.db", target, "a", api)
    with pytest.raises(UpstreamError, match="there before") as refused:
        asyncio.run(started)
    assert "\n" not in str(refused.value)
