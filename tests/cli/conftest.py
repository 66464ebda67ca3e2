"""Commands carried out in this process, away from whatever this machine has configured."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scheduler.cli import output, run

DAEMON = 54_321  # a user without a name, as systemd's dynamic ones are
root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can act as somebody else; run the tests as root"
)


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


Scheduler = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("SCHEDULER_") or name in {"NO_COLOR", "POSTHOG_PERSONAL_API_KEY"}:
            monkeypatch.delenv(name)
    empty = tmp_path / "empty.toml"
    empty.touch()
    monkeypatch.setenv("SCHEDULER_CONFIG", str(empty))


@pytest.fixture
def scheduler(capsys: pytest.CaptureFixture[str]) -> Scheduler:
    """Carry out one command and take its output."""

    def carry_out(*arguments: str) -> Done:
        status = run(arguments)
        taken = capsys.readouterr()
        return Done(status, taken.out, taken.err)

    return carry_out


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as on a terminal that shows colours."""
    monkeypatch.setattr(output, "_has_colours", lambda _: True)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def complete(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return the values that a shell proposes for the last word of a command line."""

    def ask(words: str) -> list[str]:
        monkeypatch.setenv("_SCHEDULER_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        done = scheduler()
        assert done.err == ""
        return [line.removeprefix("plain,") for line in done.out.splitlines() if line]

    return ask
