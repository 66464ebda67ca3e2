"""The script in docs/monitor.md that tells of failed runs, with stand-ins for `scheduler` and `mail`."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ops.support import LINE

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitor.md"
FAILED = {**LINE, "task_run_id": "run-1", "run_status": "failed", "error": "no such model"}
HOSTILE = {**FAILED, "task_run_id": "run-2", "name": 'a"task_run_id": "run-9\nx', "run_status": "lost"}
NEXT = {**FAILED, "task_run_id": "run-3"}


class Script:
    """The script as it stands in the document, with what `scheduler history` says of each status."""

    def __init__(self, folder: Path) -> None:
        (self._text,) = re.findall(
            r"```sh\n(#!/bin/sh\n# Sends a mail.*?)```", DOCUMENT.read_text(), re.DOTALL
        )
        self._folder = folder
        self._stand_in(
            "mail",
            f'test ! -e {folder}/broken && printf "%s\\n" "$*" >>{folder}/mails && cat >>{folder}/mails',
        )
        self._stand_in(
            "scheduler", f'echo "$*" >>{folder}/asked; test ! -e {folder}/away || exit 3; cat {folder}/$3'
        )
        self.set()

    def _stand_in(self, name: str, script: str) -> None:
        (self._folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._folder / name).chmod(0o755)

    def set(self, *lines: Mapping[str, object]) -> None:
        for status in ("failed", "lost"):
            (self._folder / status).write_text(
                "".join(f"{json.dumps(line)}\n" for line in lines if line["run_status"] == status)
            )

    def run(self) -> tuple[int, str]:
        """The exit status, and the mails that were sent."""
        environment = {"PATH": f"{self._folder}:{os.environ['PATH']}", "STATE_DIRECTORY": str(self._folder)}
        done = subprocess.run(["sh", "-c", self._text], check=False, env=environment, capture_output=True)
        mails = self._folder / "mails"
        text = mails.read_text() if mails.exists() else ""
        mails.unlink(missing_ok=True)
        return done.returncode, text


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_each_failed_run_is_told_once(script: Script, tmp_path: Path) -> None:
    assert script.run() == (0, "")
    script.set(FAILED, HOSTILE)
    status, mail = script.run()
    assert status == 0
    assert mail.splitlines()[0].startswith("-s Failed runs on ")
    assert mail.splitlines()[1:] == [json.dumps(FAILED), json.dumps(HOSTILE)]
    assert script.run() == (0, "")
    script.set(FAILED, HOSTILE, NEXT)
    status, mail = script.run()
    assert mail.splitlines()[1:] == [json.dumps(NEXT)]
    script.set(NEXT)
    assert script.run() == (0, "")
    assert (tmp_path / "told").read_text() == "run-3\n", "what is too old to be found is forgotten"
    assert set((tmp_path / "asked").read_text().splitlines()) == {
        f"history --run-status {status} --since 2d --limit 1000 --json" for status in ("failed", "lost")
    }


def test_a_run_that_could_not_be_told_is_told_with_the_next_look(script: Script, tmp_path: Path) -> None:
    script.set(FAILED)
    (tmp_path / "broken").touch()
    assert script.run()[0] != 0
    (tmp_path / "broken").unlink()
    assert json.dumps(FAILED) in script.run()[1]


def test_a_ledger_that_cannot_be_read_fails_the_look_and_forgets_nothing(
    script: Script, tmp_path: Path
) -> None:
    script.set(FAILED)
    script.run()
    (tmp_path / "away").touch()
    assert script.run() == (3, "")
    (tmp_path / "away").unlink()
    assert script.run() == (0, "")
