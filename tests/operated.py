"""Processes as an operator starts them: a folder with a configuration, what they print, and waiting for what
they say.
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.launcher import Process, carry_out, start
from tests.ports import free_port

T = TypeVar("T")

PATIENCE = 60.0  # seconds; what takes longer is a failure
KEY = "phx_" + "k" * 43


def environment() -> dict[str, str]:
    """This process's own, without anything that could configure a scheduler."""
    foreign = ("SCHEDULER_", "POSTHOG_", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "SCHEDULER_CONFIG": "/dev/null"
    }


def until(condition: Callable[[], T], what: str, *, seconds: float = PATIENCE) -> T:
    """What ``condition`` gives as soon as that is true of it.

    A look that starts a process takes long, and is taken less often: what is waited for needs the processor.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        ended = time.monotonic()
        assert ended < deadline, f"waited {seconds} s for: {what}"
        time.sleep(min(max(0.01, 4 * (ended - began)), 0.5))


def page(port: int, path: str) -> tuple[int, Any]:
    """The status and the JSON of a daemon's page; (0, None) while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    except OSError:
        return 0, None


@dataclass
class Running:
    """A process, and what it has printed so far on standard output and on standard error."""

    process: Process
    output: Path
    errors: Path

    @property
    def out(self) -> str:
        return self.output.read_text()

    @property
    def text(self) -> str:
        return self.out + self.errors.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == name]

    def told(self, name: str, count: int = 1) -> dict[str, Any]:
        """The event of this name, once there are so many of it: the last of them."""

        def look() -> bool:
            assert self.process.poll() is None or len(self.events(name)) >= count, (
                f"it ended without {name}:\n{self.text}"
            )
            return len(self.events(name)) >= count

        until(look, f"{name}, the {count}th in:\n{self.text}")
        return self.events(name)[count - 1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()


@dataclass
class Place:
    """A folder with a configuration, in which an API that nobody serves yet is the target ``main``."""

    folder: Path
    api_port: int = field(default_factory=free_port)
    server_port: int = field(default_factory=free_port)
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write()
        (self.folder / "key").write_text(KEY + "\n")

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.toml"

    @property
    def ledger(self) -> Path:
        return self.folder / "scheduler.db"

    def write(self, more: str = "") -> None:
        """Write the configuration, with ``more`` at its end, where [api.runner] is open."""
        self.file.write_text(f"""
[[target]]
name = "main"
url = "http://127.0.0.1:{self.api_port}"
project_id = "1"
key_file = "{self.folder}/key"
idempotent = true
[schedule]
poll_interval = "200ms"
[ledger]
url = "sqlite:///{self.ledger}"
[server]
listen = "127.0.0.1:{self.server_port}"
[api]
listen = "127.0.0.1:{self.api_port}"
database = "sqlite:///{self.folder}/api.db"
[api.runner]
command = ["true"]
{more}
""")

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of the configuration."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command, carried out to its end."""
        return carry_out([*arguments, "--config", str(self.file)], environment(), PATIENCE)

    def start(self, *arguments: str, options: tuple[str, ...] | None = None) -> Running:
        """A process that does not end by itself, with the configuration as it is now."""
        output, errors = (self.folder / f"{len(self.running)}.{name}" for name in ("log", "err"))
        command = [*arguments, *(options or ("--config", str(self.file)))]
        with output.open("wb") as out, errors.open("wb") as err:
            process = start(command, environment(), out, err)
        self.running.append(Running(process, output, errors))
        return self.running[-1]

    def metrics(self) -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.server_port}/metrics", timeout=PATIENCE
        ) as answer:
            return str(answer.read().decode())

    def ready(self) -> tuple[int, Any]:
        return page(self.server_port, "/readyz")


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A folder whose processes are gone when the block ends."""
    made = Place(folder)
    try:
        yield made
    finally:
        for each in made.running:
            each.process.kill()
            each.process.wait()
